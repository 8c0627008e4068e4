"""The outline of malformed data: where its brackets close, as far as strings can be distinguished from the rest.

Most malformed events have matching brackets (an invalid token, a bad escape, invalid UTF-8), and end where these close.
In the others, truncated in the middle, the outline tears: a string meets a line end, a bracket is closed by another
kind, or an object begins where no value can. The next event is at that place at the earliest, or hides in what looks
like a string, because quotes are paired wrongly after the cut: ``{"a":"cut{"b":1}`` reads as ``{"a":"cut{" b ":1}…``.
"""

import re
from enum import Enum

_BLANK = b" \t\r\n"
_token = re.compile(rb'["{}\[\]]')
_in_string = re.compile(rb'[^"\\\n]*(?:\\[^\n][^"\\\n]*){0,64}')
_QUOTE, _BACKSLASH, _LINE_FEED, _COLON, _COMMA, _OBJECT, _ARRAY = b'"\\\n:,{['
_OPENER = {ord("}"): _OBJECT, ord("]"): _ARRAY}
_MOST_OPEN = 1024 * 1024
_TAIL_BYTES = 64


class Shape(Enum):
    """The state of an outline."""

    OPEN = "open"
    CLOSED = "closed"
    TORN = "torn"


class Brackets:
    """Follows brackets and strings from an opening bracket on, through any number of pieces of text.

    Attributes:
        shape: OPEN until the first bracket is closed or the outline tears.
        hidden: where, in the last piece, an object may begin inside what looks like a string.
    """

    def __init__(self) -> None:
        self.shape = Shape.OPEN
        self.hidden: list[int] = []
        self._open = bytearray()
        self._in_string = False
        self._before = -1

    def follow(self, text: bytes, start: int, stop: int) -> int:
        """Continue from *start* to at most *stop*.

        Returns:
            how far it went: after the last bracket if CLOSED, to the byte that does not fit if TORN. While OPEN it is
                *stop*, or a backslash there, whose escaped character is still to come.
        """
        self.hidden = []
        at, behind = -1, start
        while self.shape is Shape.OPEN and at < behind < stop:
            at = behind
            behind = self._string(text, at, stop) if self._in_string else self._tokens(text, at, stop)
        return behind

    def _string(self, text: bytes, at: int, stop: int) -> int:
        match = _in_string.match(text, at, stop)
        end = at if match is None else match.end()
        byte = text[end] if end < stop else -1
        if byte == _QUOTE:
            self._in_string, self._before = False, _QUOTE
            tail = text[max(at, end - _TAIL_BYTES) : end].rstrip(b" \t")
            if tail.endswith(b"{"):
                self.hidden.append(text.rindex(b"{", at, end))
            return end + 1
        if byte == _LINE_FEED or (byte == _BACKSLASH and end == at and end + 1 < stop):
            self.shape = Shape.TORN
        return end

    def _tokens(self, text: bytes, at: int, stop: int) -> int:
        """Past brackets, up to after the next quote. One call for all of them: each byte may be a bracket."""
        search = _token.search
        while True:
            match = search(text, at, stop)
            if match is None:
                skipped = text[at:stop].rstrip(_BLANK)
                self._before = skipped[-1] if skipped else self._before
                return stop
            end = match.start()
            if end > at:
                skipped = text[at:end].rstrip(_BLANK)
                self._before = skipped[-1] if skipped else self._before
            byte = text[end]
            if byte == _QUOTE:
                self._in_string, self._before = True, byte
                return end + 1
            if byte in _OPENER:
                self._close(byte)
            else:
                self._nest(byte)
            self._before = byte
            if self.shape is not Shape.OPEN:
                return end if self.shape is Shape.TORN else end + 1
            at = end + 1

    def _nest(self, bracket: int) -> None:
        if self._open and not (
            self._before == _COLON if self._open[-1] == _OBJECT else self._before in (_ARRAY, _COMMA)
        ):
            self.shape = Shape.TORN
        self._open.append(bracket)
        if len(self._open) > _MOST_OPEN:
            self.shape = Shape.TORN

    def _close(self, bracket: int) -> None:
        if self._open.pop() != _OPENER[bracket]:
            self.shape = Shape.TORN
        elif not self._open:
            self.shape = Shape.CLOSED
