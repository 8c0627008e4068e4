"""Lists a large bucket at several places at once.

S3 returns 1,000 keys a request, and only the response says where to continue: at 25 ms of latency, 100,000 keys take 3
s one page after another. If keys contain dates, strings between them can be guessed, and listing can start at each. A
wrong guess costs a request, never a file: the ranges are contiguous, whatever the strings are. The requests themselves
are made by :mod:`export_pipeline.source.s3`.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from export_pipeline.source.layout import Layout
from export_pipeline.source.s3_page import Listed

RANGES_AT_ONCE = 8
# What a range whose turn has not come may hold, in pages of 1,000 keys.
_PAGES_AHEAD = 8
# The last page of a range extends into the next range, on average by half a page: long ranges waste little.
_PAGES_A_RANGE = 4
_STEPS = [timedelta(hours=1), *(timedelta(days=days) for days in (1, 2, 4, 7, 14, 28))]


@dataclass(frozen=True, slots=True)
class Page:
    """One response.

    Attributes:
        files: in key order.
        rest: requests the next page; None if this is the last one.
    """

    files: list[Listed]
    rest: "Callable[[], Page] | None"


def splits(layout: Layout, page: Page, until: datetime) -> Iterator[str]:
    """Keys, ascending, between which several pages are likely, if the bucket continues as *page* begins.

    Yields nothing if the keys of *page* do not show how it continues.
    """
    if not page.files:
        return
    first, last = layout.moment_of(page.files[0][0]), layout.moment_of(page.files[-1][0])
    if first is None or last is None:
        return
    wanted = (last - first) * _PAGES_A_RANGE
    steps = _STEPS if "%H" in layout.pattern else _STEPS[1:]
    step = next((step for step in steps if step >= wanted), wanted)
    while (last := last + step) <= until:
        yield layout.start_after(last)


def list_ranges(start: Page, list_after: Callable[[str], Page], between: Iterator[str]) -> Iterator[Listed]:
    """All files from *start* on, in key order.

    Args:
        start: the first page.
        list_after: returns the page that begins after a key; called from several threads.
        between: where to begin further ranges, ascending. Strings that are not after *start* are skipped.
    """
    yield from start.files
    if start.rest is None:
        return
    pool = ThreadPoolExecutor(RANGES_AT_ONCE, thread_name_prefix="list")
    try:
        yield from _Ranges(pool, start, list_after, between)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(eq=False, slots=True)
class _Range:
    """The keys up to and including *end*; without one, to the end of the bucket."""

    end: str | None
    ask: Callable[[], Page] | None
    answer: Future[Page] | None = None
    is_begun: bool = False
    pages: deque[list[Listed]] = field(default_factory=deque)


class _Ranges:
    """The ranges in progress, first to last. The iterating thread does everything; the pool's threads only request."""

    def __init__(
        self, pool: ThreadPoolExecutor, start: Page, list_after: Callable[[str], Page], between: Iterator[str]
    ) -> None:
        self._pool = pool
        self._list_after = list_after
        last = start.files[-1][0] if start.files else ""
        self._between = (split for split in between if split > last)
        self._ranges = deque([_Range(next(self._between, None), start.rest)])
        # A page that extends beyond its range shows the next existing key: ranges before it are empty.
        self._next_key = last
        self._is_over = False
        # One more with each page taken: a caller who takes few pages causes few requests.
        self._allowed = 2

    def __iter__(self) -> Iterator[Listed]:
        while self._ranges:
            self._ask()
            head = self._ranges[0]
            if head.pages:
                yield from head.pages.popleft()
                self._allowed = min(self._allowed + 1, RANGES_AT_ONCE)
            elif head.answer is not None:
                self._receive(head, head.answer)
            else:
                self._ranges.popleft()

    def _ask(self) -> None:
        """Take in the responses, and request as many pages as allowed, but always the first range's next one."""
        for range_ in self._ranges:
            if range_.answer is not None and range_.answer.done():
                self._receive(range_, range_.answer)
        under_way = sum(range_.answer is not None for range_ in self._ranges)
        position = 0
        while position == 0 or (under_way < self._allowed and (position < len(self._ranges) or self._open_next())):
            range_ = self._ranges[position]
            is_ahead = position > 0 and len(range_.pages) >= _PAGES_AHEAD
            if range_.answer is None and not is_ahead and (ask := self._what_to_ask(range_)):
                range_.answer = self._pool.submit(ask)
                under_way += 1
            position += 1

    def _open_next(self) -> bool:
        """Begin the range after the last one, if there is one and room for it."""
        start = self._ranges[-1].end
        if start is None or len(self._ranges) >= RANGES_AT_ONCE:
            return False
        self._ranges.append(_Range(next(self._between, None), lambda: self._list_after(start)))
        return True

    def _what_to_ask(self, range_: _Range) -> Callable[[], Page] | None:
        is_untouched_and_empty = not range_.is_begun and (
            self._is_over or (range_.end is not None and range_.end < self._next_key)
        )
        if is_untouched_and_empty:
            range_.ask = None
        return range_.ask

    def _receive(self, range_: _Range, answer: Future[Page]) -> None:
        page = answer.result()
        range_.answer, range_.ask, range_.is_begun = None, page.rest, True
        files = page.files
        if range_.end is not None and files and files[-1][0] > range_.end:
            inside = bisect_right(files, range_.end, key=lambda file: file[0])
            self._next_key = max(self._next_key, files[inside][0])
            files, range_.ask = files[:inside], None
        elif page.rest is None:
            self._is_over = True
        if files:
            range_.pages.append(files)
