"""One step at a time through a file: separators, then one event or one bad stretch. Slow, and exact whatever comes."""

import re
from dataclasses import dataclass, field

from export_pipeline.source.framed import KEPT_BYTES, BadStretch, Framed, Lines, Tally
from export_pipeline.source.outline import Outline, Shape
from export_pipeline.source.resync import bad_stretch
from export_pipeline.source.rfc8259 import Fault, compact
from export_pipeline.source.window import MoreNeeded, Window

_BLANK = b" \t\r\n"
_blank = re.compile(rb"[ \t\r\n]*")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_KINDS = {b'"': "a string", b"[": "an array", b"t": "a boolean", b"f": "a boolean", b"n": "null"}


@dataclass(slots=True)
class _OpenStretch:
    """A bad stretch whose end has not been found.

    Attributes:
        is_broken: at the current place a bracket opens, and what it encloses is known to be no event.
        outline: of an event that is too long, as far as it has been followed.
    """

    offset: int
    reason: str
    is_broken: bool
    outline: Outline | None
    length: int = 0
    data: bytearray = field(default_factory=bytearray)

    def take(self, data: bytes, *, max_bytes: int) -> None:
        self.length += len(data)
        self.data += data
        if self.length > max_bytes:
            del self.data[KEPT_BYTES:]


class Stepper:
    """Goes through one file, window by window.

    Attributes:
        at: place in the window; what lies before has been accounted for.
        tally: what was found so far.
        framed: what was found, to be taken away by the owner.
    """

    def __init__(self, window: Window) -> None:
        self.at = 0
        self.tally = Tally()
        self.framed: list[Framed] = []
        self._window = window
        self._offset = 0  # of the window, in the file
        self._array_offset: int | None = None
        self._stretch: _OpenStretch | None = None
        self._stretch_end = -1  # of the last one, in the file

    @property
    def in_array(self) -> bool:
        """The elements of an array at top level are being read."""
        return self._array_offset is not None

    @property
    def in_stretch(self) -> bool:
        """A bad stretch has begun and its end has not been found."""
        return self._stretch is not None

    def move(self, window: Window) -> None:
        """Look at *window* from now on, which begins at the current place."""
        self._offset += self.at
        self._window, self.at = window, 0

    def finish(self) -> None:
        """Note what a file lacks that has ended at the current place."""
        end = self._offset + self.at
        if self._array_offset is not None and self._stretch_end != end:
            reason = f"the array that begins at byte {self._array_offset} is not closed: the file may have been cut"
            self._add_stretch(BadStretch(end, 0, reason, b""))

    def step(self, target: int) -> None:
        """Go on to *target*, or past one event or one bad stretch.

        Raises:
            MoreNeeded: there is not enough text to tell one from the other.
        """
        if self._stretch is not None:
            self._pass_over(self._stretch)
            return
        self._skip_separators()
        if self.at >= target:
            return
        byte = self._window.byte_at(self.at)
        if byte == b"{":
            self._read_object()
        elif byte == b"[" and not self.in_array and self._opens_array():
            self._array_offset = self._offset + self.at
            self.pass_separators(self.at + 1)
        else:
            self._read_other()

    def pass_events(self, events: list[bytes], size_bytes: int) -> None:
        """Account for the next *size_bytes*: *events* as they lie there, and separators."""
        events_bytes = sum(map(len, events))
        self.tally.events += len(events)
        self.tally.events_bytes += events_bytes
        self.tally.separators_bytes += size_bytes - events_bytes
        self.at += size_bytes
        if events:
            self.framed.append(events)

    def pass_lines(self, events: int, size_bytes: int) -> None:
        """Account for the next *size_bytes*: so many *events*, each with the line feed behind it, and nothing else."""
        text = self._window.text
        # A view keeps all of its text in memory, a copy only itself.
        lines = memoryview(text) if 2 * size_bytes >= len(text) else text
        self._note(Lines(lines[self.at : self.at + size_bytes], events))
        self.at += size_bytes

    def pass_ahead(self, lines: Lines) -> None:
        """Account for *lines*, which follow the window in the file, where all of the window has been accounted for."""
        self._note(lines)
        self._offset += len(lines.text)

    def pass_separators(self, end: int) -> None:
        """Account for the bytes up to *end* as separators."""
        self.tally.separators_bytes += end - self.at
        self.at = end

    def _note(self, lines: Lines) -> None:
        self.tally.events += lines.events
        self.tally.events_bytes += len(lines.text) - lines.events
        self.tally.separators_bytes += lines.events
        self.framed.append(lines)

    def _skip_separators(self) -> None:
        window = self._window
        while True:
            match = _blank.match(window.text, self.at)
            self.pass_separators(self.at if match is None else match.end())
            byte = window.byte_at(self.at)
            if byte == _BYTE_ORDER_MARK[:1]:
                mark = window.text[self.at : self.at + len(_BYTE_ORDER_MARK)]
                if mark != _BYTE_ORDER_MARK and _BYTE_ORDER_MARK.startswith(mark) and not window.is_last:
                    raise MoreNeeded
                if mark != _BYTE_ORDER_MARK:
                    return
                self.pass_separators(self.at + len(_BYTE_ORDER_MARK))
            elif self.in_array and byte in {b",", b"]"}:
                self.pass_separators(self.at + 1)
                if byte == b"]":
                    self._array_offset = None
            else:
                return

    def _read_object(self) -> None:
        found = self._window.object_at(self.at)
        if isinstance(found, Fault):
            self._begin_stretch(found, is_broken=True, outline=Outline() if found.cut else None)
            return
        event = self._window.text[self.at : found]
        self.tally.events += 1
        self.tally.events_bytes += len(event)
        self.framed.append([compact(event) if b"\n" in event or b"\r" in event else event])
        self.at = found

    def _opens_array(self) -> bool:
        """Whether an array of objects begins here: its first is an event, or it is broken and another value follows."""
        window = self._window
        first, byte = window.behind_blanks(self.at + 1)
        if byte != b"{":
            return byte == b"]"
        found = window.object_at(first)
        if not isinstance(found, Fault) or found.cut:
            return True
        outline, reached = window.outline_at(first)
        return outline.shape is Shape.CLOSED and window.behind_blanks(reached)[1] == b","

    def _read_other(self) -> None:
        """Past what is no object."""
        found = self._window.value_at(self.at)
        byte = self._window.byte_at(self.at)
        if isinstance(found, Fault):
            self._begin_stretch(found, is_broken=byte == b"[")
            return
        fault = Fault(self.at, f"{_KINDS.get(byte, 'a number')}, not an object")
        if not self.in_array:
            self._begin_stretch(fault, is_broken=byte == b"[")
            return
        data = self._window.text[self.at : found]
        self._add_stretch(BadStretch(self._offset + self.at, len(data), self._describe(fault), data))
        self.at = found

    def _begin_stretch(self, fault: Fault, *, is_broken: bool, outline: Outline | None = None) -> None:
        self._stretch = _OpenStretch(self._offset + self.at, self._describe(fault), is_broken, outline)
        self._pass_over(self._stretch)

    def _pass_over(self, stretch: _OpenStretch) -> None:
        """On to the end of *stretch*."""
        window = self._window
        if stretch.outline is not None:
            self._follow(stretch, stretch.outline)
        goes_on = True
        while goes_on:
            end, goes_on = bad_stretch(window, self.at, is_broken=stretch.is_broken, in_array=self.in_array)
            if not goes_on:
                end = self.at + len(window.text[self.at : end].rstrip(_BLANK))
            self._take(stretch, end)
            stretch.is_broken = False
        self._add_stretch(BadStretch(stretch.offset, stretch.length, stretch.reason, bytes(stretch.data)))
        self._stretch = None

    def _follow(self, stretch: _OpenStretch, outline: Outline) -> None:
        """Past what is too long to be held, as far as its brackets can be followed."""
        window = self._window
        self._take(stretch, outline.follow(window.text, self.at, len(window.text)))
        if outline.shape is Shape.OPEN:
            if not window.is_last:
                raise MoreNeeded
            self._take(stretch, len(window.text))
        stretch.outline, stretch.is_broken = None, False

    def _take(self, stretch: _OpenStretch, end: int) -> None:
        stretch.take(self._window.text[self.at : end], max_bytes=self._window.limits.max_event_bytes)
        self.at = end

    def _add_stretch(self, stretch: BadStretch) -> None:
        self.tally.stretches += 1
        self.tally.stretches_bytes += stretch.length
        self._stretch_end = stretch.offset + stretch.length
        self.framed.append(stretch)

    def _describe(self, fault: Fault) -> str:
        return f"{fault.reason} (byte {self._offset + fault.at})"
