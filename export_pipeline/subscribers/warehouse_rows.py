"""Events as rows: the values of every top-level member, read exactly; :mod:`.warehouse_placing` finds their columns."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Any

import msgspec

from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers.parsing import Unfit, parse_exactly
from export_pipeline.subscribers.warehouse_columns import OWN_COLUMNS, Column

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
# In JSON, half of a surrogate pair can only be written as an escape, and so can U+0000.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
# A double represents any number of up to 15 digits exactly.
_SURELY_EXACT_BYTES = 16
# Fewer characters, including a sign, always fit into 64 bits.
_SURELY_INT64 = 19
BEYOND = "digits"
"""Kind of a number that neither a 64-bit integer nor a double can represent: its digits are stored as text."""


@dataclass(slots=True)
class Member:
    """The values of one member in a batch, with their rows, in order, and kinds."""

    rows: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, row: int, kind: str, value: Any) -> None:
        """One more value."""
        self.rows.append(row)
        self.kinds.append(kind)
        self.values.append(value)

    def extend(self, rows: Sequence[int], kind: str, values: Sequence[Any]) -> None:
        """More values, all of one kind."""
        self.rows += rows
        self.kinds += [kind] * len(rows)
        self.values += values

    def sort(self) -> None:
        """Put the values into the order of their rows: the first one's kind is the column's."""
        if any(row > after for row, after in pairwise(self.rows)):
            order = sorted(range(len(self.rows)), key=self.rows.__getitem__)
            self.rows = [self.rows[index] for index in order]
            self.kinds = [self.kinds[index] for index in order]
            self.values = [self.values[index] for index in order]


@dataclass(slots=True)
class Rows:
    """The rows of a batch.

    Attributes:
        event_ids: ``_event_id`` of each; see :func:`event_id`.
        former_ids: the id that earlier versions used, derived from the event's bytes alone.
        positions: the position of each in the batch.
        refused: position in the batch → why the event cannot be stored exactly.
        repeated: how many equal events were skipped (``dedupe: content``).
        values: column → row → value; JSON is text, or the raw bytes of the event.
    """

    batch: Batch
    file: str
    exported_at: datetime
    event_ids: list[str] = field(default_factory=list)
    former_ids: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    repeated: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    values: dict[Column, list[Any]] = field(default_factory=dict)

    @property
    def batch_id(self) -> str:
        """Id of the planned batch of which this is a part or the whole."""
        return self.batch.whole_id or self.batch.id

    def own_columns(self) -> Iterator[tuple[str, list[Any]]]:
        """Name and values of each of OWN_COLUMNS."""
        count = len(self.event_ids)
        yield from zip(
            OWN_COLUMNS,
            (self.event_ids, [self.batch_id] * count, [self.file] * count, [self.exported_at] * count),
            strict=True,
        )


def read_rows(batch: Batch, *, by_content: bool, takes_nul: bool) -> Rows:
    """The events of *batch*, decoded, without columns yet.

    Args:
        by_content: equal events are one row (``dedupe: content``).
        takes_nul: the destination can store U+0000 in text.
    """
    (rows,) = read_slices(batch, by_content=by_content, takes_nul=takes_nul, slice_bytes=len(batch.data))
    return rows


def read_slices(batch: Batch, *, by_content: bool, takes_nul: bool, slice_bytes: int) -> Iterator[Rows]:
    """Like :func:`read_rows`, about *slice_bytes* of events at a time: rows need several times as much memory."""
    files = batch.files[0] if len(batch.files) == 1 else f"{batch.files[0]} … {batch.files[-1]}"
    # A key may contain characters that text in a database cannot.
    files = files.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
    now = datetime.now(timezone.utc)
    seen: dict[str, int] = {}
    lines = batch.lines()
    start, size = 0, 0
    for stop, line in enumerate(lines, start=1):
        size += len(line) + 1
        if size >= slice_bytes or stop == len(lines):
            rows = Rows(batch, files, now)
            _read(rows, lines, range(start, stop), seen, by_content=by_content, takes_nul=takes_nul)
            yield rows
            start, size = stop, 0


def _read(
    rows: Rows, lines: Sequence[bytes], positions: range, seen: dict[str, int], *, by_content: bool, takes_nul: bool
) -> None:
    whole_id, places = rows.batch_id, rows.batch.positions
    reading = _Reading(rows.members, takes_nul=takes_nul)
    for position in positions:
        line = lines[position]
        content = hashlib.sha256(line).hexdigest()
        number = seen.get(content, 0) + 1
        if by_content and number > 1:
            rows.repeated += 1
            continue
        try:
            reading.read(line, len(rows.positions))
        except Unfit as reason:
            rows.refused[position] = str(reason)
            continue
        seen[content] = number
        rows.positions.append(position)
        rows.former_ids.append(content if number == 1 else f"{content}-{number}")
        rows.event_ids.append(content if by_content else event_id(whole_id, places, position, content))
    reading.finish()


class _Reading:
    """Adds the values of events to *members*: those of the first events one by one, then as learned from these.

    Args:
        takes_nul: the destination can store U+0000 in text.
    """

    def __init__(self, members: "dict[str, Member]", *, takes_nul: bool) -> None:
        self._members = members
        self._takes_nul = takes_nul
        self._usual: _Usual | None = None
        self._learned = 0

    def read(self, line: bytes, row: int) -> None:
        """Read the event in *line*.

        Raises:
            Unfit: it cannot be stored exactly.
        """
        if self._usual is not None and self._usual.read(line, row, self._members):
            return
        for name, kind, value in _cells(line, takes_nul=self._takes_nul):
            member = self._members.get(name)
            if member is None:
                member = self._members[name] = Member()
            member.add(row, kind, value)
        self._learned += 1
        if self._learned in _LEARNED:
            self.finish()
            self._usual = _Usual.of(self._members)

    def finish(self) -> None:
        """Complete *members*, in the order of rows."""
        if self._usual is None:
            return
        self._usual.finish(self._members)
        if self._learned > min(_LEARNED):
            for member in self._members.values():
                member.sort()


_LEARNED = frozenset({16, 64, 256, 1024})
"""Numbers of events read one by one after which the usual members and kinds are determined."""
# msgspec does not accept characters that JSON escapes in the name of a field.
_NO_FIELD = re.compile(r'[\\"\x00-\x1f]')
_NESTED = frozenset(b"{[")
_MOST_USUAL = 300
_AT_A_TIME = 128
"""Number of events whose values are collected together: more would not fit into the processor's cache."""


class _Usual:
    """Reads events whose members and kinds were seen before; faster than one by one.

    An event is decoded into an object with an attribute for each member, and the values of a member are checked
    together.

    Args:
        fields: member and kind of its values so far; ``""`` if there are several kinds.
    """

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        self._fields = fields
        self._decode = _decoder(fields)
        self._rows: list[int] = []
        self._events: list[Any] = []

    @classmethod
    def of(cls, members: Mapping[str, "Member"]) -> "_Usual | None":
        """A reader for events like those that *members* came from; None if there is none."""
        if not 0 < len(members) <= _MOST_USUAL or any(map(_NO_FIELD.search, members)):
            return None
        kinds = ((name, set(member.kinds)) for name, member in members.items())
        return cls(tuple((name, found.pop() if len(found) == 1 else "") for name, found in kinds))

    def read(self, line: bytes, row: int, members: "dict[str, Member]") -> bool:
        """Read the event in *line*; False if it is not usual."""
        # A surrogate or NUL can only be written as an escape. One byte is found ten times as fast as two.
        if b"\\" in line and b"\\u" in line:
            return False
        try:
            self._events.append(self._decode(line))
        except (msgspec.MsgspecError, RecursionError):
            return False
        self._rows.append(row)
        if len(self._rows) >= _AT_A_TIME:
            self.finish(members)
        return True

    def finish(self, members: "dict[str, Member]") -> None:
        """Add the values read so far to *members*."""
        events, self._events = self._events, []
        rows, self._rows = self._rows, []
        for number, (name, usual) in enumerate(self._fields):
            kind = usual
            get = attrgetter(f"f{number}")
            found = list(map(get, events))
            where = rows
            if None in found:
                where = [row for row, value in zip(rows, found, strict=True) if value is not None]
                found = [value for value in found if value is not None]
            if kind == "json":
                if not _are_nested(found):
                    kind = ""
            elif kind == "bigint" and (numbers := _whole_numbers(found)) is not None:
                found = numbers
            elif kind not in ("text", "bool"):
                kind = ""
            if not kind:
                for row, raw in zip(where, found, strict=True):
                    own_kind, value = _value(raw)
                    if own_kind:
                        members[name].add(row, own_kind, value)
                continue
            members[name].extend(where, kind, found)


def _are_nested(found: Sequence[msgspec.Raw]) -> bool:
    """Whether every one of *found* is an object or a list."""
    # A view of each, to look at its first byte, would take four times as long as copying all of them.
    data = b"".join(found)
    starts = accumulate(map(len, found[:-1]), initial=0)
    return not found or _NESTED.issuperset(map(data.__getitem__, starts))


def _whole_numbers(found: Sequence[msgspec.Raw]) -> list[int] | None:
    """The values of *found*; None if one of them is not just digits, or may not fit into 64 bits."""
    if not found:
        return []
    digits = b",".join(found)
    if not digits.replace(b",", b"").isdigit() or max(map(len, found)) >= _SURELY_INT64:
        return None
    return list(map(int, digits.split(b",")))


@lru_cache(maxsize=64)
def _decoder(fields: tuple[tuple[str, str], ...]) -> Callable[[bytes], Any]:
    types: dict[str, Any] = {"text": str | None, "bool": bool | None}
    made = msgspec.defstruct(
        "Event",
        [(f"f{number}", types.get(kind, msgspec.Raw), None) for number, (_, kind) in enumerate(fields)],
        rename={f"f{number}": name for number, (name, _) in enumerate(fields)},
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(made).decode


def event_id(whole_id: str, places: Sequence[int] | None, position: int, content: str) -> str:
    """The id of one event's delivery: the planned batch, the event's position in it, and its bytes.

    It is the same for the same event however often and in whatever parts its batch is delivered, and whichever other
    events a filter selects; an equal event has a different one. It includes the bytes so that events are not confused
    if a batch with the same id contains other events.
    """
    return f"{whole_id}-{places[position] if places is not None else position}-{content[:16]}"


def _cells(line: bytes, *, takes_nul: bool) -> list[tuple[str, str, Any]]:
    """Member, kind and value of each member of the event in *line* that is not null.

    Raises:
        Unfit: the event cannot be stored exactly.
    """
    if b"\\u" in line and _SURROGATE.search(line):
        parse_exactly(line)
    if not takes_nul and b"\\u0000" in line and _NUL.search(line):
        raise Unfit("a text contains the character U+0000, which the destination cannot store")
    try:
        return [
            (name, kind, value) for name, raw in _MEMBERS.decode(line).items() for kind, value in (_value(raw),) if kind
        ]
    except (msgspec.DecodeError, RecursionError) as error:
        parse_exactly(line)
        raise Unfit(f"cannot be decoded: {error}") from None


def _value(raw: msgspec.Raw) -> tuple[str, Any]:
    """Kind and value; an empty kind means null."""
    first = memoryview(raw)[0]
    if first in b"{[":
        return "json", raw
    if first == 0x22:
        return "text", _TEXT.decode(raw)
    if first == 0x6E:
        return "", None
    if first in b"tf":
        return "bool", first == 0x74
    return exact_number(str(raw, "utf-8"))


def exact_number(digits: str) -> tuple[str, Any]:
    """Kind and value of a number that a 64-bit integer or a double can represent, otherwise ``digits`` and its text."""
    if digits.lstrip("-").isdigit():
        if len(digits) < _SURELY_INT64 or (len(digits) <= 20 and -(2**63) <= int(digits) < 2**63):
            return "bigint", int(digits)
        return BEYOND, digits
    value = float(digits)
    if (len(digits) <= _SURELY_EXACT_BYTES and "e" not in digits.lower()) or _gives_back(value, digits):
        return "double", value
    return BEYOND, digits


def _gives_back(value: float, digits: str) -> bool:
    """Whether *value*, printed in full or in its shortest form, is the number written as *digits*."""
    if value in (float("inf"), float("-inf")) or len(digits) > 400:
        return False
    try:
        meant = Decimal(digits)
        return meant == Decimal(repr(value)) or meant == Decimal(f"{value:.17g}")
    except ArithmeticError:  # an exponent beyond the range of Decimal
        return False


def keep_rows(rows: Rows, is_kept: Callable[[int], bool]) -> None:
    """Keep only the rows for whose number *is_kept* is true."""
    kept = [row for row in range(len(rows.positions)) if is_kept(row)]
    lists: list[list[Any]] = [rows.positions, rows.event_ids, rows.former_ids, *rows.values.values()]
    for values in lists:
        values[:] = [values[row] for row in kept]
