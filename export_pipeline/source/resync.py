"""Where reading continues after a stretch that is not an event: at the next line, or before it at the next event.

What is inside a malformed event is not a separate event, even if it looks like one: neither what its brackets
enclose, nor the value after a ``"name":``, nor an element of a list. No subscriber receives a part of an event as an
event; in case of doubt, it stays in the quarantine with what surrounds it.

Each look-ahead is counted. If too many were in vain, the stretch ends with its line.
"""

import re
from typing import NamedTuple

from export_pipeline.source.outline import Shape
from export_pipeline.source.window import MoreNeeded, Window

LOOK_BYTES = 48
"""Minimum cost of one look-ahead, in bytes: one over 48 bytes takes about twice as long as an empty one."""

_member = re.compile(rb'(?:"[ \t\r]*|\A):\Z')
_run = re.compile(rb"\{[{ \t\r]*")
_LOOK_BACK_BYTES = 64


class Looks:
    """Counts bytes that are examined but not accounted for, and so will be examined again.

    Args:
        left_bytes: how many more may be.

    Attributes:
        spent_bytes: how many have been.
    """

    def __init__(self, left_bytes: int) -> None:
        self.spent_bytes = 0
        self._left_bytes = left_bytes

    def spend(self, size_bytes: int) -> None:
        """Count one look-ahead."""
        self.spent_bytes += LOOK_BYTES + size_bytes

    @property
    def is_over(self) -> bool:
        """The limit is reached."""
        return self.spent_bytes > self._left_bytes


class Stretch(NamedTuple):
    """A malformed record, or a part of one.

    Attributes:
        end: its end.
        goes_on: nothing has ended it so far: continue looking at ``end``.
    """

    end: int
    goes_on: bool = False


def bad_stretch(window: Window, start: int, looks: Looks, *, is_broken: bool, in_array: bool) -> Stretch:
    """The malformed record that begins at *start*, or the part of it within ``max_event_bytes``.

    Args:
        looks: counts what is examined.
        is_broken: a bracket opens at *start*, and what it encloses is known not to be an event.
        in_array: it is an element of an array, and ends before a comma or the end of the array.
    """
    text = window.text
    at = start
    if in_array and not is_broken and _ends_element(window, start):
        return Stretch(start)
    while True:
        if looks.is_over:
            return rest_of_line(window, at)
        if is_broken:
            broken = _broken(window, start, at, looks, in_array=in_array)
            if not broken.goes_on:
                return broken
            at = broken.end
        limit = window.stop(start)
        line_end = window.line_end(at) if at < limit else -1
        line_end = line_end if line_end < limit else -1
        place = text.find(b"{", at, line_end if line_end >= 0 else limit)
        if place < 0:
            return Stretch(line_end) if line_end >= 0 else _nothing_in_sight(window, start, max(at, limit))
        last = _last_of_run(text, place, line_end if line_end >= 0 else limit)
        if last > place:
            # A bracket directly inside another object cannot begin a value: the outline would tear at each of them.
            looks.spend(0)
            at, place, is_broken = last, last, True
        # If brackets close or tear just before an object, it is not inside them. An empty object proves nothing, and
        # garbage is full of them.
        may_begin = (is_broken and place == at) or not _is_inside(text, start, place, in_array=in_array)
        if may_begin and b'"' in _event(window, place, looks):
            return Stretch(place)
        at, is_broken = place, True


def rest_of_line(window: Window, at: int) -> Stretch:
    """The rest of a malformed record, from *at* to the end of the line, whatever it contains."""
    line_end = window.line_end(at)
    return Stretch(line_end) if line_end >= 0 else _nothing_in_sight(window, at, window.stop(at))


def _last_of_run(text: bytes, place: int, limit: int) -> int:
    """The last of the brackets that open at *place*, with only white space between them."""
    match = _run.match(text, place, limit)
    return place if match is None else text.rindex(b"{", place, match.end())


def _broken(window: Window, start: int, at: int, looks: Looks, *, in_array: bool) -> Stretch:
    """The malformed data that begins at *at*, as far as its brackets can be followed."""
    outline, reached = window.outline_at(at)
    looks.spend(reached - at)
    is_closed = outline.shape is Shape.CLOSED
    line_end = window.text.find(b"\n", at, reached)
    last = line_end if line_end >= 0 and not is_closed else reached
    for place in outline.hidden:
        if looks.is_over or place >= last:
            break
        if not _is_inside(window.text, start, place, in_array=in_array) and _event(window, place, looks):
            return Stretch(place)
    if is_closed:
        return Stretch(reached, goes_on=not (in_array and _ends_element(window, reached)))
    if line_end >= 0:
        return Stretch(line_end)
    if outline.shape is Shape.TORN:
        return Stretch(max(reached, at + 1), goes_on=True)
    return _nothing_in_sight(window, at, reached)


def _ends_element(window: Window, at: int) -> bool:
    return window.behind_blanks(at)[1] in {b",", b"]"}


def _event(window: Window, place: int, looks: Looks) -> bytes:
    """The event at *place*; empty if there is none."""
    found = window.object_at(place)
    looks.spend((found if isinstance(found, int) else found.reached) - place)
    return window.text[place:found] if isinstance(found, int) else b""


def _is_inside(text: bytes, start: int, place: int, *, in_array: bool) -> bool:
    """Whether *place* looks like a member or an element, judging by what precedes it in the stretch."""
    before = text[max(start, place - _LOOK_BACK_BYTES) : place].rstrip(b" \t\r")
    if before.endswith(b","):
        return not in_array and before != b","
    return before.endswith(b"[") or _member.search(before) is not None


def _nothing_in_sight(window: Window, start: int, end: int) -> Stretch:
    if window.sees_limit(start):
        return Stretch(end, goes_on=True)
    if window.is_last:
        return Stretch(len(window.text))
    raise MoreNeeded
