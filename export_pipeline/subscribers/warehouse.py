"""Load every batch into a warehouse or lake, with dlt (https://dlthub.com)."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, PrivateAttr

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import SECRET, Subscriber
from export_pipeline.subscribers.warehouse_errors import meaning
from export_pipeline.subscribers.warehouse_rows import arrow_rows, rows_of
from export_pipeline.subscribers.worker import Overdue, Worker
from export_pipeline.subscribers.working_folder import new_working_folder

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Current:
    """The batch that is loaded, and which file of dlt's each table got."""

    batch_id: str
    files: dict[str, str] = field(default_factory=dict)


_PREFERRED = ("insert-only", "upsert", "delete-insert")


class Warehouse(Subscriber):
    """Loads batches into a table, exactly once, through dlt: DuckDB, PostgreSQL, BigQuery, Snowflake, files and more.

    Every top-level member of an event is a column; what is nested is JSON, unless ``max_table_nesting`` makes tables
    of it. Each row has ``_event_id`` (the SHA-256 of the event's bytes), ``_batch_id``, ``_file`` and
    ``_exported_at``. A row whose ``_event_id`` the table has is not inserted again; files that are no table (Parquet,
    JSON lines) are named by their batch instead, and a repeat overwrites its own. So neither a repeat nor a crash at
    any moment leaves a duplicate or a gap.

    Whatever runs and workers share a ledger load into a table one after the other. Let no two ledgers load into the
    same one: dlt, which has one place for the new rows of a table, would lose some without a word.

    Measured with DuckDB, a batch costs a third of a second of CPU, and each event in it a tenth of a millisecond, a
    whole one with ``max_table_nesting``: let batches be large (``batch.max_events`` and ``batch.max_bytes``).
    """

    destination: str = Field(
        description="A destination of dlt: duckdb, postgres, bigquery, snowflake, redshift, databricks, clickhouse, "
        "motherduck, mssql, athena, filesystem, …",
        examples=["duckdb"],
    )
    url: str | None = Field(
        default=None,
        description="For duckdb the file, for filesystem the folder or bucket (file:///…, s3://…). By default "
        "something in the working folder, where that is the deployment's.",
    )
    connection: str | None = Field(
        default=None,
        description="Connection string with credentials, such as postgresql://user:password@host/database.",
        json_schema_extra=SECRET,
    )
    credentials: dict[str, str] = Field(
        default_factory=dict,
        description="Credentials by name, as the dlt documentation of the destination has them, instead of a string.",
        json_schema_extra=SECRET,
    )
    schema_: str = Field(
        default="export", alias="schema", description="Schema or dataset; a folder where the destination is one."
    )
    table_name: str = Field(default="events", description="Table.")
    table_format: Literal["none", "delta", "iceberg"] = Field(
        default="none", description="For filesystem: keep a table instead of single files."
    )
    file_format: Literal["parquet", "jsonl"] = Field(
        default="parquet", description="For filesystem without table_format: format of the files."
    )
    max_table_nesting: int = Field(
        default=0,
        ge=0,
        description="How many levels of nested objects become tables of their own; deeper ones are JSON.",
    )
    schema_contract: Literal["evolve", "freeze"] = Field(
        default="evolve",
        description="Where the table has no column for a member or its type: evolve adds one, freeze puts the event "
        "into the quarantine.",
    )
    timeout_seconds: float = Field(
        default=1_800.0,
        gt=0,
        description="How long loading a batch may take. One that takes longer cannot be stopped and is waited for "
        "before the next; its batch counts as not delivered, and comes again.",
    )
    needs: ClassVar[tuple[str, ...]] = ("dlt", "pyarrow")
    folder_options: ClassVar[tuple[str, ...]] = ("url",)
    # dlt keeps its working state per thread, a pipeline must not run twice at once, and in the main thread dlt would
    # take the signals that Dagster ends a run with. One thread of its own settles all three.
    _worker: Worker = PrivateAttr(default_factory=lambda: Worker("dlt"))
    _folder: str | None = PrivateAttr(default=None)
    _pipeline: Any = PrivateAttr(default=None)
    _current: "_Current" = PrivateAttr(default_factory=lambda: _Current(""))

    @classmethod
    def folders(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """As :meth:`Subscriber.folders`: these destinations are in the working folder by default."""
        is_local = options.get("destination") in ("duckdb", "filesystem")
        return {"url": "."} | super().folders(options) if is_local else {}

    def deliver(self, batch: Batch) -> Receipt | None:
        """Load the batch as one dlt package.

        Raises:
            TryLater, Blocked, Refused: as dlt's error says.
        """
        return self._do(lambda: self._load_alone(batch))

    def check(self) -> None:
        """Reach the destination."""
        self._do(self._reach)

    def close(self) -> None:
        """End the thread and remove the working folder: nothing in it outlives a run."""
        self._worker.close()
        self._forget()

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return self._worker.do(work, timeout_seconds=self.timeout_seconds)
        except Overdue:
            raise TryLater(f"{self.destination}: not done after {self.timeout_seconds:g} s") from None

    def _load_alone(self, batch: Batch) -> Receipt:
        if self._is_of_files:
            return self._load(batch)
        # dlt empties a table of new rows beside the real one, fills it and merges it; a second load at the same moment
        # would empty what the first has filled, and both would report success. Held here, in dlt's thread, until
        # the load has ended, whoever waits for it.
        place = f"{self.destination} {self._normalize(self.schema_)}.{self._normalize(self.table_name)}"
        with self.alone(place, wait_seconds=self.timeout_seconds / 2):
            return self._load(batch)

    def _load(self, batch: Batch) -> Receipt:
        import dlt

        self._current = _Current(batch.id)
        try:
            pipeline = self._open()
            data, hints = self._data(pipeline, batch)
            make: Any = dlt.resource  # its overloads know no options that are put together
            resource = make(
                data,
                name=self.table_name,
                columns=hints,
                max_table_nesting=self.max_table_nesting,
                table_format=None if self.table_format == "none" else self.table_format,
                schema_contract=self._contract(pipeline),
                **self._disposition(pipeline),
            )
            info = pipeline.run(resource, loader_file_format=self._file_format())
            info.raise_on_failed_jobs()
        except Exception as error:  # noqa: BLE001 (dlt and its drivers raise anything; all of it is raised again)
            # A package that failed must not be loaded before the next one: the batch comes again whole.
            self._forget()
            raise meaning(error, self.destination, self.secret_values()) from None
        return Receipt(detail=f"dlt package {info.loads_ids[-1]}" if info.loads_ids else "")

    def _reach(self) -> None:
        try:
            pipeline = self._open()
            with pipeline.destination_client() as client:
                client.is_storage_initialized()
        except Exception as error:  # noqa: BLE001 (as above)
            self._forget()
            raise meaning(error, self.destination, self.secret_values()) from None

    def _data(self, pipeline: Any, batch: Batch) -> tuple[list[Any], dict[str, Any]]:
        """What dlt gets, an Arrow table, or objects where nested ones are to become tables; and hints of columns."""
        now = datetime.now(timezone.utc)
        hints: dict[str, Any] = {"_event_id": {"nullable": False}}
        if self.destination == "postgres":
            # An index: looking for the events of a batch would otherwise read the whole table, for every batch.
            hints["_event_id"]["unique"] = True
        if self.max_table_nesting:
            return rows_of(batch, now), hints
        schema = pipeline.default_schema if pipeline.default_schema_name else None
        columns = schema.tables.get(self.table_name, {}).get("columns", {}) if schema else {}
        known = {name: column["data_type"] for name, column in columns.items() if "data_type" in column}
        rows = arrow_rows(batch, now, known, self._normalize)
        hints |= {name: {"data_type": kind} for name, kind in rows.types.items() if kind == "json"}
        return [rows.table], hints

    def _normalize(self, name: str) -> str:
        from dlt.common.normalizers.naming.snake_case import NamingConvention

        return NamingConvention().normalize_identifier(name)

    def _disposition(self, pipeline: Any) -> dict[str, Any]:
        if self._is_of_files:
            return {"write_disposition": "append"}
        capabilities = pipeline.destination.capabilities()
        supported = capabilities.supported_merge_strategies or []
        strategy = next((name for name in _PREFERRED if name in supported), None)
        if strategy is None:
            raise Blocked(f"{self.destination} knows no way to load rows exactly once")
        return {"write_disposition": {"disposition": "merge", "strategy": strategy}, "primary_key": "_event_id"}

    def _contract(self, pipeline: Any) -> dict[str, str]:
        """The first batch makes the table, whatever the contract."""
        schema = pipeline.default_schema if pipeline.default_schema_name else None
        exists = schema is not None and self.table_name in schema.tables
        mode = self.schema_contract if exists else "evolve"
        return {"tables": "evolve", "columns": mode, "data_type": mode}

    @property
    def _is_of_files(self) -> bool:
        return self.destination == "filesystem" and self.table_format == "none"

    def _file_format(self) -> Any:
        return self.file_format if self._is_of_files else None

    def _open(self) -> Any:
        """The pipeline, in a new folder: what the destination knows of it is fetched from there."""
        # dlt would tell its makers of every run; and trying again is done by the caller.
        os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
        os.environ.setdefault("LOAD__RAISE_ON_MAX_RETRIES", "1")
        # dlt begins another file of a table where a new column comes after so many rows, but a batch is one file.
        os.environ.setdefault("NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS", "1000000000")
        # A warning for every batch that JSON is text on its way.
        os.environ.setdefault("RUNTIME__LOG_LEVEL", "ERROR")
        import dlt

        if self._pipeline is None:
            if self.destination == "duckdb" and self.url is not None and os.path.dirname(self.url):
                os.makedirs(os.path.dirname(self.url), exist_ok=True)
            self._folder = self._folder or new_working_folder("dlt")
            pipeline = dlt.pipeline(
                pipeline_name=re.sub(r"\W", "_", f"export_{self.schema_}_{self.table_name}"),
                destination=self._destination(),
                dataset_name=self.schema_,
                pipelines_dir=self._folder,
            )
            pipeline.sync_destination()
            self._pipeline = pipeline
        return self._pipeline

    def _destination(self) -> Any:
        import dlt
        from dlt.common.destination import Destination

        options: dict[str, Any] = {}
        if self.destination == "filesystem":
            options["bucket_url"] = self.url if self.url and "://" in self.url else os.path.abspath(self.url or ".")
            if self.table_format == "none":
                options["layout"] = "{table_name}/{batch_id}.{ext}"
                options["extra_placeholders"] = {"batch_id": self._name_of_file}
        elif self.destination == "duckdb" and self.url is not None:
            options["credentials"] = self.url
        if self.connection is not None or self.credentials:
            options["credentials"] = self.connection or dict(self.credentials)
        factory = getattr(dlt.destinations, self.destination, None)
        return factory(**options) if factory else Destination.from_reference(self.destination, **options)

    def _name_of_file(self, schema: str, table: str, load_id: str, file_id: str, ext: str) -> str:
        """The batch's id, so that a repeat overwrites its own file; dlt's own tables keep dlt's names.

        Raises:
            Blocked: a second file of the same table would overwrite the first.
        """
        if table.startswith("_dlt_"):
            return f"{load_id}.{file_id}"
        if self._current.files.setdefault(table, file_id) != file_id:
            raise Blocked(
                f"dlt made more than one file of the table {table} for the batch {self._current.batch_id}, and they "
                "would overwrite each other: leave data_writer.file_max_items, file_max_bytes and buffer_max_items of "
                "dlt alone"
            )
        return self._current.batch_id

    def _forget(self) -> None:
        """Start anew, without a package that a failure left behind."""
        self._pipeline = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
