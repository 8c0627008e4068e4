"""Load a batch into a table without dlt: rows, new columns and their owners in one transaction."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import DeliveryError
from export_pipeline.subscribers.warehouse_arrow import Values
from export_pipeline.subscribers.warehouse_columns import OWN_COLUMNS, Column, Owner, TableColumns
from export_pipeline.subscribers.warehouse_placing import Overflow
from export_pipeline.subscribers.warehouse_placing import place as place_rows
from export_pipeline.subscribers.warehouse_rows import Rows, keep_rows, read_slices

OWNERS_TABLE = "_export_columns"
"""Table in the same schema that records which member's values each column holds."""
_MARK = "_event_id"
_CONTINUED, _MADE_HERE = "continued", "made here"
# dlt's own columns in tables that it created from objects; they must not be null.
_OF_DLT = ("_dlt_id", "_dlt_load_id")


@dataclass(frozen=True, slots=True)
class Table:
    """The destination of the rows, and the rules for them.

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
    """A table as described by the database.

    Attributes:
        columns: empty: the table does not exist.
        used: how many columns the database counts, dropped ones included.
    """

    columns: Sequence[Column]
    used: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows that are ready to be inserted.

    Attributes:
        columns: their names, quoted and joined.
        data: in a form that the database accepts.
        form: which form that is, if there are several.
    """

    columns: str
    data: Any
    form: str = ""


class LoadSession(ABC):
    """An open transaction in a database."""

    types: ClassVar[Mapping[str, str]]
    """Kind of a column → the database's type."""
    mark: ClassVar[str]
    """The placeholder of a parameter."""
    max_name_bytes: ClassVar[int]
    max_columns: ClassVar[int]
    max_row_bytes: ClassVar[int | None] = None
    takes_nul: ClassVar[bool] = True
    own_types: ClassVar[Mapping[str, str]]
    """Name of each of OWN_COLUMNS → its type and constraint."""

    @abstractmethod
    def ask(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute *statement*; returns its rows."""

    @abstractmethod
    def lock(self, table: Table) -> None:
        """Make every other load into *table* wait until this transaction ends."""

    @abstractmethod
    def layout(self, table: Table) -> TableLayout:
        """The columns of *table*."""

    @abstractmethod
    def ids_in(self, table: Table, ids: Sequence[str]) -> set[str]:
        """Which of these ``_event_id`` are in *table*, from any batch."""

    @abstractmethod
    def ids_of(self, table: Table, batch_id: str, ids: Sequence[str], *, with_parts: bool) -> set[str]:
        """Which of these ``_event_id`` are in *table* from *batch_id*, or if *with_parts* from parts of it."""

    def expect(self, batch_ids: Sequence[str]) -> None:  # noqa: B027 (most have nothing to prepare)
        """Announce that rows of these batches come next."""

    def refuses_repeats(self, table: Table) -> bool:
        """Whether *table* rejects an ``_event_id`` that it already has, and :meth:`write_once` reports it."""
        return False

    @abstractmethod
    def prepare(self, columns: Sequence[Values]) -> "Prepared":
        """Convert rows for :meth:`write`; may be called while :meth:`begin`'s work is running.

        Args:
            columns: name, kind (that of a column, or ``timestamp``) and values of each.
        """

    @abstractmethod
    def write(self, table: Table, rows: "Prepared") -> None:
        """Insert *rows*."""

    def write_once(self, table: Table, rows: "Prepared") -> bool:
        """Like :meth:`write`, but writes nothing and returns False if *table* already has one of the rows."""
        raise NotImplementedError

    def begin(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do *work*, possibly in the background; the returned function waits until it is done.

        Nothing else uses the session in the meantime.
        """
        work()
        return _nothing_to_wait_for


class Database(ABC):
    """A database that rows are loaded into."""

    session_type: ClassVar[type[LoadSession]]

    @abstractmethod
    def session(self) -> AbstractContextManager[LoadSession]:
        """A transaction, committed if the block ends without an error."""

    @abstractmethod
    def check(self) -> None:
        """Connect to it, and leave nothing behind."""

    @abstractmethod
    def meaning(self, error: Exception) -> DeliveryError:
        """The delivery error that an *error* of the driver means."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def has_loaded(self, table: Table) -> bool:
        """Whether *table* was loaded without dlt before."""
        with self.session() as session:
            if not session.layout(Table(table.schema, OWNERS_TABLE)).columns:
                return False
            kept = quoted(table.schema, OWNERS_TABLE)
            statement = f"SELECT 1 FROM {kept} WHERE table_name = {session.mark} LIMIT 1"  # noqa: S608
            return bool(session.ask(statement, [table.name]))

    def load_many(self, batches: Sequence[Batch], table: Table) -> list[Receipt]:
        """Insert those events of *batches* that *table* does not have, in one transaction.

        Raises:
            Any error of the driver; nothing was inserted then.
        """
        told = [Told() for _ in batches]
        with self.session() as session:
            session.expect([batch.whole_id or batch.id for batch in batches])
            loading = _Loading(session, table)
            wait = _nothing_to_wait_for
            for batch, became in zip(batches, told, strict=True):
                # All slices of the batch that creates the table may add columns.
                may_grow = loading.may_grow
                for rows in read_slices(
                    batch,
                    by_content=table.by_content,
                    takes_nul=self.session_type.takes_nul,
                    slice_bytes=SLICE_BYTES,
                ):
                    ready = loading.place(rows, became, may_grow=may_grow)
                    wait()  # for the previous slice, which was written while this one was read
                    wait = loading.put(rows, ready, became)
            wait()
        return [one.receipt() for one in told]


SLICE_BYTES = 8 << 20
"""How much of a batch is converted into rows at a time."""


def _nothing_to_wait_for() -> None:
    pass


@dataclass(slots=True)
class Told:
    """The result of a batch."""

    refused: dict[int, str] = field(default_factory=dict)
    inserted: int = 0
    present: int = 0
    repeated: int = 0

    def receipt(self) -> Receipt:
        text = f"{self.inserted} rows inserted"
        if self.present:
            text += f", {self.present} were already in the table"
        if self.repeated:
            text += f", {self.repeated} equal events skipped (dedupe: content)"
        return Receipt(refused=self.refused, detail=text)


def quoted(*names: str) -> str:
    """A qualified, quoted SQL name."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


class _Loading:
    """Inserts rows into one table, in one transaction."""

    def __init__(self, session: LoadSession, table: Table) -> None:
        self._session = session
        self._table = table
        session.lock(table)
        self._read_layout()
        self._was_there = self._exists
        self._refuses_repeats = (
            self._exists and not (self._is_continued or table.by_content) and session.refuses_repeats(table)
        )

    @property
    def may_grow(self) -> bool:
        """Whether columns may be added."""
        return not (self._table.is_frozen and self._exists)

    def place(self, rows: Rows, became: Told, *, may_grow: bool) -> Prepared | None:
        """Decide on the columns of *rows* without the database; None: it is needed before they can be written."""
        columns = self._columns
        place_rows(
            rows,
            columns,
            may_grow=may_grow,
            overflow=self._table.overflow,
            max_row_bytes=self._session.max_row_bytes,
        )
        became.refused |= rows.refused
        became.repeated += rows.repeated
        if not rows.positions or not self._exists or columns.added or columns.claimed:
            return None
        return self._session.prepare(list(rows_to_write(rows, columns)))

    def put(self, rows: Rows, ready: Prepared | None, became: Told) -> Callable[[], None]:
        """Insert *rows*, and record the result; the returned function waits until that is done."""
        session = self._session
        if ready is None:
            if rows.positions:
                _grow(session, self._table, self._columns, exists=self._exists)
            self._read_layout()  # if no row is left, the new columns are dropped
            if not rows.positions:
                return _nothing_to_wait_for
            ready = session.prepare(list(rows_to_write(rows, self._columns)))
        prepared = ready

        def write() -> None:
            became.present += self._write(rows, prepared)
            became.inserted += len(rows.positions)

        return session.begin(write)

    def _read_layout(self) -> None:
        session, table = self._session, self._table
        layout = session.layout(table)
        self._exists = bool(layout.columns)
        owners, self._is_continued = _owners(session, table, exists=self._exists)
        self._columns = TableColumns(
            layout.columns,
            owners,
            max_name_bytes=session.max_name_bytes,
            max_columns=min(table.max_columns, session.max_columns),
            used=layout.used,
        )

    def _write(self, rows: Rows, ready: Prepared) -> int:
        """Insert those of *rows* that the table does not have; returns how many it had."""
        session, table = self._session, self._table
        if self._refuses_repeats and session.write_once(table, ready):
            return 0
        # Rows of this load itself can only be there as equal events.
        look = self._was_there or table.by_content
        present = _leave_out_present(session, rows, table, is_continued=self._is_continued) if look else 0
        if present and rows.positions:
            ready = session.prepare(list(rows_to_write(rows, self._columns)))
        if rows.positions:
            session.write(table, ready)
        return present


def rows_to_write(rows: Rows, columns: TableColumns, *, by_dlt: bool = False) -> Iterator[Values]:
    """Name, kind and values of each column.

    Args:
        by_dlt: leave out dlt's own columns, which dlt fills itself.
    """
    own = dict(rows.own_columns())
    for name, values in own.items():
        yield name, "timestamp" if name == "_exported_at" else "text", values
    for name, source in zip(_OF_DLT, ("_event_id", "_batch_id"), strict=True):
        if name in columns.existing and not by_dlt:
            yield name, "text", own[source]
    for column, values in rows.values.items():
        yield column.name, column.kind, values


def _owners(session: LoadSession, table: Table, *, exists: bool) -> tuple[dict[str, Owner], bool]:
    """The owner of each column, and whether the table was started by dlt, with ids of another kind."""
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
    if not exists:  # it was dropped, and its columns with it
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
    """Store the owners of columns: name, member, type. Replaces the entry of a dropped column with the same name."""
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


def _grow(session: LoadSession, table: Table, columns: TableColumns, *, exists: bool) -> None:
    place_ = quoted(table.schema, table.name)
    own = {name: session.own_types[name] for name in OWN_COLUMNS if name not in columns.existing}
    new = {column.name: session.types[column.kind] for column in columns.added}
    if not exists:
        defined = ", ".join(f"{quoted(name)} {kind}" for name, kind in {**own, **new}.items())
        session.ask(f"CREATE TABLE {place_} ({defined})")
    else:
        for name, kind in {**own, **new}.items():
            session.ask(f"ALTER TABLE {place_} ADD COLUMN {quoted(name)} {kind.removesuffix(' NOT NULL')}")
    _note(session, table, ((name, owner.member, owner.kind) for name, owner in columns.claimed.items()))


def _leave_out_present(session: LoadSession, rows: Rows, table: Table, *, is_continued: bool) -> int:
    """Remove from *rows* those that the table has; returns how many they were."""
    if table.by_content:
        present = session.ids_in(table, rows.event_ids)
    else:
        # The table's first rows are identified by their bytes alone, in any batch: such a row is this event only if it
        # came with the same batch, as one that was in progress when the version changed.
        ids = [*rows.event_ids, *rows.former_ids] if is_continued else rows.event_ids
        present = session.ids_of(table, rows.batch_id, ids, with_parts=is_continued)
    return leave_out(rows, present, by_former=is_continued and not table.by_content)


def leave_out(rows: Rows, present: Set[str], *, by_former: bool = True) -> int:
    """Remove the rows whose ids are *present* from *rows*; return how many were removed.

    Args:
        by_former: also compare the ids that earlier versions used.
    """
    if not present:
        return 0
    before = len(rows.positions)
    known = [
        event in present or (by_former and former in present)
        for event, former in zip(rows.event_ids, rows.former_ids, strict=True)
    ]
    keep_rows(rows, lambda row: not known[row])
    return before - len(rows.positions)
