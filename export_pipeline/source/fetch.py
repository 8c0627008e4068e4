"""Reads many files ahead, in order, within a bounded window of memory."""

import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import Condition

from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import READ_BYTES, Source

WINDOW_BYTES = 32 * 1024 * 1024

# Four concurrent requests are best on loopback, 32 to 64 at 25 ms of latency (2 cores, files of 40 KB): as many are
# kept in flight as this many answers a second need at the latency seen.
_MIN_CONCURRENCY = 4
_ANSWERS_PER_SECOND = 2_500
_LATENCIES = 32
# A long answer takes long without any latency: only what exceeds this rate counts as latency.
_BYTES_PER_SECOND = 200_000_000
# What an answer costs in memory besides its bytes.
_PART_OVERHEAD_BYTES = 4_096


def fetch_in_order(
    source: Source,
    files: Sequence[SourceFile],
    *,
    window_bytes: int = WINDOW_BYTES,
    max_concurrency: int = 64,
    part_bytes: int = READ_BYTES,
) -> Generator[tuple[SourceFile, Iterator[bytes]], None, None]:
    """Each file with its bytes, in the order given, while later files are already being fetched.

    A failure to read a file is raised from its iterator of bytes, at its turn; the files after it can still be read. An
    iterator that is not read to its end is dropped when the next file is requested. Close the generator
    (``contextlib.closing``) to stop early: this joins its threads, as reaching the end does.

    Args:
        source: where the files are.
        files: as listed.
        window_bytes: most bytes fetched and not yet taken, or one part if a part is larger.
        max_concurrency: most requests in flight; the actual number depends on the latency.
        part_bytes: larger files are fetched in parts, several of which may be in flight.

    Yields:
        The file, and its bytes in pieces of at most *part_bytes*.
    """
    with closing(_Window(source, files, window_bytes, max_concurrency, min(part_bytes, window_bytes))) as window:
        window.begin()
        for index, file in enumerate(files):
            yield file, window.take(index)
            window.drop(index)


@dataclass(eq=False, slots=True)
class _Part:
    """A file or a part of one. Its bytes count as held until it has been both fetched and released, in either order."""

    index: int
    start: int
    stop: int
    answer: Future[bytes] | None = None
    has_ended: bool = False
    is_let_go: bool = False

    @property
    def cost_bytes(self) -> int:
        return self.stop - self.start + _PART_OVERHEAD_BYTES


class _Window:
    """The parts in flight or waiting to be taken, first to last. One thread takes; the pool's threads fetch."""

    def __init__(
        self, source: Source, files: Sequence[SourceFile], window_bytes: int, max_concurrency: int, part_bytes: int
    ) -> None:
        self._source = source
        self._files = files
        self._window_bytes = window_bytes
        self._max_concurrency = max_concurrency
        self._plan = _parts(files, part_bytes)
        self._next = next(self._plan, None)
        self._parts: deque[_Part] = deque()
        self._held_bytes = 0
        self._under_way = 0
        self._dropped_up_to = -1
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._is_closed = False
        self._changed = Condition()
        self._pool = ThreadPoolExecutor(max_concurrency, thread_name_prefix="fetch")

    def begin(self) -> None:
        """Fetch the first parts."""
        with self._changed:
            self._fill()

    def take(self, index: int) -> Iterator[bytes]:
        """The bytes of file *index*, part by part, until all of them have arrived."""
        taken_bytes = -1
        while taken_bytes < self._files[index].size_bytes:
            part, answer = self._first(index)
            try:
                yield answer.result()
            finally:
                # Only now: the part in use still counts.
                self._let_go([part])
            taken_bytes = part.stop

    def drop(self, index: int) -> None:
        """Forget whatever of the files up to *index* was not taken."""
        with self._changed:
            self._dropped_up_to = index
            self._let_go([part for part in self._parts if part.index <= index])

    def close(self) -> None:
        """Wait for the requests in flight and end the threads."""
        with self._changed:
            self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _first(self, index: int) -> tuple[_Part, Future[bytes]]:
        """The next part of file *index*, in flight or finished."""
        with self._changed:
            while not self._is_closed and index > self._dropped_up_to:
                self._fill()
                if self._parts and (answer := self._parts[0].answer):
                    return self._parts[0], answer
                # Everything in flight was released, but still fills the window or the threads: something must end.
                self._changed.wait()
            raise RuntimeError(f"{self._files[index].key}: its turn is over: another file was requested")

    def _let_go(self, parts: Sequence[_Part]) -> None:
        with self._changed:
            for part in parts:
                if part.is_let_go or part.answer is None:
                    continue
                part.is_let_go = True
                self._parts.remove(part)
                if part.has_ended:
                    self._held_bytes -= part.cost_bytes
                part.answer.cancel()
                part.answer = None
            self._fill()

    def _fill(self) -> None:
        """Start as many parts as fit. The caller holds the lock."""
        concurrency = _concurrency(self._latencies, self._max_concurrency)
        while (part := self._next) is not None and not self._is_closed and self._under_way < concurrency:
            if part.index > self._dropped_up_to:
                if self._held_bytes and self._held_bytes + part.cost_bytes > self._window_bytes:
                    return
                self._held_bytes += part.cost_bytes
                self._under_way += 1
                self._parts.append(part)
                part.answer = self._pool.submit(self._fetch, part)
                self._next = next(self._plan, None)
                part.answer.add_done_callback(lambda _, part=part: self._ended(part))  # type: ignore[misc]
            else:
                self._next = next(self._plan, None)

    def _ended(self, part: _Part) -> None:
        with self._changed:
            part.has_ended = True
            self._under_way -= 1
            if part.is_let_go:
                self._held_bytes -= part.cost_bytes
            self._fill()
            self._changed.notify_all()

    def _fetch(self, part: _Part) -> bytes:
        began = time.perf_counter()
        data = self._source.read_range(self._files[part.index], part.start, part.stop)
        latency = max(0.0, time.perf_counter() - began - len(data) / _BYTES_PER_SECOND)
        with self._changed:
            self._latencies.append(latency)
        return data


def _parts(files: Sequence[SourceFile], part_bytes: int) -> Iterator[_Part]:
    for index, file in enumerate(files):
        # An empty file is requested as well: it may have been replaced.
        for start in range(0, max(1, file.size_bytes), part_bytes):
            yield _Part(index, start, min(start + part_bytes, file.size_bytes))


def _concurrency(latencies: deque[float], max_concurrency: int) -> int:
    """How many requests to keep in flight. The smallest recent latency is the one without our own queueing."""
    wanted = math.ceil(min(latencies, default=0.0) * _ANSWERS_PER_SECOND)
    return min(max_concurrency, max(_MIN_CONCURRENCY, wanted))
