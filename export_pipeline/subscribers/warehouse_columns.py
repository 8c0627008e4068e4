"""Which column holds which member: decided once per table, and independent of the batch.

A column's name is the member's in snake case, as dlt names it. If that name already belongs to another member
(``userId`` and ``user_id``), to the database (``ctid``) or to this package (``_event_id``), the member gets another
column, whose name ends in a hash of the member's. Values of another type than the column's go into a variant,
``<column>__v_<type>``. The owner of a column is stored at the destination, so that no later batch can change it.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

OWN_COLUMNS = ("_event_id", "_batch_id", "_file", "_exported_at")
OVERFLOW = "_overflow"
"""JSON column for the members without a column."""

# System columns of PostgreSQL, DuckDB, Redshift, Oracle and SQLite; a user column must not have, or hide, such a name.
_OF_DATABASES = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "oid", "tableoid", "rowid", "rownum", "insertxid"})
# dlt's own columns, and prefixes that BigQuery refuses.
_RESERVED_PREFIXES = ("_dlt_", "_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")

_REDUCED = str.maketrans("+-*@|", "x_xal")
_BREAK_BEFORE_WORD = re.compile("([^_])([A-Z][a-z]+)")
_BREAK_BEFORE_CAPITAL = re.compile("([a-z0-9])([A-Z])")
_UNDERSCORES = re.compile("__+")
_NOT_ASCII_WORD = re.compile(r"[^a-zA-Z0-9_]+")
_NOT_WORD = re.compile(r"\W+")
_LONGEST_SUFFIX_BYTES = len("__v_bigint")

INT64 = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the destination.

    Attributes:
        name: its name in the table.
        kind: ``bigint``, ``double``, ``bool``, ``text``, ``json``, or ``other``, which no member's value is stored in.
        bounds: lowest and highest whole number of a ``bigint``.
        max_characters: maximum length of a ``text``; None: no limit.
    """

    name: str
    kind: str
    bounds: tuple[int, int] = INT64
    max_characters: int | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """What a column holds: the values of *member*; a variant only those of type *kind*."""

    member: str
    kind: str | None = None


@dataclass(slots=True)
class Slot:
    """The columns of one member."""

    column: Column
    variants: dict[str, Column] = field(default_factory=dict)


class TableColumns:
    """The columns of one table and their owners, and the names of new columns.

    Args:
        existing: the columns of the table; empty: the table does not exist yet.
        owners: name of a column → its owner, as stored at the destination. Columns of the table that are missing here
            were created by dlt, or by a user: each goes to the first member with its name.
        max_name_bytes: maximum length of a name in the database.
        max_columns: maximum number of columns, including *existing*.
        used: how many columns the database counts, if it counts dropped ones, too.
        ascii_only: the destination does not accept other letters.
    """

    def __init__(
        self,
        existing: Iterable[Column],
        owners: Mapping[str, Owner],
        *,
        max_name_bytes: int,
        max_columns: int,
        used: int | None = None,
        ascii_only: bool = False,
    ) -> None:
        self.existing = {column.name: column for column in existing}
        self.added: list[Column] = []
        self.claimed: dict[str, Owner] = {}
        self._max_name_bytes = max_name_bytes
        self._ascii_only = ascii_only
        # One is reserved for the overflow.
        self.room = max(0, max_columns - max(used or 0, len(self.existing)) - (OVERFLOW not in self.existing))
        self._taken = {name.lower() for name in self.existing} | {*OWN_COLUMNS, OVERFLOW}
        self._free = {
            name
            for name in self.existing
            if name not in owners and name not in OWN_COLUMNS and name != OVERFLOW and not name.startswith("_dlt_")
        }
        self.slots: dict[str, Slot] = {}
        for is_variant in (False, True):  # a variant belongs to a column
            for name, owner in owners.items():
                column = self.existing.get(name)
                if column is None or (owner.kind is not None) != is_variant:
                    continue
                if owner.kind is None:
                    self.slots[owner.member] = Slot(column)
                elif owner.member in self.slots:
                    self.slots[owner.member].variants[owner.kind] = column

    def settle(self) -> None:
        """Record that the added columns are in the table now, and their owners are stored."""
        self.existing |= {column.name: column for column in self.added}
        self.added = []
        self.claimed = {}

    def sort_key(self, member: str) -> tuple[bool, str]:
        """Members get their names in this order: a member named exactly like a column keeps the name."""
        return self._base(member) != member, member

    def claim(self, member: str) -> Slot | None:
        """The columns of a *member* that has none yet, if the table has one without an owner."""
        base = self._base(member)
        # A name with the member's hash identifies its owner, even if that was not stored.
        for name in (self._hashed(base, member), base):
            if name in self._free and not is_reserved(name):
                self._free.discard(name)
                return self._own(member, self.existing[name])
        return None

    def add(self, member: str, kind: str) -> Slot:
        """A new column of type *kind* for *member*."""
        base = self._base(member)
        name = base
        if is_reserved(base) or base.lower() in self._taken:
            name = self._beside(base, member)
        column = self._new(name, kind)
        return self._own(member, column)

    def variant(self, member: str, kind: str, *, may_add: bool) -> Column | None:
        """The column for values of *member* of type *kind*, which is not the type of its column."""
        slot = self.slots[member]
        if kind in slot.variants:
            return slot.variants[kind]
        suffix = f"__v_{kind}"
        name = slot.column.name + suffix
        if len(name.encode()) > self._max_name_bytes:
            name = self._hashed(slot.column.name, member, len(suffix)) + suffix
        if name in self._free and self.existing[name].kind == kind:
            self._free.discard(name)
            column = self.existing[name]
        elif not may_add or self.room <= 0:
            return None
        else:
            if name.lower() in self._taken:
                name = self._beside(name, member)
            column = self._new(name, kind)
        slot.variants[kind] = column
        self.claimed[column.name] = Owner(member, kind)
        return column

    def _own(self, member: str, column: Column) -> Slot:
        slot = self.slots[member] = Slot(column)
        self.claimed[column.name] = Owner(member)
        return slot

    def _new(self, name: str, kind: str) -> Column:
        column = Column(name, kind)
        self._taken.add(name.lower())
        self.added.append(column)
        self.room -= 1
        return column

    def _base(self, member: str) -> str:
        name = in_snake_case(member, ascii_only=self._ascii_only)
        return name if len(name.encode()) <= self._max_name_bytes else self._hashed(name, member)

    def _beside(self, base: str, member: str) -> str:
        if base.startswith(_RESERVED_PREFIXES):
            base = f"x{base}"
        for digits in (6, 16, 32):
            name = self._hashed(base, member, digits=digits)
            if name.lower() not in self._taken:
                return name
        raise AssertionError(f"no free name for {member!r}")  # three hashes of one name would have to be in use

    def _hashed(self, base: str, member: str, further_bytes: int = 0, *, digits: int = 6) -> str:
        """*base*, truncated if it is too long, with a hash of *member* that makes it unique."""
        mark = "_x" + hashlib.sha256(member.encode(errors="surrogatepass")).hexdigest()[:digits]
        room = self._max_name_bytes - len(mark) - further_bytes
        return base.encode()[:room].decode(errors="ignore").rstrip("_") + mark


def in_snake_case(member: str, *, ascii_only: bool) -> str:
    """*member* in snake case, according to dlt's naming convention ``snake_case``.

    Letters of other scripts are kept if the destination accepts them: dlt replaces them by underscores, so that most
    names in another script become the same.
    """
    text = unicodedata.normalize("NFC", member.strip()).translate(_REDUCED)
    text = (_NOT_ASCII_WORD if ascii_only else _NOT_WORD).sub("_", text)
    text = _BREAK_BEFORE_CAPITAL.sub(r"\1_\2", _BREAK_BEFORE_WORD.sub(r"\1_\2", text)).lower()
    if text[:1].isdigit():
        text = "_" + text
    stripped = text.rstrip("_")
    text = stripped + "x" * (len(text) - len(stripped))
    return _UNDERSCORES.sub("_", text) or "unnamed"


def is_reserved(name: str) -> bool:
    """Whether *name* is reserved, so that no member may have a column with this name."""
    return name in OWN_COLUMNS or name in _OF_DATABASES or name == OVERFLOW or name.startswith(_RESERVED_PREFIXES)
