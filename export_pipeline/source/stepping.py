"""One step at a time through a file: separators, then one event or one malformed record. Slow, but exact on any input.

To find where reading continues after malformed data, text is examined that is not accounted for. The cost is bounded:
``free_look_bytes``, plus ``LOOKS_PER_BYTE`` for each byte of the file so far. Once more was spent, as no realistic file
requires, lines are taken one by one: what begins a line and ends in it may be an event, and consecutive lines without
one are quarantined together.
"""

import re
from dataclasses import dataclass, field

from export_pipeline.source.framed import KEPT_BYTES, BadStretch, Framed, Lines, Tally
from export_pipeline.source.outline import Brackets, Shape
from export_pipeline.source.resync import LOOK_BYTES, Looks, bad_stretch, rest_of_line
from export_pipeline.source.rfc8259 import Fault, compact
from export_pipeline.source.window import MoreNeeded, Window

_BLANK = b" \t\r\n"
_blank = re.compile(rb"[ \t\r\n]*")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SEPARATORS = b",\x1e"  # also between events outside any array: RFC 7464, or the remains of one
_before_event = re.compile(rb"(?:[ \t\r,\x1e]+|\xef\xbb\xbf){0,8}")
_may_be_object = re.compile(rb'\{[ \t\r]*["}]')
_array_of_objects = re.compile(rb"\[[ \t\r]*[{\n]")
_GOES_ON = {b",", b":", b"}"}
LOOKS_PER_BYTE = 8
"""How many bytes may be examined in vain for each byte of a file."""
_RECORD_BYTES = 192  # minimum cost of keeping a malformed record, in the same unit as looks
_KINDS = {b'"': "a string", b"[": "an array", b"t": "a boolean", b"f": "a boolean", b"n": "null"}


@dataclass(slots=True)
class _OpenStretch:
    """A malformed record whose end has not been found.

    Attributes:
        is_broken: a bracket opens at the current position, and what it encloses is known not to be an event.
        outline: of an event that is too long, as far as it has been followed.
        by_line: it ends with its line, whatever it contains.
    """

    offset: int
    reason: str
    is_broken: bool
    outline: Brackets | None
    by_line: bool = False
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
        at: position in the window; everything before it has been accounted for.
        tally: what was found so far.
        framed: results so far, for the owner to take away.
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
        self._looked_bytes = 0
        self._last_byte = b""  # of what was accounted for before this window, except white space

    @property
    def in_array(self) -> bool:
        """The elements of a top-level array are being read."""
        return self._array_offset is not None

    @property
    def in_stretch(self) -> bool:
        """A malformed record has begun and its end has not been found."""
        return self._stretch is not None

    @property
    def looked_bytes(self) -> int:
        """How many bytes have been examined without being accounted for."""
        return self._looked_bytes

    def move(self, window: Window) -> None:
        """Continue with *window*, which begins at the current position."""
        self._note_last_byte()
        self._offset += self.at
        self._window, self.at = window, 0

    def finish(self) -> None:
        """Record what is missing in a file that has ended at the current position."""
        end = self._offset + self.at
        # After a comma the array continues in another file, as when an array was split into several files.
        self._note_last_byte()
        if self._array_offset is not None and self._stretch_end != end and self._last_byte != b",":
            reason = f"the array that begins at byte {self._array_offset} is not closed: the file may be truncated"
            self._add_stretch(BadStretch(end, 0, reason, b""))

    def step(self, target: int) -> None:
        """Advance to *target*, or past one event or one malformed record.

        Raises:
            MoreNeeded: there is not enough text to tell one from the other.
        """
        if self._stretch is not None:
            self._pass_over(self._stretch)
            return
        self._skip_separators()
        if self.at >= target:
            return
        if self._looks_left() < 0:
            self._step_in_line()
            return
        byte = self._window.byte_at(self.at)
        if byte == b"{":
            self._read_object()
        elif byte == b"[" and not self.in_array and self._opens_array():
            self._open_array()
        else:
            self._read_other()

    def pass_events(self, events: list[bytes], size_bytes: int) -> None:
        """Account for the next *size_bytes*: *events* as they are in the file, and separators."""
        events_bytes = sum(map(len, events))
        self.tally.events += len(events)
        self.tally.events_bytes += events_bytes
        self.tally.separators_bytes += size_bytes - events_bytes
        self.at += size_bytes
        if events:
            self.framed.append(events)

    def pass_lines(self, events: int, size_bytes: int) -> None:
        """Account for the next *size_bytes*: *events* events, each followed by a line feed, and nothing else."""
        text = self._window.text
        # A view keeps its whole text in memory, a copy only itself.
        lines = memoryview(text) if 2 * size_bytes >= len(text) else text
        self._note(Lines(lines[self.at : self.at + size_bytes], events))
        self.at += size_bytes

    def pass_ahead(self, lines: Lines) -> None:
        """Account for *lines*, which follow the window in the file, once the whole window has been accounted for."""
        self._note(lines)
        self._offset += len(lines.text)
        self._last_byte = b"}"

    def pass_separators(self, end: int) -> None:
        """Account for the bytes up to *end* as separators."""
        self.tally.separators_bytes += end - self.at
        self.at = end

    def _note(self, lines: Lines) -> None:
        self.tally.events += lines.events
        self.tally.events_bytes += len(lines.text) - lines.events
        self.tally.separators_bytes += lines.events
        self.framed.append(lines)

    def _note_last_byte(self) -> None:
        text, at = self._window.text, self.at
        last = text[max(0, at - 64) : at].rstrip(_BLANK) or text[:at].rstrip(_BLANK)
        self._last_byte = last[-1:] or self._last_byte

    def _open_array(self) -> None:
        self._array_offset = self._offset + self.at
        self.pass_separators(self.at + 1)

    def _looks_left(self) -> int:
        """How many more bytes may be examined in vain."""
        free = self._window.limits.free_look_bytes
        return free + LOOKS_PER_BYTE * (self._offset + self.at) - self._looked_bytes

    def _looked(self, at: int, found: int | Fault) -> None:
        """Count a look from *at* on that did not find an event."""
        self._looked_bytes += LOOK_BYTES + (found.reached if isinstance(found, Fault) else found) - at

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
            elif byte and byte in _SEPARATORS:
                self.pass_separators(self.at + 1)
            elif byte == b"]" and self.in_array:
                self.pass_separators(self.at + 1)
                self._array_offset = None
            elif byte == b"]" and (end := self._behind_stray_brackets()):
                self.pass_separators(end)
            else:
                return

    def _behind_stray_brackets(self) -> int:
        """Position after the brackets here, which may end arrays of events that began in another file, or nowhere.

        0 if something follows them that they are a part of.
        """
        end, byte = self._window.behind_brackets(self.at)
        return 0 if byte in _GOES_ON else end

    def _read_object(self) -> None:
        found = self._window.object_at(self.at)
        if isinstance(found, Fault):
            self._looked(self.at, found)
            self._begin_stretch(found, is_broken=True, outline=Brackets() if found.cut else None)
            return
        self._pass_object(found)

    def _pass_object(self, found: int) -> None:
        event = self._window.text[self.at : found]
        self.tally.events += 1
        self.tally.events_bytes += len(event)
        self.framed.append([compact(event) if b"\n" in event or b"\r" in event else event])
        self.at = found

    def _opens_array(self) -> bool:
        """Whether an array of objects begins here: the first is an event, or malformed and followed by a value."""
        window = self._window
        first, byte = window.behind_blanks(self.at + 1)
        if byte != b"{":
            return byte == b"]"
        found = window.object_at(first)
        if not isinstance(found, Fault) or found.cut:
            self._looked(first, found)
            return True
        outline, reached = window.outline_at(first)
        opens = outline.shape is Shape.CLOSED and window.behind_blanks(reached)[1] == b","
        self._looked(first, max(reached, found.reached))
        return opens

    def _read_other(self) -> None:
        """Past what is not an object."""
        found = self._window.value_at(self.at)
        byte = self._window.byte_at(self.at)
        if isinstance(found, Fault):
            self._looked(self.at, found)
            self._begin_stretch(found, is_broken=byte == b"[")
            return
        fault = Fault(self.at, f"{_KINDS.get(byte, 'a number')}, not an object")
        if not self.in_array:
            self._looked(self.at, found)
            self._begin_stretch(fault, is_broken=byte == b"[")
            return
        data = self._window.text[self.at : found]
        self._add_stretch(BadStretch(self._offset + self.at, len(data), self._describe(fault), data))
        self.at = found

    def _begin_stretch(self, fault: Fault, *, is_broken: bool, outline: Brackets | None = None) -> None:
        self._stretch = _OpenStretch(self._offset + self.at, self._describe(fault), is_broken, outline)
        self._pass_over(self._stretch)

    def _pass_over(self, stretch: _OpenStretch) -> None:
        """Advance to the end of *stretch*."""
        window = self._window
        if stretch.outline is not None:
            self._follow(stretch, stretch.outline)
        goes_on = True
        while goes_on:
            if stretch.by_line:
                end, goes_on = rest_of_line(window, self.at)
            else:
                looks = Looks(self._looks_left())
                end, goes_on = bad_stretch(window, self.at, looks, is_broken=stretch.is_broken, in_array=self.in_array)
                self._looked_bytes += looks.spent_bytes
            if not goes_on:
                end = self.at + len(window.text[self.at : end].rstrip(_BLANK))
            self._take(stretch, end)
            stretch.is_broken = False
        self._add_stretch(BadStretch(stretch.offset, stretch.length, stretch.reason, bytes(stretch.data)))
        self._stretch = None

    def _step_in_line(self) -> None:
        """Past one event that ends in this line, or past lines without one: too much has been examined already."""
        window = self._window
        end = window.whole_line_end(self.at)
        byte = window.byte_at(self.at)
        if not self.in_array and _array_of_objects.match(window.text, self.at, end + 1):
            self._open_array()
            return
        fault = Fault(self.at, "not an event")
        if byte == b"{":
            found = window.object_before(self.at, end)
            if not isinstance(found, Fault):
                self._pass_object(found)
                return
            fault = Fault(found.at, "line ends inside the event (truncated record?)") if found.cut else found
        reason = f"{self._describe(fault)}; so much of the file is malformed that only whole lines are checked here"
        stretch = _OpenStretch(self._offset + self.at, reason, is_broken=False, outline=None, by_line=True)
        last_line = self._last_line_without_event(end)
        self._stretch = stretch
        self._take(stretch, last_line)
        self._pass_over(stretch)

    def _last_line_without_event(self, end: int) -> int:
        """Where the last of the non-empty lines without an event begins, from here on; the first ends at *end*.

        Consecutive lines without events are one stretch, up to the size of which everything is kept.
        """
        window = self._window
        begin = last = self.at
        # A line longer than may be examined may or may not end just there: this cannot be known.
        while end - self.at < KEPT_BYTES and 0 <= window.line_end(begin) == end:
            next_begin, end = end + 1, window.whole_line_end(end + 1)
            match = _before_event.match(window.text, next_begin, end)
            at = next_begin if match is None else match.end()
            byte = window.text[at : min(at + 1, end)]
            if not self.in_array and _array_of_objects.match(window.text, at, end + 1):
                break
            if _may_be_object.match(window.text, at, end) and not isinstance(window.object_before(at, end), Fault):
                break
            if byte:
                last = next_begin
            begin = next_begin
        return last

    def _follow(self, stretch: _OpenStretch, outline: Brackets) -> None:
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
        self._looked_bytes += _RECORD_BYTES
        self.tally.stretches += 1
        self.tally.stretches_bytes += stretch.length
        self._stretch_end = stretch.offset + stretch.length
        self.framed.append(stretch)

    def _describe(self, fault: Fault) -> str:
        return f"{fault.reason} (byte {self._offset + fault.at})"
