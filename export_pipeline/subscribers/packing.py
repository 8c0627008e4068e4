"""Cut a batch into requests that a destination accepts."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.parsing import Unfit

MAX_ID_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Packed(Batch):
    """One request: some events of a batch, each encoded as the destination's items.

    Attributes:
        encoded: the items of each event, at least one.
    """

    encoded: tuple[Sequence[bytes], ...] = field(repr=False)

    @property
    def items(self) -> list[bytes]:
        """Every item, in order."""
        return [item for items in self.encoded for item in items]

    def by_event(self, reasons: Mapping[int, str]) -> dict[int, str]:
        """Convert *reasons* by number of item to reasons by number of event; the first one if an event has several.

        Raises:
            Blocked: the destination named an item that is not in the request.
        """
        ends = list(accumulate(len(items) for items in self.encoded))
        found: dict[int, str] = {}
        event = 0
        for item in sorted(reasons):
            if not 0 <= item < ends[-1]:
                raise Blocked(f"the destination named item {item} of a request with {ends[-1]} items: {reasons[item]}")
            while ends[event] <= item:
                event += 1
            found.setdefault(event, reasons[item])
        return found

    def pick(self, positions: Sequence[int], part_id: str) -> "Packed":
        """The request for the events at *positions* only."""
        lines = self.lines()
        return replace(
            self,
            id=part_id,
            data=b"".join(lines[position] + b"\n" for position in positions),
            events=len(positions),
            encoded=tuple(self.encoded[position] for position in positions),
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """A batch cut into requests.

    Attributes:
        parts: the positions of events in the batch, and the request for them, in order.
        refused: position → why the event does not fit into a request.
        filtered: positions of events for which nothing is sent.
    """

    parts: list[tuple[Sequence[int], Batch]]
    refused: Mapping[int, str] = field(default_factory=dict)
    filtered: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request; all sizes are in bytes, before compression.

    Attributes:
        max_events: maximum number of items in a request.
        max_bytes: maximum size of a request, with *overhead_bytes* around the items and *separator_bytes* between two.
        max_event_bytes: maximum size of one item.
    """

    max_events: int
    max_bytes: int
    max_event_bytes: int
    overhead_bytes: int = 0
    separator_bytes: int = 1


def pack(batch: Batch, encode: Callable[[bytes], Sequence[bytes]], limits: Limits) -> Cut:
    """Cut *batch* into as few requests as its order allows; the items of one event stay together.

    Args:
        batch: what to cut.
        encode: event → its items, none if nothing is sent for it; raises Unfit.
        limits: the limits of one request.
    """
    lines = batch.lines()
    packer = _Packer(batch, lines, limits)
    for position, line in enumerate(lines):
        try:
            items = encode(line)
        except Unfit as reason:
            packer.refused[position] = str(reason)
            continue
        except RecursionError:
            packer.refused[position] = "nested too deeply for this destination"
            continue
        packer.add(position, items)
    packer.finish()
    return Cut(packer.parts, packer.refused, packer.filtered)


class _Packer:
    def __init__(self, batch: Batch, lines: Sequence[bytes], limits: Limits) -> None:
        self.batch = batch
        self.lines = lines
        self.limits = limits
        self.passed_lines = self.passed_bytes = 0
        self.parts: list[tuple[Sequence[int], Batch]] = []
        self.refused: dict[int, str] = {}
        self.filtered: list[int] = []
        self._begin()

    def add(self, position: int, items: Sequence[bytes]) -> None:
        """Add an event to the current request, or to a new one."""
        if not items:
            self.filtered.append(position)
            return
        limits = self.limits
        if len(items) == 1:
            largest = len(items[0])
            size = largest + limits.separator_bytes
        else:
            largest = max(map(len, items))
            size = sum(map(len, items)) + len(items) * limits.separator_bytes
        if largest > limits.max_event_bytes:
            self.refused[position] = f"{largest} bytes; allowed: {limits.max_event_bytes} per event"
            return
        if size + limits.overhead_bytes > limits.max_bytes or len(items) > limits.max_events:
            self.refused[position] = (
                f"{len(items)} items of {size} bytes; allowed: {limits.max_events} items and {limits.max_bytes} bytes "
                "per request"
            )
            return
        if self.count + len(items) > limits.max_events or self.size + size > limits.max_bytes:
            self.finish()
        self.positions.append(position)
        self.encoded.append(items)
        self.count += len(items)
        self.size += size

    def finish(self) -> None:
        """Finish the current request."""
        if self.positions:
            is_whole = len(self.positions) == self.batch.events
            packed = Packed(
                id=self.batch.id if is_whole else part_id(self.batch.id, self.positions),
                data=self.batch.data if is_whole else self._data(),
                events=len(self.positions),
                files=self.batch.files,
                date=self.batch.date,
                encoded=tuple(self.encoded),
            )
            self.parts.append((self.positions, packed))
        self._begin()

    def _data(self) -> bytes:
        """The lines of the current request."""
        first, after = self.positions[0], self.positions[-1] + 1
        lines = self.lines[first:after]
        if after - first > len(self.positions):
            return b"\n".join([*map(self.lines.__getitem__, self.positions), b""])
        # One slice is much faster than putting the lines together again.
        start = self.passed_bytes + _size_bytes(self.lines[self.passed_lines : first])
        self.passed_lines, self.passed_bytes = after, start + _size_bytes(lines)
        return self.batch.data[start : self.passed_bytes]

    def _begin(self) -> None:
        self.positions: list[int] = []
        self.encoded: list[Sequence[bytes]] = []
        self.count = 0
        self.size = self.limits.overhead_bytes


def _size_bytes(lines: Sequence[bytes]) -> int:
    return sum(map(len, lines)) + len(lines)


def part_id(batch_id: str, indices: Sequence[int]) -> str:
    """The id of the part of a batch with the events at *indices* (ascending): always the same for the same part.

    ``<id>-r<first>-<after last>`` for a range, else ``<id>-w<hash of the indices>``; at most 64 characters.
    """
    first, last = indices[0], indices[-1]
    if last - first + 1 == len(indices):
        suffix = f"-r{first}-{last + 1}"
    else:
        suffix = "-w" + hashlib.sha256(",".join(map(str, indices)).encode()).hexdigest()[:16]
    if len(batch_id) + len(suffix) <= MAX_ID_CHARACTERS:
        return batch_id + suffix
    return hashlib.sha256(batch_id.encode()).hexdigest()[:32] + suffix
