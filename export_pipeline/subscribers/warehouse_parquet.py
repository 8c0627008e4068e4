"""Load rows into Parquet files, one for each batch.

``<schema>/<table>/<batch id>.parquet`` contains the rows of one planned batch, no matter in how many deliveries they
arrived: rows of a later delivery are added to the file, which is replaced as a whole. A repeat therefore changes
nothing, and readers see every row once.

Every file has all columns that were known when it was written, so the newest file has the columns of all others. The
columns and their owners are recorded beside the table, in ``<schema>/_export_columns/<table>/<number>.json``; the
highest number is valid. No number is written twice, so two loads cannot add columns at the same time.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Blocked, DeliveryError, TryLater
from export_pipeline.subscribers.warehouse_arrow import arrow_table, arrow_type
from export_pipeline.subscribers.warehouse_columns import OWN_COLUMNS, Column, Owner, TableColumns
from export_pipeline.subscribers.warehouse_dlt import Dlt, DltOptions, name_of_file
from export_pipeline.subscribers.warehouse_folder import Lake
from export_pipeline.subscribers.warehouse_native import (
    OWNERS_TABLE,
    SLICE_BYTES,
    Table,
    Told,
    leave_out,
    rows_to_write,
)
from export_pipeline.subscribers.warehouse_placing import place
from export_pipeline.subscribers.warehouse_rows import Rows, read_slices

LONGEST_NAME_BYTES = 255
_DLT_VERSIONS = "_dlt_version"
_EXTENSION = ".parquet"


@dataclass(frozen=True, slots=True)
class _Known:
    """The recorded columns of the table.

    Attributes:
        number: number of the record; 0 if there is none yet.
        columns: in the order of a file.
        owners: name of a column → its owner.
        is_continued: dlt created the table.
    """

    number: int
    columns: Sequence[Column]
    owners: Mapping[str, Owner]
    is_continued: bool


class ParquetFiles:
    """The files of one table; to be used by one thread."""

    def __init__(self, lake: Lake, options: DltOptions, table: Table) -> None:
        self._lake = lake
        self._options = options
        self._table = table
        self._known: _Known | None = None
        self._columns: TableColumns | None = None

    def load_many(self, batches: Sequence[Batch], table: Table) -> list[Receipt]:
        """Write those events of *batches* that their files lack."""
        number = self._last_number()
        if self._known is None or self._known.number != number:
            self._known = self._read(number)
            self._columns = None
        return [self._load(batch) for batch in batches]

    def check(self) -> None:
        """Connect to the folder."""
        self._lake.check()

    def has_loaded(self, table: Table) -> bool:
        """Whether *table* was loaded in this way before."""
        return self._last_number() > 0

    def meaning(self, error: Exception) -> DeliveryError:
        """The delivery error that an *error* means."""
        return self._lake.meaning(error)

    def close(self) -> None:
        """Drop the columns, and close connections."""
        self._known = self._columns = None
        self._lake.close()

    def _load(self, batch: Batch) -> Receipt:
        """Write the file of *batch*.

        The batch is decoded in slices, but all its rows are kept in Arrow's format until they are written, because
        only then are the columns of the file known.
        """
        import pyarrow as pa

        told = Told()
        name = f"{self._table.name}/{batch.whole_id or batch.id}{_EXTENSION}"
        before = self._present(name)
        present = _ids_of(before)
        if batch.positions is not None and self._known is not None and self._known.is_continued:
            # dlt wrote a separate file for each selection of events of a batch.
            present |= _ids_of(self._present(f"{self._table.name}/{name_of_file(batch)}{_EXTENSION}"))
        pieces: list[pa.Table] = []
        may_grow = not (self._table.is_frozen and self._known_columns())
        for rows in read_slices(batch, by_content=False, takes_nul=True, slice_bytes=SLICE_BYTES):
            columns = self._place(rows, may_grow=may_grow)
            told.refused |= rows.refused
            told.present += leave_out(rows, present)
            told.inserted += len(rows.positions)
            if rows.positions:
                pieces.append(arrow_table(rows_to_write(rows, columns)))
        if pieces:
            self._lake.put(name, self._as_file(pieces if before is None else [before, *pieces]))
        return told.receipt()

    def _known_columns(self) -> bool:
        return self._known is not None and bool(self._known.columns)

    def _place(self, rows: Rows, *, may_grow: bool) -> TableColumns:
        """Find the column of each value; new columns are recorded before anything is written to them."""
        known = self._known
        assert known is not None  # noqa: S101 (set by load_many)
        columns = self._columns
        if columns is None:
            columns = self._columns = TableColumns(
                known.columns,
                known.owners,
                max_name_bytes=LONGEST_NAME_BYTES,
                max_columns=self._table.max_columns,
            )
        place(rows, columns, may_grow=may_grow, overflow=self._table.overflow)
        if columns.added or columns.claimed:
            if rows.positions:
                self._note(known, columns)
            else:  # all events are refused: no column is added
                self._columns = None
        return columns

    def _note(self, known: _Known, columns: TableColumns) -> None:
        """Record the new columns.

        Raises:
            TryLater: another load has recorded columns in the meantime.
        """
        found = _Known(
            known.number + 1,
            [*known.columns, *columns.added],
            {**known.owners, **columns.claimed},
            known.is_continued,
        )
        if not self._lake.create(self._name_of_note(found.number), _as_json(found)):
            raise TryLater(f"{self._table.name}: another load has added columns at the same time")
        self._known = found
        columns.settle()

    def _last_number(self) -> int:
        names = self._lake.names(f"{OWNERS_TABLE}/{self._table.name}")
        return max((int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdecimal()), default=0)

    def _name_of_note(self, number: int) -> str:
        return f"{OWNERS_TABLE}/{self._table.name}/{number:06}.json"

    def _read(self, number: int) -> _Known:
        if not number:
            return self._take_over()
        data = self._lake.get(self._name_of_note(number))
        if data is None:
            raise TryLater(f"{self._name_of_note(number)} has disappeared")
        return _from_json(number, data)

    def _take_over(self) -> _Known:
        """The columns of a table that has no record yet: those that dlt created, or none.

        Raises:
            Blocked: the table cannot be continued.
        """
        place = f"{self._table.schema}/{self._table.name}"
        files = self._lake.names(self._table.name)
        others = [name for name in files if not name.endswith(_EXTENSION) and not name.startswith(".")]
        if others:
            raise Blocked(
                f"{place} contains {sorted(others)[0]}, which is not the Parquet file of a batch: use another "
                "table_name, or the table_format or file_format that it was loaded with"
            )
        made = Dlt(self._options, self._table).layout() if self._lake.names(_DLT_VERSIONS) else None
        if made is None:
            if files:
                raise Blocked(
                    f"{place} contains Parquet files, but the record of their columns is missing "
                    f"({self._table.schema}/{OWNERS_TABLE}/{self._table.name}): restore it, or use another table_name"
                )
            return _Known(0, [], {}, is_continued=False)
        if made.is_nested:
            raise Blocked(
                f"{place} was loaded with max_table_nesting, and cannot be continued without it: use another "
                "table_name, or set max_table_nesting again"
            )
        return _Known(0, made.columns, made.owners, is_continued=True)

    def _present(self, name: str) -> Any:
        """The file *name* as an Arrow table; None if it does not exist, or dlt was stopped while writing it."""
        import pyarrow as pa
        import pyarrow.parquet

        data = self._lake.get(name)
        try:
            return None if data is None else pyarrow.parquet.read_table(io.BytesIO(data))
        except pa.ArrowInvalid:
            # Nothing can be read from it, and its batch has come again.
            return None

    def _as_file(self, pieces: Sequence[Any]) -> bytes:
        """A Parquet file of *pieces*, with all columns of the table."""
        import pyarrow as pa
        import pyarrow.parquet

        columns = self._columns
        assert columns is not None  # noqa: S101 (set by _place)
        (joined,) = [pieces[0]] if len(pieces) == 1 else [pa.concat_tables(pieces, promote_options="permissive")]
        names = [*OWN_COLUMNS, *(name for name in columns.existing if name not in OWN_COLUMNS)]
        arrays = {}
        for name in names:
            if name in joined.column_names:
                arrays[name] = joined.column(name)
            elif columns.existing[name].kind != "other":
                arrays[name] = pa.nulls(joined.num_rows, arrow_type(columns.existing[name].kind))
        # Further columns of a file that dlt wrote.
        arrays |= {name: joined.column(name) for name in joined.column_names if name not in arrays}
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(pa.table(arrays), sink)
        data: bytes = sink.getvalue().to_pybytes()
        return data


def _ids_of(file: Any) -> set[str]:
    return set() if file is None else set(file.column("_event_id").to_pylist())


def _as_json(known: _Known) -> bytes:
    columns = []
    for column in known.columns:
        told: dict[str, Any] = {"name": column.name, "type": column.kind}
        if column.name in known.owners:
            owner = known.owners[column.name]
            told |= {"member": owner.member, "variant": owner.kind}
        columns.append(told)
    return json.dumps({"made_by_dlt": known.is_continued, "columns": columns}, indent=1).encode()


def _from_json(number: int, data: bytes) -> _Known:
    told = json.loads(data)
    return _Known(
        number,
        [Column(one["name"], one["type"]) for one in told["columns"]],
        {one["name"]: Owner(one["member"], one["variant"]) for one in told["columns"] if "member" in one},
        told["made_by_dlt"],
    )
