"""Events as objects whose nested objects dlt turns into tables, with names and types that dlt does not change.

dlt would write two members into one column if their names normalise to the same, and convert a value to a column's type
whenever that is possible (``7`` to true). So each member gets its name here, and a value of another type than its
column's gets a separate column, ``<column>_v_<type>``. What dlt cannot store exactly is refused.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers.parsing import Unfit
from export_pipeline.subscribers.warehouse_columns import OVERFLOW, in_snake_case, is_reserved
from export_pipeline.subscribers.warehouse_native import Table
from export_pipeline.subscribers.warehouse_rows import Rows, exact_number, keep_rows

Scope = tuple[str, ...]
"""The names that lead to an object, from the root."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """The location of an object: by *scope*, and for dlt in a row of *table*, by *path* within the row."""

    scope: Scope
    table: str
    path: Scope = ()

    def within(self, name: str) -> "_Spot":
        """The location of the object *name* in this one."""
        return _Spot((*self.scope, name), self.table, (*self.path, name))

    def items(self, name: str) -> "_Spot":
        """The location of the items of the list *name* in this one, for which dlt creates a table."""
        return _Spot((*self.scope, name), "__".join((self.table, *self.path, name)))

    def column(self, name: str) -> str:
        """dlt's name of the column for *name*."""
        return "__".join((*self.path, name))


_ITEM = "\0value"
"""The name for the plain values of a list, which dlt stores in a column ``value``; no member has this name."""
# Names that dlt uses in the tables it creates for lists.
_OF_LISTS = frozenset({"list"})
# dlt marks types by characters of Unicode's private use area, and would treat such a text as marked.
_MARKS = ("\uf020", "\uf03f")
_SEPARATOR = "/"
# What earlier versions let dlt convert to timestamps, which have microseconds.
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")


class _NoRoom(Exception):
    """There is no room for another column."""


class _Digits(str):
    """A number that neither a 64-bit integer nor a double can represent."""

    __slots__ = ()


class NestedNames:
    """The names of all members at all depths, stored at the destination.

    Args:
        kept: what :meth:`kept` returned before.
        kinds: table → column → type, according to dlt.
        table: the root table.
    """

    def __init__(self, kept: Mapping[str, Any], kinds: Mapping[str, Mapping[str, str]], table: Table) -> None:
        self._kinds_of_tables = kinds
        self._table = table
        self._may_grow = not (table.is_frozen and table.name in kinds)
        self._names: dict[tuple[Scope, str], str] = {}
        self._variants: dict[tuple[Scope, str, str], str] = {}
        self._kinds: dict[tuple[Scope, str], str] = {}
        self._taken: set[tuple[Scope, str]] = set()
        self._kept = dict(kept)
        for path, entry in self._kept.items():
            member, variant, kind = (*entry, None)[:3]
            *scope, name = path.split(_SEPARATOR)
            self._note(tuple(scope), name, member, variant, kind)

    def kept(self) -> Mapping[str, Any]:
        """Path of a column → its member, the variant's type if it is one, and its type."""
        return self._kept

    def lacks_room(self, event: Mapping[str, Any]) -> bool:
        """Whether *event* alone has more new members than there is room for; then none of them gets a column."""
        fresh = sum(((), member) not in self._names for member in event)
        return fresh > self._table.max_columns - len(self._kept)

    def has(self, member: str) -> bool:
        """Whether *member* of the root already has a name."""
        return ((), member) in self._names

    def name(self, scope: Scope, member: str) -> str:
        """The name of *member* in the objects at *scope*."""
        known = self._names.get((scope, member))
        if known is not None:
            return known
        base = "value" if member == _ITEM else in_snake_case(member, ascii_only=True)
        is_taken = (scope, base) in self._taken or is_reserved(base) or (scope and base in _OF_LISTS)
        return self._new(scope, self._hashed(base, member) if is_taken else base, member, None, None)

    def column(self, spot: _Spot, member: str, kind: str, text: str) -> tuple[str, bool]:
        """The name for a value of type *kind*, and whether a whole number becomes a double there.

        Args:
            text: the value, if it is text.
        """
        scope = spot.scope
        name = self.name(scope, member)
        known = self._kinds_of_tables.get(spot.table, {})
        made = known.get(spot.column(name))
        wanted = made or self._kinds.get((scope, name))
        if wanted is None:
            if not self._may_grow:
                raise Unfit(f"{member}: the table has no column for it, and is frozen")
            self._note_kind(scope, name, kind)
            return name, False
        if wanted == kind or (wanted == "timestamp" and kind == "text" and _INSTANT.fullmatch(text)):
            return name, False
        if wanted == "double" and kind == "bigint":
            return name, True
        variant = self._variants.get((scope, member, kind))
        if variant is None:
            base = f"{name}_v_{kind}"
            is_taken = (scope, base) in self._taken or spot.column(base) in known
            variant = self._new(scope, self._hashed(base, member) if is_taken else base, member, kind, kind)
        return variant, False

    def is_json(self, spot: _Spot, member: str) -> bool:
        """Whether the column of *member* is JSON: then dlt creates no table for its content."""
        name = self._names.get((spot.scope, member))
        if name is None:
            return False
        made = self._kinds_of_tables.get(spot.table, {}).get(spot.column(name))
        return "json" in (made, self._kinds.get((spot.scope, name)))

    def _new(self, scope: Scope, name: str, member: str, variant: str | None, kind: str | None) -> str:
        if not self._may_grow:
            raise Unfit(f"{member}: the table has no column for it or for its type, and is frozen")
        if len(self._kept) >= self._table.max_columns:
            raise _NoRoom
        self._kept[_SEPARATOR.join((*scope, name))] = [member, variant, kind]
        self._note(scope, name, member, variant, kind)
        return name

    def _note(self, scope: Scope, name: str, member: str, variant: str | None, kind: str | None) -> None:
        self._taken.add((scope, name))
        if variant is None:
            self._names[scope, member] = name
        else:
            self._variants[scope, member, variant] = name
        if kind is not None:
            self._kinds[scope, name] = kind

    def _note_kind(self, scope: Scope, name: str, kind: str) -> None:
        self._kinds[scope, name] = kind
        path = _SEPARATOR.join((*scope, name))
        self._kept[path] = [*self._kept[path][:2], kind]

    def _hashed(self, base: str, member: str) -> str:
        return f"{base}_x{hashlib.sha256(member.encode()).hexdigest()[:12]}"


def nested_rows(rows: Rows, names: NestedNames, batch: Batch, table: Table, *, levels: int) -> list[dict[str, Any]]:
    """The events of *rows* as objects for dlt; those that it cannot store exactly are moved to ``rows.refused``."""
    lines = batch.lines()
    own = dict(rows.own_columns())
    found: list[dict[str, Any]] = []
    out: set[int] = set()
    for row, position in enumerate(rows.positions):
        try:
            event = json.loads(lines[position], parse_int=_exact, parse_float=_exact)
            made = _Event(names, table, levels).of(event)
        except Unfit as reason:
            rows.refused[position] = str(reason)
        except RecursionError:
            rows.refused[position] = "nested too deeply to be read by this subscriber"
        else:
            found.append(made | {name: values[row] for name, values in own.items()})
            continue
        out.add(row)
    if out:
        keep_rows(rows, lambda row: row not in out)
    return found


def _exact(digits: str) -> Any:
    kind, value = exact_number(digits)
    return value if kind in ("bigint", "double") else _Digits(digits)


class _Event:
    """Converts one event for dlt, following dlt's rules of nesting."""

    def __init__(self, names: NestedNames, table: Table, levels: int) -> None:
        self._names = names
        self._table = table
        self._levels = levels

    def of(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """*event* with the names of its columns."""
        made: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        is_too_much = self._names.lacks_room(event)
        for member in sorted(event, key=lambda member: (in_snake_case(member, ascii_only=True) != member, member)):
            one = {member: event[member]}
            try:
                if is_too_much and not self._names.has(member):
                    raise _NoRoom
                made |= self._object(one, _Spot((), self._table.name), self._levels, self._levels)
            except _NoRoom:
                if self._table.overflow == "quarantine":
                    raise Unfit(f"{member}: the table has no room for another column") from None
                _refuse_inexact(member, event[member])
                rest[member] = event[member]
        if rest:
            made[OVERFLOW] = rest
        return made

    def _object(self, given: Mapping[str, Any], spot: _Spot, level: int, row_level: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for member, value in given.items():
            if value is None:
                continue
            is_table = level > 0 and not self._names.is_json(spot, member)
            if isinstance(value, dict) and is_table:
                name = self._names.name(spot.scope, member)
                made[name] = self._object(value, spot.within(name), level - 1, row_level)
            elif isinstance(value, list) and is_table:
                name = self._names.name(spot.scope, member)
                made[name] = self._items(value, spot.items(name), row_level - 1)
            else:
                name, stored = self._scalar(member, value, spot)
                made[name] = stored
        return made

    def _items(self, given: Sequence[Any], spot: _Spot, row_level: int) -> list[Any]:
        made: list[Any] = []
        for item in given:
            if isinstance(item, dict):
                made.append(self._object(item, spot, row_level, row_level))
            elif isinstance(item, list):
                level = row_level - 1
                if level > 0:
                    made.append(self._items(item, spot.items("list"), level - 1))
                else:
                    _refuse_inexact("list", item)
                    made.append(item)
            elif item is None:
                made.append(None)
            else:
                name, stored = self._scalar(_ITEM, item, spot)
                made.append({name: stored})
        return made

    def _scalar(self, member: str, value: Any, spot: _Spot) -> tuple[str, Any]:
        kind = _kind(value)
        if kind == "json":
            _refuse_inexact(member, value)
        elif kind == "text":
            _refuse_marked(member, value)
        name, is_double = self._names.column(spot, member, kind, value if kind == "text" else "")
        if is_double:
            if int(float(value)) != value:
                return self._scalar(member, _Digits(value), spot)
            return name, float(value)
        return name, str(value) if isinstance(value, _Digits) else value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "bigint"
    if isinstance(value, float):
        return "double"
    return "text" if isinstance(value, str) else "json"


def _refuse_inexact(member: str, value: Any) -> None:
    """Raise Unfit if dlt would change the content of *value*, which becomes JSON."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, _Digits):
            raise Unfit(f"{member}: dlt cannot store the number {one[:40]} in JSON exactly")
        if isinstance(one, str):
            _refuse_marked(member, one)
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one


def _refuse_marked(member: str, text: str) -> None:
    if _MARKS[0] <= text[:1] <= _MARKS[1]:
        raise Unfit(f"{member}: dlt cannot store text that begins with the character U+{ord(text[0]):04X}")
