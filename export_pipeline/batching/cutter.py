"""Where one batch ends and the next begins."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, takewhile

from export_pipeline.errors import AccountingError
from export_pipeline.source.framed import Lines, split_lines


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may become. They are part of a manifest's id, because other limits give other batches.

    Attributes:
        max_events: most events in a batch.
        max_bytes: most bytes in a batch, including line feeds. A longer event gets a separate batch.
    """

    max_events: int = 10_000
    max_bytes: int = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CutBatch:
    """One batch.

    Attributes:
        parts: NDJSON, one part after the other; every line ends with a line feed.
        size_bytes: of all parts.
        events: number of lines.
        files: keys of the files that the events come from, in reading order.
    """

    parts: tuple[bytes | memoryview, ...]
    size_bytes: int
    events: int
    files: tuple[str, ...]


class Cutter:
    """Fills one batch after the other.

    A batch ends before the first event that does not fit. So only the events and their order decide where, not the
    portions in which they arrive.

    Attributes:
        events: number of events in all batches cut so far.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.events = 0
        self._limits = limits
        self._parts: list[bytes | memoryview] = []
        self._count = 0
        self._size_bytes = 0
        self._files: list[str] = []

    def add(self, found: Lines | list[bytes], *, file: str) -> Iterator[CutBatch]:
        """Continue with events of *file*, and cut the batches that become full.

        Args:
            found: lines, or events without their line feeds.
        """
        if not isinstance(found, Lines):
            lines = found
        elif self._fits(found.events, len(found.text)):
            self._take(found.text, found.events, file)
            return
        else:
            lines = split_lines(bytes(found.text))[0]
        while lines:
            fitting = self._fitting(lines)
            if not fitting and not self._count:
                fitting = 1
            if fitting:
                self._take(b"\n".join([*lines[:fitting], b""]), fitting, file)
                lines = lines[fitting:]
            if lines:
                yield self._cut()

    def finish(self) -> Iterator[CutBatch]:
        """Cut what is left."""
        if self._count:
            yield self._cut()

    def _fits(self, events: int, size_bytes: int) -> bool:
        limits = self._limits
        return self._count + events <= limits.max_events and self._size_bytes + size_bytes <= limits.max_bytes

    def _fitting(self, lines: list[bytes]) -> int:
        if self._fits(len(lines), sum(map(len, lines)) + len(lines)):
            return len(lines)
        room = self._limits.max_bytes - self._size_bytes
        ends = accumulate(len(line) + 1 for line in lines[: self._limits.max_events - self._count])
        return sum(1 for _ in takewhile(lambda end: end <= room, ends))

    def _take(self, text: bytes | memoryview, events: int, file: str) -> None:
        self._parts.append(text)
        self._count += events
        self._size_bytes += len(text)
        if self._files[-1:] != [file]:
            self._files.append(file)

    def _cut(self) -> CutBatch:
        cut = CutBatch(tuple(self._parts), self._size_bytes, self._count, tuple(self._files))
        if (size_bytes := sum(map(len, cut.parts))) != cut.size_bytes:
            raise AccountingError(f"a batch of {cut.size_bytes} bytes was cut as {size_bytes} bytes")
        self.events += cut.events
        self._parts, self._count, self._size_bytes, self._files = [], 0, 0, []
        return cut
