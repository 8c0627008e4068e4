"""The stretch of an unpacked file that is in memory, and what can be said of it.

Where the rest of the file could change the answer, MoreNeeded is raised instead. That happens neither at the end of the
file nor where ``max_event_bytes`` are there to look at: so what is said depends on the file, not on its pieces.
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
    """The window ends too early to tell. What was accounted for so far stands; framing goes on there with more text."""


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes that follow each other in a file.

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
        """Where the object ends that begins at *at*. A Fault with ``cut`` is one longer than ``max_event_bytes``."""
        stop = self.stop(at)
        end = self.checker.object_end(self.text, at, stop)
        return end if end > at else self._final(at, read_object(self.text, at, stop, max_depth=self.limits.max_depth))

    def object_before(self, at: int, stop: int) -> int | Fault:
        """Where the object ends that begins at *at*, if it does before *stop*."""
        end = self.checker.object_end(self.text, at, stop)
        return end if end > at else read_object(self.text, at, stop, max_depth=self.limits.max_depth)

    def value_at(self, at: int) -> int | Fault:
        """Where the value of any kind ends that begins at *at*; the rest as :meth:`object_at`."""
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
        """The first place from *at* on that is no white space, and the byte there; none where looking ends before."""
        stop = self.stop(at)
        match = _blank.match(self.text, at, stop)
        end = at if match is None else match.end()
        if end == stop:
            self._must_not_grow(at)
        return end, self.text[end : min(end + 1, stop)]

    def line_end(self, at: int) -> int:
        """Where the line ends that goes on at *at*; negative: not within what may be looked at.

        What was found is remembered: else each event in a long line would cost a look at all of it.
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
        """As :meth:`line_end`; the end of what may be looked at where the line does not end before."""
        end = self.line_end(at)
        if end < 0:
            self._must_not_grow(at)
            return self.stop(at)
        return end

    def behind_brackets(self, at: int) -> tuple[int, bytes]:
        """As :meth:`behind_blanks`, past closing square brackets as well."""
        stop = self.stop(at)
        match = _closing.match(self.text, at, stop)
        end = at if match is None else match.end()
        if end == stop:
            self._must_not_grow(at)
        return end, self.text[end : min(end + 1, stop)]

    def byte_at(self, at: int) -> bytes:
        """The byte at *at*; empty behind the last one."""
        return self.text[at : at + 1]

    def stop(self, at: int) -> int:
        """The end of what may be looked at from *at* on."""
        return min(len(self.text), at + self.limits.max_event_bytes)

    def sees_limit(self, at: int) -> bool:
        """Whether all that may be looked at from *at* on is here, and the file may go on behind it."""
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
