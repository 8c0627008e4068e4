"""Load rows into a table of a DuckDB file, by Arrow."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import DeliveryError
from export_pipeline.subscribers.warehouse_arrow import Values, arrow_array
from export_pipeline.subscribers.warehouse_columns import Column
from export_pipeline.subscribers.warehouse_errors import meaning_of_duckdb
from export_pipeline.subscribers.warehouse_folder import check_folder
from export_pipeline.subscribers.warehouse_native import Database, LoadSession, Prepared, Table, TableLayout, quoted

if TYPE_CHECKING:
    import duckdb

_KINDS = {"DOUBLE": "double", "BOOLEAN": "bool", "VARCHAR": "text", "JSON": "json"}
_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
_INCOMING = "_export_incoming"
_MEMORY_LIMITS = ("100MB", "400MB", None)
"""How much DuckDB may use for a load; the next one if that is too little. None: as much as DuckDB does by default.

It needs 256 KB for each column, and more to write into large tables; what does not fit is in ``<file>.tmp`` meanwhile.
"""

T = TypeVar("T")


class _DuckdbSession(LoadSession):
    types: ClassVar = {"bigint": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN", "text": "VARCHAR", "json": "JSON"}
    own_types: ClassVar = {
        "_event_id": "VARCHAR NOT NULL",
        "_batch_id": "VARCHAR",
        "_file": "VARCHAR",
        "_exported_at": "TIMESTAMP WITH TIME ZONE",
    }
    mark: ClassVar = "?"
    max_name_bytes: ClassVar = 255
    max_columns: ClassVar = 100_000

    def __init__(self, connection: "duckdb.DuckDBPyConnection") -> None:
        self._connection = connection
        self._expected: Sequence[str] = ()
        self._present: dict[str, set[str]] | None = None

    def expect(self, batch_ids: Sequence[str]) -> None:
        """Query the table once for all of them, because it has no index."""
        self._expected = batch_ids

    def ask(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, list(parameters)).fetchall()

    def lock(self, table: Table) -> None:
        """Do nothing: while the file is open, no other process can use it."""

    def layout(self, table: Table) -> TableLayout:
        found = self.ask(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() "
            "AND schema_name = ? AND table_name = ? ORDER BY column_index",
            [table.schema, table.name],
        )
        return TableLayout([_column(name, kind) for name, kind in found], len(found))

    def ids_in(self, table: Table, ids: Sequence[str]) -> set[str]:
        statement = f"SELECT _event_id FROM {quoted(table.schema, table.name)} WHERE _event_id IN (SELECT unnest(?))"  # noqa: S608
        return {found for (found,) in self.ask(statement, [list(ids)])}

    def ids_of(self, table: Table, batch_id: str, ids: Sequence[str], *, with_parts: bool) -> set[str]:
        place = quoted(table.schema, table.name)
        if with_parts:
            statement = f"SELECT _event_id FROM {place} WHERE _batch_id = ? OR starts_with(_batch_id, ?)"  # noqa: S608
            return {found for (found,) in self.ask(statement, [batch_id, f"{batch_id}-"])}
        if self._present is None:
            self._present = {one: set() for one in (batch_id, *self._expected)}
            marks = ", ".join("?" * len(self._present))
            statement = f"SELECT _batch_id, _event_id FROM {place} WHERE _batch_id IN ({marks})"  # noqa: S608
            for found, event in self.ask(statement, list(self._present)):
                self._present[found].add(event)
        return self._present[batch_id]

    def prepare(self, columns: Sequence[Values]) -> Prepared:
        import pyarrow as pa

        arrays = [arrow_array(kind, values) for _, kind, values in columns]
        # With this type DuckDB does not validate the JSON again.
        is_json = pa.json_(pa.string())
        incoming = pa.Table.from_arrays(
            [
                pa.ExtensionArray.from_storage(is_json, array) if kind == "json" else array
                for array, (_, kind, _) in zip(arrays, columns, strict=True)
            ],
            names=[f"c{number}" for number in range(len(columns))],
        )
        return Prepared(", ".join(quoted(name) for name, _, _ in columns), incoming)

    def write(self, table: Table, rows: Prepared) -> None:
        self._connection.register(_INCOMING, rows.data)
        place = quoted(table.schema, table.name)
        self.ask(f"INSERT INTO {place} ({rows.columns}) SELECT * FROM {_INCOMING}")  # noqa: S608
        self._connection.unregister(_INCOMING)


class Duckdb(Database):
    """The database in *file*, open only during a load or a query: DuckDB allows one process at a time."""

    session_type: ClassVar = _DuckdbSession

    def __init__(self, file: str) -> None:
        self._file = file
        self._memory_limits = [*_MEMORY_LIMITS]

    def close(self) -> None:
        """Do nothing: the file is open only within a session."""

    @contextmanager
    def session(self) -> Iterator[LoadSession]:
        import duckdb

        if os.path.dirname(self._file):
            os.makedirs(os.path.dirname(self._file), exist_ok=True)
        # A load is too small for several threads: they would take more CPU time and memory, and save little.
        config: dict[str, Any] = {"threads": 1}
        if limit := self._memory_limits[0]:
            config["memory_limit"] = limit
        with duckdb.connect(self._file, config=config) as connection:
            connection.begin()
            # No rollback if the block fails: closing the connection discards what is not committed.
            yield _DuckdbSession(connection)
            connection.commit()

    def has_loaded(self, table: Table) -> bool:
        has_loaded = super().has_loaded
        return os.path.exists(self._file) and self._with_enough_memory(lambda: has_loaded(table))

    def load_many(self, batches: Sequence[Batch], table: Table) -> list[Receipt]:
        load_many = super().load_many
        return self._with_enough_memory(lambda: load_many(batches, table))

    def _with_enough_memory(self, work: Callable[[], T]) -> T:
        """Do *work*, which opens the file; repeat it with a higher limit if DuckDB runs out of memory."""
        import duckdb

        while True:
            try:
                return work()
            except duckdb.Error as error:
                # A commit that fails for this reason raises another type.
                ran_out = isinstance(error, duckdb.OutOfMemoryException) or "memory limit" in str(error)
                if not ran_out or len(self._memory_limits) == 1:
                    raise
                del self._memory_limits[0]

    def check(self) -> None:
        import duckdb

        if os.path.exists(self._file):
            duckdb.connect(self._file, read_only=True).close()
        else:
            check_folder(os.path.dirname(os.path.abspath(self._file)))

    def meaning(self, error: Exception) -> DeliveryError:
        return meaning_of_duckdb(error)


def _column(name: str, data_type: str) -> Column:
    if data_type in _BITS:
        bits = _BITS[data_type]
        return Column(name, "bigint", (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    return Column(name, _KINDS.get(data_type, "other"))
