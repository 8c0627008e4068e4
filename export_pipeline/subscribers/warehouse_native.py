"""Load a batch into a table without dlt: rows, new columns and the note of whose they are in one transaction."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import DeliveryError
from export_pipeline.subscribers.warehouse_columns import OWN_COLUMNS, Column, Owner, TableColumns
from export_pipeline.subscribers.warehouse_rows import Overflow, Rows, keep_rows, place, read_rows

OWNERS_TABLE = "_export_columns"
"""Table beside the data that tells for each column which member's values it holds."""
_MARK = "_event_id"
_CONTINUED, _MADE_HERE = "continued", "made here"
# dlt's own columns of tables that it made of objects; nothing may be null in them.
_OF_DLT = ("_dlt_id", "_dlt_load_id")


@dataclass(frozen=True, slots=True)
class Table:
    """Where the rows go, and by which rules.

    Attributes:
        is_frozen: an event that needs a new column is refused.
        by_content: equal events are one row.
    """

    schema: str
    name: str
    is_frozen: bool = False
    by_content: bool = False
    overflow: Overflow = "json"
    max_columns: int = 1_000


@dataclass(frozen=True, slots=True)
class TableLayout:
    """A table as the database describes it.

    Attributes:
        columns: none: there is no such table.
        used: how many columns the database counts, dropped ones included.
    """

    columns: Sequence[Column]
    used: int


class LoadSession(ABC):
    """An open transaction in a database."""

    types: ClassVar[Mapping[str, str]]
    """Kind of a column → the database's type."""
    mark: ClassVar[str]
    """How a parameter is written."""
    max_name_bytes: ClassVar[int]
    max_columns: ClassVar[int]
    max_row_bytes: ClassVar[int | None] = None
    takes_nul: ClassVar[bool] = True
    own_types: ClassVar[Mapping[str, str]]
    """Name of each of OWN_COLUMNS → its type and constraint."""

    @abstractmethod
    def ask(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that *statement* gives."""

    @abstractmethod
    def lock(self, table: Table) -> None:
        """Keep every other load into *table* waiting until this transaction ends."""

    @abstractmethod
    def layout(self, table: Table) -> TableLayout:
        """The columns of *table*."""

    @abstractmethod
    def ids_in(self, table: Table, ids: Sequence[str]) -> set[str]:
        """Which of these ``_event_id`` are in *table*, from whatever batch."""

    @abstractmethod
    def ids_of(self, table: Table, batch_id: str, ids: Sequence[str], *, with_parts: bool) -> set[str]:
        """Which of these ``_event_id`` are in *table* from the batch *batch_id*, and from what was a part of it."""

    @abstractmethod
    def write(self, table: Table, columns: Sequence[tuple[str, str, Sequence[Any]]]) -> None:
        """Insert rows. *columns*: name, kind (``timestamp`` beside those of a column) and values of each."""


class Database(ABC):
    """A database that rows are loaded into."""

    session_type: ClassVar[type[LoadSession]]

    @abstractmethod
    def session(self) -> AbstractContextManager[LoadSession]:
        """A transaction, committed where the block ends well."""

    @abstractmethod
    def check(self) -> None:
        """Reach it, and leave nothing behind."""

    @abstractmethod
    def meaning(self, error: Exception) -> DeliveryError:
        """What an *error* of the driver means for the batch."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""

    def has_loaded(self, table: Table) -> bool:
        """Whether *table* was loaded in this way before."""
        with self.session() as session:
            if not session.layout(Table(table.schema, OWNERS_TABLE)).columns:
                return False
            kept = quoted(table.schema, OWNERS_TABLE)
            statement = f"SELECT 1 FROM {kept} WHERE table_name = {session.mark} LIMIT 1"  # noqa: S608
            return bool(session.ask(statement, [table.name]))

    def load(self, batch: Batch, table: Table) -> Receipt:
        """Insert those events of *batch* that *table* does not have.

        Raises:
            Whatever the driver raises; nothing was inserted then.
        """
        kind = self.session_type
        rows = read_rows(batch, by_content=table.by_content, takes_nul=kind.takes_nul)
        present = 0
        if rows.positions:
            with self.session() as session:
                present = _load(session, rows, table)
        return Receipt(refused=rows.refused, detail=_told(len(rows.positions), present, rows.repeated))


def quoted(*names: str) -> str:
    """A name of SQL, qualified."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _told(inserted: int, present: int, repeated: int) -> str:
    text = f"{inserted} rows inserted"
    if present:
        text += f", {present} were in the table already"
    if repeated:
        text += f", {repeated} equal events left out (dedupe: content)"
    return text


def _load(session: LoadSession, rows: Rows, table: Table) -> int:
    """Insert *rows*; return how many of them were there already, and are in *rows* no longer."""
    session.lock(table)
    layout = session.layout(table)
    owners, is_continued = _owners(session, table, exists=bool(layout.columns))
    columns = TableColumns(
        layout.columns,
        owners,
        max_name_bytes=session.max_name_bytes,
        max_columns=min(table.max_columns, session.max_columns),
        used=layout.used,
    )
    place(
        rows,
        columns,
        may_grow=not (table.is_frozen and layout.columns),
        overflow=table.overflow,
        max_row_bytes=session.max_row_bytes,
    )
    if not rows.positions:
        return 0
    _grow(session, table, layout, columns)
    present = _leave_out_present(session, rows, table, is_continued=is_continued) if layout.columns else 0
    if rows.positions:
        session.write(table, list(_to_write(rows, columns)))
    return present


def _to_write(rows: Rows, columns: TableColumns) -> Iterator[tuple[str, str, Sequence[Any]]]:
    own = dict(rows.own_columns())
    for name, values in own.items():
        yield name, "timestamp" if name == "_exported_at" else "text", values
    for name, source in zip(_OF_DLT, ("_event_id", "_batch_id"), strict=True):
        if name in columns.existing:
            yield name, "text", own[source]
    for column, values in rows.values.items():
        yield column.name, column.kind, values


def _owners(session: LoadSession, table: Table, *, exists: bool) -> tuple[dict[str, Owner], bool]:
    """Whose each column is, and whether the table was begun by dlt, with ids of another kind."""
    kept = quoted(table.schema, OWNERS_TABLE)
    if not session.layout(Table(table.schema, OWNERS_TABLE)).columns:
        if not session.ask(
            f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {session.mark}",  # noqa: S608
            [table.schema],
        ):
            session.ask(f"CREATE SCHEMA {quoted(table.schema)}")
        text = session.types["text"]
        session.ask(
            f"CREATE TABLE {kept} (table_name {text} NOT NULL, column_name {text} NOT NULL, member {text}, "
            f"type {text}, PRIMARY KEY (table_name, column_name))"
        )
    if not exists:  # it was dropped, and so was what its columns held
        session.ask(f"DELETE FROM {kept} WHERE table_name = {session.mark}", [table.name])  # noqa: S608
    found = session.ask(
        f"SELECT column_name, member, type FROM {kept} WHERE table_name = {session.mark}",  # noqa: S608
        [table.name],
    )
    marks = [kind for name, member, kind in found if name == _MARK and member is None]
    if not marks:
        marks = [_CONTINUED if exists else _MADE_HERE]
        _note(session, table, [(_MARK, None, marks[0])])
    owners = {name: Owner(member, kind) for name, member, kind in found if member is not None}
    return owners, marks[0] == _CONTINUED


def _note(session: LoadSession, table: Table, noted: Iterable[tuple[str, str | None, str | None]]) -> None:
    """Keep whose columns these are: name, member, type. A column of that name that was dropped is forgotten."""
    kept = quoted(table.schema, OWNERS_TABLE)
    for name, member, kind in noted:
        session.ask(
            f"DELETE FROM {kept} WHERE table_name = {session.mark} AND column_name = {session.mark}",  # noqa: S608
            [table.name, name],
        )
        session.ask(
            f"INSERT INTO {kept} VALUES ({', '.join([session.mark] * 4)})",  # noqa: S608
            [table.name, name, member, kind],
        )


def _grow(session: LoadSession, table: Table, layout: TableLayout, columns: TableColumns) -> None:
    place_ = quoted(table.schema, table.name)
    own = {name: session.own_types[name] for name in OWN_COLUMNS if name not in columns.existing}
    new = {column.name: session.types[column.kind] for column in columns.added}
    if not layout.columns:
        defined = ", ".join(f"{quoted(name)} {kind}" for name, kind in {**own, **new}.items())
        session.ask(f"CREATE TABLE {place_} ({defined})")
    else:
        for name, kind in {**own, **new}.items():
            session.ask(f"ALTER TABLE {place_} ADD COLUMN {quoted(name)} {kind.removesuffix(' NOT NULL')}")
    _note(session, table, ((name, owner.member, owner.kind) for name, owner in columns.claimed.items()))


def _leave_out_present(session: LoadSession, rows: Rows, table: Table, *, is_continued: bool) -> int:
    """Take out of *rows* those that the table has; return how many they were."""
    if table.by_content:
        present = session.ids_in(table, rows.event_ids)
    else:
        # The table's first rows are known by their bytes alone, of whatever batch: such a row is this event's
        # only where it came with the same batch, as of one that was under way when the version changed.
        ids = [*rows.event_ids, *rows.former_ids] if is_continued else rows.event_ids
        present = session.ids_of(table, rows.batch_id, ids, with_parts=is_continued)
    if not present:
        return 0
    before = len(rows.positions)
    known = [
        event in present or (is_continued and not table.by_content and former in present)
        for event, former in zip(rows.event_ids, rows.former_ids, strict=True)
    ]
    keep_rows(rows, lambda row: not known[row])
    return before - len(rows.positions)
