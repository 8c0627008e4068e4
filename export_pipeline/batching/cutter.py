"""Where one batch ends and the next begins."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, takewhile

from export_pipeline.errors import AccountingError


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may become. They are part of a manifest's id: other limits cut other batches.

    Attributes:
        max_events: most events in a batch.
        max_bytes: most bytes in a batch, line feeds included. An event longer than that is a batch of its own.
    """

    max_events: int = 10_000
    max_bytes: int = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """One batch.

    Attributes:
        data: NDJSON; every line ends with a line feed.
        events: number of lines.
        files: keys of the files that the events come from, in reading order.
    """

    data: bytes
    events: int
    files: tuple[str, ...]


class Cutter:
    """Fills one batch after the other.

    A batch ends where the next event does not fit. So only the events and their order decide where, and not in what
    portions they come.

    Attributes:
        events: number of events in all batches cut so far.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.events = 0
        self._limits = limits
        self._lines: list[bytes] = []
        self._size_bytes = 0
        self._files: list[str] = []

    def add(self, lines: list[bytes], *, file: str) -> Iterator[Cut]:
        """Go on with *lines*, events of *file* without their line feeds, and cut the batches that become full."""
        while lines:
            fitting = self._fitting(lines)
            if not fitting and not self._lines:
                fitting = 1
            self._take(lines[:fitting], file)
            lines = lines[fitting:]
            if lines:
                yield self._cut()

    def finish(self) -> Iterator[Cut]:
        """Cut what is left."""
        if self._lines:
            yield self._cut()

    def _fitting(self, lines: list[bytes]) -> int:
        room = self._limits.max_bytes - self._size_bytes
        most = min(len(lines), self._limits.max_events - len(self._lines))
        if most == len(lines) and sum(map(len, lines)) + len(lines) <= room:
            return most
        ends = accumulate(len(line) + 1 for line in lines[:most])
        return sum(1 for _ in takewhile(lambda end: end <= room, ends))

    def _take(self, lines: list[bytes], file: str) -> None:
        if lines:
            self._lines += lines
            self._size_bytes += sum(map(len, lines)) + len(lines)
            if self._files[-1:] != [file]:
                self._files.append(file)

    def _cut(self) -> Cut:
        events = len(self._lines)
        self._lines.append(b"")
        cut = Cut(b"\n".join(self._lines), events, tuple(self._files))
        if len(cut.data) != self._size_bytes:
            raise AccountingError(f"a batch of {self._size_bytes} bytes became one of {len(cut.data)}")
        self.events += events
        self._lines, self._size_bytes, self._files = [], 0, []
        return cut
