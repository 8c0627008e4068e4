"""Load every batch into a warehouse or lake."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from dagster import EnvVar
from pydantic import Field, PrivateAttr, model_validator
from typing_extensions import Self

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Blocked, DeliveryError, TryLater
from export_pipeline.subscribers.base import SECRET, Subscriber
from export_pipeline.subscribers.warehouse_columns import in_snake_case
from export_pipeline.subscribers.warehouse_dlt import Dlt, DltOptions, pipeline_name
from export_pipeline.subscribers.warehouse_duckdb import Duckdb
from export_pipeline.subscribers.warehouse_folder import open_lake
from export_pipeline.subscribers.warehouse_native import Database, Table
from export_pipeline.subscribers.warehouse_parquet import ParquetFiles
from export_pipeline.subscribers.warehouse_postgres import Postgres
from export_pipeline.subscribers.worker import CLOSING_SECONDS, Overdue, Worker

T = TypeVar("T")


class Loader(Protocol):
    """Loads rows; used by one thread."""

    def load_many(self, batches: Sequence[Batch], table: Table) -> Sequence[Receipt]:
        """Insert those events of *batches* that *table* does not have, or raise whatever the driver raises."""

    def check(self) -> None:
        """Connect to the destination."""

    def meaning(self, error: Exception) -> DeliveryError:
        """The delivery error that an *error* of the driver means."""

    def close(self) -> None:
        """Close the connection, and drop what is in progress."""


class Warehouse(Subscriber):
    """Loads batches into a table, each event once: DuckDB, PostgreSQL, BigQuery, Snowflake, Delta, files and more.

    DuckDB, PostgreSQL and Parquet files are loaded directly; all other destinations, and nested tables, through dlt.

    Every top-level member of an event becomes a column; nested values are JSON, unless ``max_table_nesting`` turns
    them into tables. A column is named after its member, in snake case. If another member already has that name
    (``userId``, ``user_id``), or the database reserves it (``ctid``), the column's name ends in a hash of the member's
    name. Which member a column belongs to is decided once, regardless of the order of batches, and stored at the
    destination: in the table or folder ``_export_columns`` of the same schema, or in dlt's schema (``_dlt_version``).
    Do not delete it. Every value is stored exactly: text in a numeric column, or a number that the column cannot
    represent (9007199254740993 in a column of doubles, 1e999, more than 64 bits), goes into a separate column
    ``<column>__v_<type>``; such a number as the text of its digits. An event that contains U+0000 goes to the
    quarantine if the destination cannot store it, or if dlt might remove it.

    Each row has ``_event_id``, ``_batch_id``, ``_file`` and ``_exported_at``. ``_event_id`` consists of the batch, the
    event's position in it and its content, so that a batch that is delivered again, in whole or in part, adds nothing,
    and each of several equal events has a row. ``dedupe: content`` keeps one row of equal events, whenever they come.
    The log counts what was not inserted.

    ``filesystem`` without ``table_format`` writes one Parquet file for each batch,
    ``<schema>/<table>/<batch id>.parquet``, and replaces files only as a whole. A repeat leaves the file unchanged; if
    ``only`` or ``except`` has changed, the events that the file lacks are added to it. A file contains all columns
    known when it was written: read the files with ``union_by_name`` in DuckDB, or ``mergeSchema`` in Spark. JSON lines
    are named after their batch, too, but with another ``only`` or ``except`` the same batch becomes another file.

    Runs and workers that share a ledger load into a table one after the other. Do not load into the same table from
    two ledgers through dlt: it has one staging table per table, and would lose rows silently. DuckDB, PostgreSQL and
    Parquet files do not have this restriction.

    A load into DuckDB uses one thread and at first 100 MB of memory; DuckDB keeps in ``<file>.tmp`` what does not fit.
    If a load needs more, the limit is raised.
    """

    destination: str = Field(
        description="A destination of dlt: duckdb, postgres, bigquery, snowflake, redshift, databricks, clickhouse, "
        "motherduck, mssql, athena, filesystem, …",
        examples=["duckdb"],
    )
    url: str | None = Field(
        default=None,
        description="For duckdb the file, for filesystem the folder or bucket (file:///…, s3://…). Can be omitted only "
        "if the working folder is the deployment's: the default is in it.",
    )
    connection: str | None = Field(
        default=None,
        description="Connection string with credentials, such as postgresql://user:password@host/database.",
        json_schema_extra=SECRET,
    )
    credentials: dict[str, str] = Field(
        default_factory=dict,
        description="Credentials by name, as in dlt's documentation of the destination, instead of connection.",
        json_schema_extra=SECRET,
    )
    schema_: str = Field(default="export", alias="schema", description="Schema or dataset; for filesystem a folder.")
    table_name: str = Field(default="events", description="Name of the table.")
    table_format: Literal["none", "delta", "iceberg"] = Field(
        default="none", description="For filesystem: write a table instead of single files."
    )
    file_format: Literal["parquet", "jsonl"] = Field(
        default="parquet", description="For filesystem without table_format: format of the files."
    )
    max_table_nesting: int = Field(
        default=0,
        ge=0,
        description="How many levels of nested objects become separate tables; deeper ones are JSON.",
    )
    overflow: Literal["json", "quarantine"] = Field(
        default="json",
        description="If the table has no room for a member (max_columns, or the database's own limits for columns and "
        "rows): json stores it in the JSON column _overflow, quarantine refuses the event.",
    )
    max_columns: int = Field(
        default=1_000,
        ge=1,
        description="Maximum number of columns of the table; overflow applies to further members. PostgreSQL allows "
        "1,600.",
    )
    dedupe: Literal["delivery", "content"] = Field(
        default="delivery",
        description="delivery: every delivered event is a row, including equal ones. content: equal events are one "
        "row, regardless of file and day; _event_id is then the SHA-256 of the event's bytes. Choose it for a new "
        "table: rows that were loaded with the other value have other ids, and come again if their events do.",
    )
    schema_contract: Literal["evolve", "freeze"] = Field(
        default="evolve",
        description="If the table has no column for a member or its type: evolve adds one, freeze quarantines the "
        "event.",
    )
    timeout_seconds: float = Field(
        default=1_800.0,
        gt=0,
        description="Timeout of one load, of one batch or several, in seconds. A load that takes longer cannot be "
        "stopped; the next one waits for it, and its batches count as not delivered and are sent again.",
    )
    needs: ClassVar[tuple[str, ...]] = ("dlt", "msgspec", "pyarrow")
    folder_options: ClassVar[tuple[str, ...]] = ("url",)
    # dlt keeps its working state per thread, a pipeline must not run twice at once, and in the main thread dlt would
    # catch the signals with which Dagster terminates a run. A separate thread solves all three.
    _worker: Worker = PrivateAttr(default_factory=lambda: Worker("warehouse"))
    _loader: Any = PrivateAttr(default=None)

    @classmethod
    def folders(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Like :meth:`Subscriber.folders`; these destinations are in the working folder by default."""
        is_local = options.get("destination") in ("duckdb", "filesystem")
        return {"url": "."} | super().folders(options) if is_local else {}

    def deliver(self, batch: Batch) -> Receipt | None:
        """Load the batch in one transaction, or as one package of dlt.

        Raises:
            TryLater, Blocked, Refused: according to the database's error.
        """
        (receipt,) = self.deliver_many([batch])
        return receipt

    def deliver_many(self, batches: Sequence[Batch]) -> Sequence[Receipt]:
        """Load several batches in one transaction, or as one package of dlt: a load costs more than a batch does.

        Raises:
            TryLater, Blocked, Refused: according to the database's error; nothing was loaded.
        """
        return self._do(lambda loader: self._load_alone(loader, batches))

    def check(self) -> None:
        """Reach the destination."""
        self._do(lambda loader: loader.check())

    def close(self) -> None:
        """End the thread, close the connection and delete the working folder, which is not needed after a run."""
        if self._loader is not None:
            with suppress(Overdue):
                self._worker.do(self._loader.close, timeout_seconds=CLOSING_SECONDS)
        self._worker.close()
        self._loader = None

    @model_validator(mode="after")
    def _check_name_of_file(self) -> Self:
        file = self.connection or self.url
        if self.destination == "duckdb" and file is not None and not isinstance(file, EnvVar):
            # DuckDB names a database after its file, up to the first dot.
            called = os.path.basename(file).partition(".")[0].lower()
            if called == self._table().schema:
                raise ValueError(
                    f"schema {self._table().schema}: the file {os.path.basename(file)} has the same name, and DuckDB "
                    "cannot tell the schema from the database: rename one of them"
                )
        return self

    @model_validator(mode="after")
    def _check_dedupe(self) -> Self:
        if self.dedupe == "content" and self.destination == "filesystem" and self.table_format == "none":
            raise ValueError("dedupe: content needs a table: a file does not know the events in those of other batches")
        return self

    def _do(self, work: Callable[[Loader], T]) -> T:
        def do() -> T:
            if self._loader is None:
                self._loader = self._new_loader()
            loader: Loader = self._loader
            try:
                return work(loader)
            except DeliveryError:
                loader.close()
                raise
            except Exception as error:  # noqa: BLE001 (drivers raise any exception; all are re-raised)
                found = loader.meaning(error)
                loader.close()
                raise found from None

        try:
            return self._worker.do(do, timeout_seconds=self.timeout_seconds)
        except Overdue:
            raise TryLater(f"{self.destination}: the load did not finish within {self.timeout_seconds:g} s") from None

    def _load_alone(self, loader: Loader, batches: Sequence[Batch]) -> Sequence[Receipt]:
        # dlt truncates a staging table, fills it and merges it; a concurrent load would truncate what the first one has
        # filled, and both would report success. Nor may two loads name columns at the same time. The lock is held here,
        # in the thread of the loads, until the load has ended, even if the caller has given up waiting.
        table = self._table()
        place = f"{self.destination} {table.schema}.{table.name}"
        with self.alone(place, wait_seconds=self.timeout_seconds / 2):
            return loader.load_many(batches, table)

    def _table(self) -> Table:
        # As dlt names them, so that its tables are continued.
        return Table(
            schema=in_snake_case(self.schema_, ascii_only=True),
            name=in_snake_case(self.table_name, ascii_only=True),
            is_frozen=self.schema_contract == "freeze",
            by_content=self.dedupe == "content",
            overflow=self.overflow,
            max_columns=self.max_columns,
        )

    def _new_loader(self) -> Loader:
        table = self._table()
        options = DltOptions(
            destination=self.destination,
            url=self.url,
            connection=self.connection,
            credentials=self.credentials,
            table_format=self.table_format,
            file_format=self.file_format,
            max_table_nesting=self.max_table_nesting,
            secrets=self.secret_values(),
        )
        direct = self._without_dlt(options)
        if direct is None:
            return Dlt(options, table)
        of_dlt = self._only_dlt_knows()
        if of_dlt is None:
            return direct
        # dlt does not know the columns that were added since, and would create them again, with other types.
        try:
            if direct.has_loaded(table):
                raise Blocked(
                    f"{self.destination}: the table {table.schema}.{table.name} was loaded without {of_dlt}, and dlt "
                    f"cannot continue it: use another table_name, or remove {of_dlt}"
                )
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001 (drivers raise any exception; all are re-raised)
            raise direct.meaning(error) from None
        finally:
            direct.close()
        return Dlt(options, table)

    def _only_dlt_knows(self) -> str | None:
        """The option that only dlt supports; None if none is set."""
        if self.max_table_nesting:
            return "max_table_nesting"
        if self.destination == "filesystem" and self.table_format != "none":
            return f"table_format: {self.table_format}"
        if self.destination == "filesystem" and self.file_format != "parquet":
            return f"file_format: {self.file_format}"
        return None

    def _without_dlt(self, options: DltOptions) -> Database | ParquetFiles | None:
        """The destination without dlt, if that is possible."""
        if self.destination == "duckdb" and not self.credentials:
            file = (self.connection or self.url or f"{pipeline_name(self._table())}.duckdb").removeprefix("duckdb:///")
            return None if "://" in file or file.startswith("md:") else Duckdb(file)
        # Without credentials, dlt looks for them in its own configuration.
        if self.destination == "postgres" and (self.connection or self.credentials):
            return Postgres(self.connection, self.credentials, secrets=self.secret_values())
        if self.destination == "filesystem":
            table = self._table()
            lake = open_lake(options, table.schema)
            return None if lake is None else ParquetFiles(lake, options, table)
        return None
