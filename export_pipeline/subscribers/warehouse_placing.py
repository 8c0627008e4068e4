"""The column of each value of the rows read: every top-level member has one, each value is stored exactly.

A value that a column cannot store exactly, such as text in a numeric column or a number beyond 64 bits, goes into a
variant of the column; what there is no room for goes into the column ``_overflow``, or the event is refused.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from export_pipeline.subscribers.warehouse_columns import OVERFLOW, Column, Slot, TableColumns
from export_pipeline.subscribers.warehouse_rows import BEYOND, Member, Rows, keep_rows

Overflow = Literal["json", "quarantine"]


def place(
    rows: Rows,
    columns: TableColumns,
    *,
    may_grow: bool,
    overflow: Overflow,
    max_row_bytes: int | None = None,
) -> None:
    """Find the column of each value, and decide on new ones.

    Args:
        may_grow: columns may be added; otherwise an event that needs one is refused.
        overflow: if there is no room for a column: store the value in ``_overflow``, or refuse the event.
        max_row_bytes: maximum size of a row in the database; see :func:`_width`.
    """
    _Placing(rows, columns, may_grow, overflow, max_row_bytes).run()


@dataclass(slots=True)
class _Placing:
    rows: Rows
    columns: TableColumns
    may_grow: bool
    overflow: Overflow
    max_row_bytes: int | None
    rest: dict[int, dict[str, str]] = field(default_factory=dict)
    """Row → its overflow: member → JSON."""
    refused: dict[int, str] = field(default_factory=dict)
    """Row → reason."""

    def run(self) -> None:
        spilled = self._too_wide()
        for name in self._new_members(spilled):
            self.columns.add(name, _common_kind(self.rows.members[name].kinds))
        for name, member in self.rows.members.items():
            slot = self.columns.slots.get(name)
            out = spilled.get(name, set())
            if slot is not None and not out and _holds_all(slot.column, member):
                self._scatter(slot.column, member)
            else:
                self._place_one_by_one(name, slot, member, out)
        if self.rest:
            column = Column(OVERFLOW, "json")
            values_of = self._values_of(column)
            for row, rest in self.rest.items():
                values_of[row] = "{" + ",".join(f"{_json_text(name)}:{value}" for name, value in rest.items()) + "}"
            if OVERFLOW not in self.columns.existing:
                self.columns.added.append(column)
        self.rows.members = {}
        if self.refused:
            self._leave_out()

    def _values_of(self, column: Column) -> list[Any]:
        values = self.rows.values.get(column)
        if values is None:
            values = self.rows.values[column] = [None] * len(self.rows.positions)
        return values

    def _scatter(self, column: Column, member: Member) -> None:
        values_of = self._values_of(column)
        if len(member.rows) == len(values_of):  # every row has one
            values_of[:] = member.values
            return
        for row, value in zip(member.rows, member.values, strict=True):
            values_of[row] = value

    def _place_one_by_one(self, name: str, slot: Slot | None, member: Member, out: set[int]) -> None:
        for row, kind, value in zip(member.rows, member.kinds, member.values, strict=True):
            if row in out or slot is None:
                self._spill(row, name, kind, value)
                continue
            column: Column | None = slot.column
            stored = _stored(slot.column, kind, value)
            if stored is None:
                stored_kind = "text" if kind == BEYOND else kind
                column = self.columns.variant(name, stored_kind, may_add=self.may_grow)
                stored = None if column is None else _stored(column, kind, value)
            if column is None or stored is None:
                self._spill(row, name, kind, value)
            else:
                self._values_of(column)[row] = stored

    def _spill(self, row: int, name: str, kind: str, value: Any) -> None:
        if not self.may_grow:
            self.refused.setdefault(row, f"{name}: the frozen table has no column for it, or for its type ({kind})")
        elif self.overflow == "quarantine":
            self.refused.setdefault(row, f"{name}: the table has no room for another column, or the row is too long")
        else:
            self.rest.setdefault(row, {})[name] = _as_json(kind, value)

    def _new_members(self, spilled: dict[str, set[int]]) -> list[str]:
        """The members that get a new column, in the order in which they get their names.

        An event that alone needs more columns than there is room for gets none, so that it does not use up the room.
        """
        fresh = []
        for name in sorted(self.rows.members, key=self.columns.sort_key):
            if name not in self.columns.slots and self.columns.claim(name) is None:
                fresh.append(name)
        if not self.may_grow:
            return []
        wanted = [name for name in fresh if len(spilled.get(name, ())) < len(self.rows.members[name].rows)]
        if len(wanted) <= self.columns.room:
            return wanted
        needed: dict[int, list[str]] = {}
        for name in wanted:
            for row in self.rows.members[name].rows:
                if row not in spilled.get(name, ()):
                    needed.setdefault(row, []).append(name)
        chosen: set[str] = set()
        for row in sorted(needed):
            further = [name for name in needed[row] if name not in chosen]
            if len(chosen) + len(further) <= self.columns.room:
                chosen.update(further)
        return [name for name in wanted if name in chosen]

    def _too_wide(self) -> dict[str, set[int]]:
        """Member → the rows that would be too long with it."""
        found: dict[str, set[int]] = {}
        if self.max_row_bytes is None or len(self.rows.members) * _WIDEST_BYTES < self.max_row_bytes:
            return found
        widths: dict[int, int] = {}
        for member in self.rows.members.values():
            for row, kind, value in zip(member.rows, member.kinds, member.values, strict=True):
                widths[row] = widths.get(row, 0) + _width(kind, value)
        wide = {row for row, width in widths.items() if width > self.max_row_bytes}
        # Members that the table or other events have are kept as long as there is room; the others are removed first.
        common = {
            name
            for name, member in self.rows.members.items()
            if name in self.columns.slots or not wide.issuperset(member.rows)
        }
        filled = dict.fromkeys(wide, 0)
        for name in sorted(self.rows.members, key=lambda name: name not in common):
            member = self.rows.members[name]
            is_new = name not in common
            for row, kind, value in zip(member.rows, member.kinds, member.values, strict=True):
                if row not in wide:
                    continue
                filled[row] += _width(kind, value)
                if is_new or filled[row] > self.max_row_bytes:
                    found.setdefault(name, set()).add(row)
        return found

    def _leave_out(self) -> None:
        """Remove the refused rows."""
        rows = self.rows
        for row, reason in self.refused.items():
            rows.refused[rows.positions[row]] = reason
        keep_rows(rows, lambda row: row not in self.refused)


# PostgreSQL: a value of variable length takes at most an 18-byte pointer to its storage, and its alignment;
# shorter ones are in the row.
_WIDEST_BYTES = 28


def _width(kind: str, value: Any) -> int:
    """An upper bound of the size of a value in a PostgreSQL row, in bytes."""
    if kind in ("bigint", "double", "bool"):
        return 8
    return min(4 * len(value) + 8, _WIDEST_BYTES)


def _common_kind(kinds: Sequence[str]) -> str:
    """The type of a new column: that of its first value, except that whole and other numbers together are double."""
    numbers = {"bigint", "double"}.intersection(kinds)
    if len(numbers) == 2 and kinds[0] in (*numbers, BEYOND):
        return "double"
    if kinds[0] == BEYOND:
        return next(iter(numbers), "text")
    return kinds[0]


def _holds_all(column: Column, member: Member) -> bool:
    """Whether every value can be stored unchanged, without checking each."""
    if column.kind == "bigint" and column.bounds[0] > -(2**63):
        return False
    is_plain = column.kind in ("bigint", "double", "bool", "text", "json") and column.max_characters is None
    return is_plain and member.kinds.count(column.kind) == len(member.kinds)


def _stored(column: Column, kind: str, value: Any) -> Any:
    """*value* as stored in *column*; None: the column cannot store it exactly."""
    if column.kind == "json":
        return _as_json(kind, value)
    if column.kind == "text" and kind in ("text", BEYOND):
        return None if column.max_characters is not None and len(value) > column.max_characters else value
    if column.kind == "bigint" and kind == "bigint":
        return value if column.bounds[0] <= value <= column.bounds[1] else None
    if column.kind == "double" and kind == "bigint":
        return float(value) if int(float(value)) == value else None
    return value if column.kind == kind else None


def _as_json(kind: str, value: Any) -> str:
    if kind == "text":
        return _json_text(value)
    if kind == "bool":
        return "true" if value else "false"
    if kind == "double":
        return repr(value)
    return str(value, "utf-8") if kind == "json" and not isinstance(value, str) else str(value)


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
