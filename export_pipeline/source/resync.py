"""Where reading goes on after a stretch that is no event: at the next line, or before that at the next event.

What lies inside something broken is no event of its own, even where it would pass for one: neither what its brackets
enclose, nor the value behind a ``"name":``, nor an element of a list. No subscriber gets a part of an event for an
event; where it is doubtful, it stays in the quarantine with what surrounds it.
"""

import re
from typing import NamedTuple

from export_pipeline.source.outline import Shape
from export_pipeline.source.window import MoreNeeded, Window

_member = re.compile(rb'(?:"[ \t\r]*|\A):\Z')
_LOOK_BACK_BYTES = 64


class Stretch(NamedTuple):
    """A bad stretch, or a part of one.

    Attributes:
        end: where it ends.
        goes_on: nothing ended it so far: look on from ``end``.
    """

    end: int
    goes_on: bool = False


def bad_stretch(window: Window, start: int, *, is_broken: bool, in_array: bool) -> Stretch:
    """The bad stretch that begins at *start*, or its part within ``max_event_bytes``.

    Args:
        is_broken: a bracket opens at *start*, and what it encloses is known to be no event.
        in_array: it is an element of an array, and ends before a comma or the array's end.
    """
    text = window.text
    at = start
    if in_array and not is_broken and _ends_element(window, start):
        return Stretch(start)
    while True:
        if is_broken:
            broken = _broken(window, start, at, in_array=in_array)
            if not broken.goes_on:
                return broken
            at = broken.end
        limit = window.stop(start)
        place = text.find(b"{", at, limit)
        line_end = text.find(b"\n", at, place if place >= 0 else limit)
        if line_end >= 0:
            return Stretch(line_end)
        if place < 0:
            return _nothing_in_sight(window, start, max(at, limit))
        # Where brackets close or tear just before an object, it is not inside of them. An empty object tells nothing,
        # and garbage is full of them.
        may_begin = (is_broken and place == at) or not _is_inside(text, start, place, in_array=in_array)
        if may_begin and b'"' in _event(window, place):
            return Stretch(place)
        at, is_broken = place, True


def _broken(window: Window, start: int, at: int, *, in_array: bool) -> Stretch:
    """What begins at *at* and is broken, as far as its brackets can be followed."""
    outline, reached = window.outline_at(at)
    is_closed = outline.shape is Shape.CLOSED
    line_end = window.text.find(b"\n", at, reached)
    last = line_end if line_end >= 0 and not is_closed else reached
    for place in outline.hidden:
        if place < last and not _is_inside(window.text, start, place, in_array=in_array) and _event(window, place):
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


def _event(window: Window, place: int) -> bytes:
    """The event at *place*; empty if there is none."""
    found = window.object_at(place)
    return window.text[place:found] if isinstance(found, int) else b""


def _is_inside(text: bytes, start: int, place: int, *, in_array: bool) -> bool:
    """Whether *place* looks like that of a member or an element, by what lies before it in the stretch."""
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
