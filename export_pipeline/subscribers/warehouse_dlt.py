"""Load a batch into any destination of dlt (https://dlthub.com)."""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Blocked, DeliveryError
from export_pipeline.subscribers.packing import part_id
from export_pipeline.subscribers.warehouse_arrow import arrow_table
from export_pipeline.subscribers.warehouse_columns import INT64, OVERFLOW, Column, Owner, TableColumns
from export_pipeline.subscribers.warehouse_errors import meaning
from export_pipeline.subscribers.warehouse_native import Table, rows_to_write
from export_pipeline.subscribers.warehouse_nested import NestedNames, nested_rows
from export_pipeline.subscribers.warehouse_placing import place
from export_pipeline.subscribers.warehouse_rows import Rows, read_rows
from export_pipeline.subscribers.working_folder import new_working_folder

_PREFERRED = ("insert-only", "upsert", "delete-insert")
_OWNERS = "x-export-columns"
"""Hint of a table in dlt's schema, which dlt stores at the destination: the owner of each column."""
_LONGEST_NAME_BYTES = 255
NESTED_BYTES = 8 << 20
"""Total size of the batches that are converted to objects for one package."""
# Where text is known to hold U+0000: some databases cannot, and dlt removes it from the statements for others.
_WITH_NUL = frozenset({"filesystem"})


@dataclass(frozen=True, slots=True)
class DltOptions:
    """The options of ``warehouse`` with the same names."""

    destination: str
    url: str | None
    connection: str | None
    credentials: Mapping[str, str]
    table_format: str
    file_format: str
    max_table_nesting: int
    secrets: Sequence[str]

    @property
    def is_of_files(self) -> bool:
        """Whether each batch is a file, not part of a table."""
        return self.destination == "filesystem" and self.table_format == "none"


@dataclass(frozen=True, slots=True)
class _Current:
    """The name of a batch's file, and the id of dlt's file of each table."""

    name: str
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DltLayout:
    """What dlt knows about a table.

    Attributes:
        columns: all columns, including those that every table has.
        owners: name of a column → its owner, if recorded.
        is_nested: nested objects have their own tables or columns.
    """

    columns: Sequence[Column]
    owners: Mapping[str, Owner]
    is_nested: bool


class Dlt:
    """A dlt pipeline for one table; used by one thread."""

    def __init__(self, options: DltOptions, table: Table) -> None:
        self._options = options
        self._table = table
        self._folder: str | None = None
        self._pipeline: Any = None
        self._current = _Current("")

    def load_many(self, batches: Sequence[Batch], table: Table) -> list[Receipt]:
        """Load *batches*, as many as possible in one dlt package: a package costs more than a batch."""
        return [receipt for package in self._packages(batches, table) for receipt in self._load(package, table)]

    def _packages(self, batches: Sequence[Batch], table: Table) -> Iterator[Sequence[Batch]]:
        options = self._options
        # A file is named after its batch; within one package dlt would keep both of two equal events; and only the
        # first batch of a frozen table may add columns.
        if options.is_of_files or table.by_content or (options.max_table_nesting and table.is_frozen):
            yield from ([batch] for batch in batches)
            return
        # As objects, events need many times the memory of their bytes.
        most_bytes = NESTED_BYTES if options.max_table_nesting else sys.maxsize
        package: list[Batch] = []
        for batch in batches:
            if package and sum(len(one.data) for one in (*package, batch)) > most_bytes:
                yield package
                package = []
            package.append(batch)
        yield package

    def _load(self, batches: Sequence[Batch], table: Table) -> list[Receipt]:
        """Load *batches* as one dlt package."""
        import dlt

        options = self._options
        self._current = _Current(name_of_file(batches[0]))
        pipeline = self._open_current()
        every = (
            read_rows(batch, by_content=table.by_content, takes_nul=options.destination in _WITH_NUL)
            for batch in batches
        )
        hints: dict[str, Any] = {"_event_id": {"nullable": False}}
        if options.destination == "postgres":
            # An index: finding the events of a batch would otherwise read the whole table, for every batch.
            hints["_event_id"]["unique"] = True
        if options.max_table_nesting:
            loaded, data, kept = self._nested(pipeline, batches, every, table)
            hints[OVERFLOW] = {"data_type": "json"}
        else:
            loaded, data, further, kept = self._flat(pipeline, every, table)
            hints |= further
        if not any(rows.positions for rows in loaded):
            return [Receipt(refused=rows.refused) for rows in loaded]

        # A function: dlt turns a list into a plain generator, which accepts no further hints.
        def events() -> Iterator[Any]:
            yield from data

        make: Any = dlt.resource  # its overloads do not accept options assembled as here
        resource = make(
            events,
            name=table.name,
            columns=hints,
            max_table_nesting=options.max_table_nesting,
            table_format=None if options.table_format == "none" else options.table_format,
            schema_contract={"tables": "evolve", "columns": "evolve", "data_type": "evolve"},
            **self._disposition(pipeline),
        )
        resource.apply_hints(additional_table_hints={_OWNERS: kept})
        schema = pipeline.default_schema if pipeline.default_schema_name else dlt.Schema(pipeline_name(table))
        # Text stays text even if it looks like a time: as a time it would lose its time zone.
        schema.remove_type_detection("iso_timestamp")
        info = pipeline.run(
            resource, schema=schema, loader_file_format=options.file_format if options.is_of_files else None
        )
        info.raise_on_failed_jobs()
        detail = f"dlt package {info.loads_ids[-1]}" if info.loads_ids else ""
        return [_receipt(rows, detail) for rows in loaded]

    def layout(self) -> "DltLayout | None":
        """What dlt knows about the table at the destination; None if dlt did not create it."""
        pipeline = self._open_current()
        try:
            tables = pipeline.default_schema.tables if pipeline.default_schema_name else {}
            if not tables.get(self._table.name, {}).get("columns"):
                return None
            noted = self._hint(pipeline)
            return DltLayout(
                columns=_columns_of(pipeline, self._table.name),
                owners={name: Owner(*owner[:2]) for name, owner in noted.items()},
                is_nested=any(len(owner) > len(("member", "kind")) for owner in noted.values())
                or any(table.get("parent") == self._table.name for table in tables.values()),
            )
        finally:
            self.close()

    def check(self) -> None:
        """Connect to the destination."""
        with self._open().destination_client() as client:
            client.is_storage_initialized()

    def meaning(self, error: Exception) -> DeliveryError:
        """The delivery error that an *error* of dlt means."""
        # A failed package must not be loaded before the next one: the whole batch is sent again.
        self.close()
        return meaning(error, self._options.destination, self._options.secrets)

    def close(self) -> None:
        """Drop the pipeline, and delete its folder with everything in progress."""
        self._pipeline = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _flat(
        self, pipeline: Any, every: Iterable[Rows], table: Table
    ) -> tuple[list[Rows], list[Any], dict[str, Any], Mapping[str, Any]]:
        """An Arrow table of all rows, which dlt loads about four times as fast as objects; hints; owners of columns."""
        import pyarrow as pa

        columns = TableColumns(
            _columns_of(pipeline, table.name),
            {name: Owner(*owner[:2]) for name, owner in self._hint(pipeline).items()},
            max_name_bytes=self._longest_name(pipeline),
            max_columns=table.max_columns,
            ascii_only=True,
        )
        kept = dict(self._hint(pipeline))
        hints: dict[str, Any] = {}
        loaded: list[Rows] = []
        pieces: list[Any] = []
        for rows in every:
            place(rows, columns, may_grow=not (table.is_frozen and columns.existing), overflow=table.overflow)
            loaded.append(rows)
            if not rows.positions:
                continue
            pieces.append(arrow_table(rows_to_write(rows, columns, by_dlt=True)))
            for name, owner in columns.claimed.items():
                hints.setdefault(name, {})["description"] = f"event member {owner.member!r}"
                kept[name] = [owner.member, owner.kind]
            for column in rows.values:
                if column.kind == "json":
                    hints.setdefault(column.name, {})["data_type"] = "json"
            rows.values = {}
            columns.settle()
        return loaded, [pa.concat_tables(pieces, promote_options="default")] if pieces else [], hints, kept

    def _nested(
        self, pipeline: Any, batches: Sequence[Batch], every: Iterable[Rows], table: Table
    ) -> tuple[list[Rows], list[Any], Mapping[str, Any]]:
        """The events of all rows as objects; owners of columns."""
        names = NestedNames(self._hint(pipeline), _kinds_of_tables(pipeline), table)
        loaded: list[Rows] = []
        data: list[Any] = []
        for batch, rows in zip(batches, every, strict=True):
            data += nested_rows(rows, names, batch, table, levels=self._options.max_table_nesting)
            loaded.append(rows)
        return loaded, data, names.kept()

    def _hint(self, pipeline: Any) -> Mapping[str, Any]:
        schema = pipeline.default_schema if pipeline.default_schema_name else None
        found: Mapping[str, Any] = schema.tables.get(self._table.name, {}).get(_OWNERS, {}) if schema else {}
        return found

    def _longest_name(self, pipeline: Any) -> int:
        capabilities = pipeline.destination.capabilities()
        return min(int(capabilities.max_column_identifier_length or _LONGEST_NAME_BYTES), _LONGEST_NAME_BYTES)

    def _disposition(self, pipeline: Any) -> dict[str, Any]:
        if self._options.is_of_files:
            return {"write_disposition": "append"}
        capabilities = pipeline.destination.capabilities()
        supported = capabilities.supported_merge_strategies or []
        strategy = next((name for name in _PREFERRED if name in supported), None)
        if strategy is None:
            raise Blocked(f"{self._options.destination} has no merge strategy that loads rows exactly once")
        return {"write_disposition": {"disposition": "merge", "strategy": strategy}, "primary_key": "_event_id"}

    def _open_current(self) -> Any:
        """The pipeline with the destination's present schema: another worker may have added columns."""
        pipeline = self._open()
        if pipeline.default_schema_name:
            with pipeline.destination_client() as client:
                stored = client.get_stored_schema(pipeline.default_schema_name)
            if stored is not None and stored.version_hash != pipeline.default_schema.stored_version_hash:
                self.close()
                pipeline = self._open()
        return pipeline

    def _open(self) -> Any:
        """The pipeline, in a new folder; its state is fetched from the destination."""
        _quiet()
        # dlt starts another file of a table if a new column appears after this many rows, but a batch is one file.
        os.environ.setdefault("NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS", "1000000000")
        import dlt

        if self._pipeline is None:
            self._folder = self._folder or new_working_folder("dlt")
            pipeline = dlt.pipeline(
                pipeline_name=pipeline_name(self._table),
                destination=self._destination(),
                dataset_name=self._table.schema,
                pipelines_dir=self._folder,
            )
            pipeline.sync_destination()
            self._pipeline = pipeline
        return self._pipeline

    def _destination(self) -> Any:
        import dlt
        from dlt.common.destination import Destination

        given = self._options
        options: dict[str, Any] = {}
        if given.destination == "filesystem":
            options["bucket_url"] = given.url if given.url and "://" in given.url else os.path.abspath(given.url or ".")
            if given.is_of_files:
                options["layout"] = "{table_name}/{batch_id}.{ext}"
                options["extra_placeholders"] = {"batch_id": self._path_of_file}
        elif given.destination == "duckdb" and given.url is not None:
            if os.path.dirname(given.url):
                os.makedirs(os.path.dirname(given.url), exist_ok=True)
            options["credentials"] = given.url
        if given.connection is not None or given.credentials:
            options["credentials"] = given.connection or dict(given.credentials)
        factory = getattr(dlt.destinations, given.destination, None)
        return factory(**options) if factory else Destination.from_reference(given.destination, **options)

    def _path_of_file(self, schema: str, table: str, load_id: str, file_id: str, ext: str) -> str:
        """The batch's id, so that a repeat overwrites its own file; dlt's own tables keep dlt's names.

        Raises:
            Blocked: a second file of the same table would overwrite the first.
        """
        if table.startswith("_dlt_"):
            return f"{load_id}.{file_id}"
        if self._current.files.setdefault(table, file_id) != file_id:
            raise Blocked(
                f"dlt wrote more than one file of the table {table} for the batch {self._current.name}, and they "
                "would overwrite each other: do not set data_writer.file_max_items, file_max_bytes and "
                "buffer_max_items of dlt"
            )
        return self._current.name


def open_filesystem(options: DltOptions) -> tuple[Any, str]:
    """The fsspec file system that dlt opens with *options* and its own configuration, and the path of the URL in it."""
    import dlt

    _quiet()
    given: Any = {"bucket_url": options.url}
    if options.connection or options.credentials:
        given["credentials"] = options.connection or dict(options.credentials)
    made = dlt.destinations.filesystem(**given)
    with made.client(dlt.Schema("export"), made.spec()._bind_dataset_name("export")) as client:
        return client.fs_client, client.bucket_path


def _quiet() -> None:
    # Without these dlt would report every run to its makers, and retry, which the caller does.
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    os.environ.setdefault("LOAD__RAISE_ON_MAX_RETRIES", "1")
    # Suppresses a warning for every batch that JSON is transferred as text.
    os.environ.setdefault("RUNTIME__LOG_LEVEL", "ERROR")


def _receipt(rows: Rows, detail: str) -> Receipt:
    if rows.repeated:
        detail += f", {rows.repeated} equal events skipped (dedupe: content)"
    return Receipt(refused=rows.refused, detail=detail)


def pipeline_name(table: Table) -> str:
    """dlt's name of the pipeline, and of its DuckDB file unless another is configured."""
    return re.sub(r"\W", "_", f"export_{table.schema}_{table.name}")


def name_of_file(batch: Batch) -> str:
    """The name of the file for *batch*; a different one if a filter selected other events of it.

    Under the same name, a replay with another filter would overwrite the first events.
    """
    if batch.positions is None:
        return batch.id
    return part_id(batch.whole_id or batch.id, batch.positions)


def _columns_of(pipeline: Any, table: str) -> list[Column]:
    schema = pipeline.default_schema if pipeline.default_schema_name else None
    columns = schema.tables.get(table, {}).get("columns", {}) if schema else {}
    return [_column(name, column["data_type"]) for name, column in columns.items() if "data_type" in column]


def _column(name: str, data_type: str) -> Column:
    return Column(name, data_type if data_type in ("bigint", "double", "bool", "text", "json") else "other", INT64)


def _kinds_of_tables(pipeline: Any) -> dict[str, dict[str, str]]:
    """Table → column → dlt's name of its type."""
    schema = pipeline.default_schema if pipeline.default_schema_name else None
    tables = schema.tables if schema else {}
    return {
        name: {column: str(hints["data_type"]) for column, hints in table["columns"].items() if "data_type" in hints}
        for name, table in tables.items()
    }
