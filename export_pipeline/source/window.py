"""The part of an unpacked file that is in memory, and what can be concluded from it.

If the rest of the file could change the answer, MoreNeeded is raised instead. This never happens at the end of the
file, nor once ``max_event_bytes`` are available: so the answer depends on the file, not on its pieces.
"""

import re
from dataclasses import dataclass, field

from export_pipeline.source.checker import Checker
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.outline import Brackets, Shape
from export_pipeline.source.rfc8259 import Fault, read_object, read_value

_closing = re.compile(rb"[\] \t\r\n]*")
_blank = re.compile(rb"[ \t\r\n]*")


class MoreNeeded(Exception):
    """The window ends too early to decide. What was accounted for stays; framing continues there with more text."""


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive bytes of a file.

    Attributes:
        text: the bytes.
        is_last: the file ends with them.
    """

    text: bytes
    is_last: bool
    limits: ReadLimits
    checker: Checker
    # Where the line was last found to end: text[begin:end] has no line feed.
    _line: list[int] = field(default_factory=lambda: [0, 0], compare=False)

    def object_at(self, at: int) -> int | Fault:
        """The end of the object that begins at *at*. A Fault with ``cut`` means longer than ``max_event_bytes``."""
        stop = self.stop(at)
        end = self.checker.object_end(self.text, at, stop)
        return end if end > at else self._final(at, read_object(self.text, at, stop, max_depth=self.limits.max_depth))

    def object_before(self, at: int, stop: int) -> int | Fault:
        """The end of the object that begins at *at*, if that is before *stop*."""
        end = self.checker.object_end(self.text, at, stop)
        return end if end > at else read_object(self.text, at, stop, max_depth=self.limits.max_depth)

    def value_at(self, at: int) -> int | Fault:
        """The end of the value of any kind that begins at *at*; otherwise as :meth:`object_at`."""
        stop = self.stop(at)
        found = read_value(self.text, at, stop, max_depth=self.limits.max_depth)
        if found == stop:
            self._must_not_grow(at)
        return self._final(at, found)

    def outline_at(self, at: int) -> tuple[Brackets, int]:
        """The outline of what begins at *at* with a bracket, and how far it goes: at most ``max_event_bytes``."""
        outline = Brackets()
        reached = outline.follow(self.text, at, self.stop(at))
        if outline.shape is Shape.OPEN:
            self._must_not_grow(at)
        return outline, reached

    def behind_blanks(self, at: int) -> tuple[int, bytes]:
        """The first position from *at* on that is not white space, and its byte; empty if the limit comes first."""
        stop = self.stop(at)
        match = _blank.match(self.text, at, stop)
        end = at if match is None else match.end()
        if end == stop:
            self._must_not_grow(at)
        return end, self.text[end : min(end + 1, stop)]

    def line_end(self, at: int) -> int:
        """The end of the line that continues at *at*; negative: not within the bytes that may be examined.

        The result is cached: otherwise each event in a long line would cost a scan of the whole line.
        """
        limit = self.stop(at)
        begin, end = self._line
        if not begin <= at <= end:
            begin = end = at
        if end < limit and not self.text.startswith(b"\n", end):
            found = self.text.find(b"\n", end, limit)
            end = limit if found < 0 else found
        self._line[:] = begin, end
        return end if end < limit else -1

    def whole_line_end(self, at: int) -> int:
        """As :meth:`line_end`; if the line does not end within the bytes that may be examined, their end."""
        end = self.line_end(at)
        if end < 0:
            self._must_not_grow(at)
            return self.stop(at)
        return end

    def behind_brackets(self, at: int) -> tuple[int, bytes]:
        """As :meth:`behind_blanks`, but also past closing square brackets."""
        stop = self.stop(at)
        match = _closing.match(self.text, at, stop)
        end = at if match is None else match.end()
        if end == stop:
            self._must_not_grow(at)
        return end, self.text[end : min(end + 1, stop)]

    def byte_at(self, at: int) -> bytes:
        """The byte at *at*; empty after the last one."""
        return self.text[at : at + 1]

    def stop(self, at: int) -> int:
        """The end of the bytes that may be examined from *at* on."""
        return min(len(self.text), at + self.limits.max_event_bytes)

    def sees_limit(self, at: int) -> bool:
        """Whether all bytes that may be examined from *at* on are here, and the file may continue after them."""
        return len(self.text) >= at + self.limits.max_event_bytes

    def _must_not_grow(self, at: int) -> None:
        if not self.is_last and not self.sees_limit(at):
            raise MoreNeeded

    def _final(self, at: int, found: int | Fault) -> int | Fault:
        if not isinstance(found, Fault) or not found.cut:
            return found
        self._must_not_grow(at)
        if self.sees_limit(at):
            return Fault(found.at, f"longer than max_event_bytes, {self.limits.max_event_bytes}", cut=True)
        return found._replace(cut=False)
