"""Load rows into a table of PostgreSQL, by COPY."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import Any, ClassVar

import msgspec
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from export_pipeline.errors import Blocked, DeliveryError
from export_pipeline.subscribers.scrubbing import scrub
from export_pipeline.subscribers.warehouse_arrow import Values, json_text
from export_pipeline.subscribers.warehouse_columns import INT64, Column
from export_pipeline.subscribers.warehouse_errors import meaning_of_postgres
from export_pipeline.subscribers.warehouse_native import Database, LoadSession, Prepared, Table, TableLayout, quoted

_KINDS = {"float8": "double", "bool": "bool", "text": "text", "varchar": "text", "jsonb": "json", "json": "json"}
_BITS = {"int2": 16, "int4": 32, "int8": 64}
_VARCHAR_HEADER = 4  # PostgreSQL adds this to n in the type modifier of varchar(n)
# Names of dlt's credentials → those of libpq.
_PARTS = {"database": "dbname", "username": "user", "password": "password", "host": "host", "port": "port"}
_NEEDED = ("database", "username", "password", "host")
CONNECT_TIMEOUT_SECONDS = 15
LOCK_TIMEOUT_SECONDS = 30.0
"""How long a load waits for a lock, unless the connection or the role has a ``lock_timeout``; then it is retried."""


class _PostgresSession(LoadSession):
    types: ClassVar = {
        "bigint": "bigint",
        "double": "double precision",
        "bool": "boolean",
        "text": "varchar",
        "json": "jsonb",
    }
    own_types: ClassVar = {
        "_event_id": "varchar UNIQUE NOT NULL",
        "_batch_id": "varchar",
        "_file": "varchar",
        "_exported_at": "timestamp with time zone",
    }
    mark: ClassVar = "%s"
    max_name_bytes: ClassVar = 63
    max_columns: ClassVar = 1_600
    # Of a page's 8,160 bytes; the rest is for the row's header, the null bits of 1,600 columns, and our own columns.
    max_row_bytes: ClassVar = 7_700
    takes_nul: ClassVar = False

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor()
        self._writer: ThreadPoolExecutor | None = None

    def ask(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._cursor.execute(statement, list(parameters) or None)
        return self._cursor.fetchall() if self._cursor.description else []

    def lock(self, table: Table) -> None:
        """Lock the schema: creating the same table twice at the same time would fail, too."""
        # Not longer: a lock of another session would delay the subscribers after this one, and the end of the run.
        waits = "SELECT set_config('lock_timeout', %s, true) WHERE current_setting('lock_timeout') = '0'"
        self.ask(waits, [f"{LOCK_TIMEOUT_SECONDS * 1000:.0f}ms"])
        digest = hashlib.sha256(f"export_pipeline {table.schema}".encode()).digest()
        self.ask("SELECT pg_advisory_xact_lock(%s)", [int.from_bytes(digest[:8], "big", signed=True)])

    def layout(self, table: Table) -> TableLayout:
        found = self.ask(
            "SELECT attname, typname, atttypmod, attgenerated <> '' OR attidentity <> '', attisdropped "
            "FROM pg_attribute a LEFT JOIN pg_type t ON t.oid = atttypid "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 ORDER BY attnum",
            [quoted(table.schema, table.name)],
        )
        return TableLayout([_column(*one[:4]) for one in found if not one[4]], len(found))

    def ids_in(self, table: Table, ids: Sequence[str]) -> set[str]:
        statement = f"SELECT _event_id FROM {quoted(table.schema, table.name)} WHERE _event_id = ANY(%s)"  # noqa: S608
        return {found for (found,) in self.ask(statement, [list(ids)])}

    def ids_of(self, table: Table, batch_id: str, ids: Sequence[str], *, with_parts: bool) -> set[str]:
        # Uses the index on _event_id; _batch_id has none.
        statement = f"SELECT _event_id FROM {quoted(table.schema, table.name)} WHERE _event_id = ANY(%s)"  # noqa: S608
        if not with_parts:
            return {found for (found,) in self.ask(statement, [list(ids)])}
        statement += " AND (_batch_id = %s OR starts_with(_batch_id, %s))"
        return {found for (found,) in self.ask(statement, [list(ids), batch_id, f"{batch_id}-"])}

    def refuses_repeats(self, table: Table) -> bool:
        """Whether it has a unique index on ``_event_id`` alone; it does unless a user dropped it."""
        return bool(
            self.ask(
                "SELECT 1 FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] "
                "WHERE indrelid = to_regclass(%s) AND attname = '_event_id' AND indisunique AND indisvalid "
                "AND indimmediate AND indnkeyatts = 1 AND indpred IS NULL",
                [quoted(table.schema, table.name)],
            )
        )

    def write_once(self, table: Table, rows: Prepared) -> bool:
        from psycopg2.errors import UniqueViolation

        self.ask(f"SAVEPOINT {_BEFORE_ROWS}")
        try:
            self.write(table, rows)
        except UniqueViolation:
            self.ask(f"ROLLBACK TO SAVEPOINT {_BEFORE_ROWS}")
            return False
        self.ask(f"RELEASE SAVEPOINT {_BEFORE_ROWS}")
        return True

    def prepare(self, columns: Sequence[Values]) -> Prepared:
        names = ", ".join(quoted(name) for name, _, _ in columns)
        data = as_lines(columns)
        if data is not None:
            return Prepared(names, data, _LINES)
        texts = [_COPIED[kind](values) for _, kind, values in columns]
        return Prepared(names, ("\n".join(map("\t".join, zip(*texts, strict=True))) + "\n").encode(), "FORMAT text")

    def write(self, table: Table, rows: Prepared) -> None:
        place = quoted(table.schema, table.name)
        statement = f"COPY {place} ({rows.columns}) FROM STDIN ({rows.form})"
        self._cursor.copy_expert(statement, io.BytesIO(rows.data), size=_SENT_BYTES)

    def begin(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do *work* in a separate thread: most of the time the server works and this process waits."""
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="copy")
        return self._writer.submit(work).result

    def end(self) -> None:
        """Wait for what is in progress."""
        if self._writer is not None:
            self._writer.shutdown()


class Postgres(Database):
    """The database at the URL *connection*, or with *credentials* by name.

    Args:
        secrets: values that must not appear in an error.
    """

    session_type: ClassVar = _PostgresSession

    def __init__(self, connection: str | None, credentials: Mapping[str, str], *, secrets: Sequence[str]) -> None:
        self._given = connection, credentials
        self._secrets = secrets
        self._connection: Any = None

    @contextmanager
    def session(self) -> Iterator[LoadSession]:
        if self._connection is None:
            self._connection = self._connect()
        try:
            with self._connection:  # a transaction
                session = _PostgresSession(self._connection)
                try:
                    yield session
                finally:
                    session.end()
        except BaseException:
            self.close()  # whatever happened: the next load starts with a new connection
            raise

    def check(self) -> None:
        with self.session() as session:
            session.ask("SELECT 1")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def meaning(self, error: Exception) -> DeliveryError:
        return meaning_of_postgres(error, self._secrets)

    def _connect(self) -> Any:
        import psycopg2

        connection, credentials = self._given
        options = _from_url(connection, self._secrets) if connection else _from_parts(credentials)
        found = psycopg2.connect(**options)
        found.set_client_encoding("UTF8")
        return found


def _from_url(connection: str, secrets: Sequence[str]) -> dict[str, Any]:
    try:
        url = make_url(connection)
    except (ArgumentError, ValueError) as error:
        raise Blocked(scrub(f"postgres: {error}", secrets)) from None
    parts = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    given = {name: value for name, value in parts.items() if value is not None}
    return {"connect_timeout": CONNECT_TIMEOUT_SECONDS, **given, **url.query}


def _from_parts(credentials: Mapping[str, str]) -> dict[str, Any]:
    missing = [name for name in _NEEDED if name not in credentials]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise Blocked(f"postgres: missing credentials: {names}; allowed: {', '.join(_PARTS)} and options of libpq")
    given = {_PARTS.get(name, name): value for name, value in credentials.items() if name != "drivername"}
    return {"connect_timeout": CONNECT_TIMEOUT_SECONDS, **given}


def _column(name: str, kind: str, modifier: int, is_generated: bool) -> Column:
    if is_generated:
        return Column(name, "other")
    if kind in _BITS:
        bits = _BITS[kind]
        return Column(name, "bigint", (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    most = modifier - _VARCHAR_HEADER if kind == "varchar" and modifier > 0 else None
    return Column(name, _KINDS.get(kind, "other"), INT64, most)


_BEFORE_ROWS = "export_rows"
_SENT_BYTES = 64 * 1024
# CSV with a delimiter, quote and null that do not occur in the data: then nothing has to be quoted or searched for
# quotes.
_DELIMITER, _MISSING = b"\x1f", b"\x1d"
_MARKS = (b"\x1f", b"\x1e", b"\x1d", b"\n", b"\r")
_LINES = "FORMAT csv, DELIMITER E'\\x1f', QUOTE E'\\x1e', NULL E'\\x1d'"


def as_lines(columns: Sequence[Values]) -> bytes | None:
    """Rows for COPY with the options ``_LINES``; None if a value contains one of its special characters."""
    cells: list[Sequence[bytes | msgspec.Raw]] = []
    texts: list[Sequence[bytes | msgspec.Raw]] = []
    for _, kind, values in columns:
        has_none = None in values
        spelled = _SPELLED[kind]([value for value in values if value is not None] if has_none else values)
        if kind in ("text", "json"):
            texts.append(spelled)
        if has_none:
            rest = iter(spelled)
            spelled = [_MISSING if value is None else next(rest) for value in values]
        cells.append(spelled)
    text = b"".join(chain.from_iterable(texts))
    if any(mark in text for mark in _MARKS):
        return None
    return b"\n".join([*map(_DELIMITER.join, zip(*cells, strict=True)), b""])


def _texts_spelled(values: Sequence[str]) -> list[bytes]:
    return list(map(str.encode, values))


def _json_spelled(values: Sequence[Any]) -> Sequence[bytes | msgspec.Raw]:
    """JSON is text, or the bytes of an event's line, which are not copied."""
    if str not in map(type, values):
        return values
    return [value.encode() if isinstance(value, str) else value for value in values]


def _timestamps_spelled(values: Sequence[datetime]) -> list[bytes]:
    if values.count(values[0]) == len(values):  # of all rows of a batch
        return [values[0].isoformat().encode()] * len(values)
    return [value.isoformat().encode() for value in values]


_SPELLED: Mapping[str, Callable[[Sequence[Any]], Sequence[bytes | msgspec.Raw]]] = {
    "text": _texts_spelled,
    "json": _json_spelled,
    "bigint": lambda values: [b"%d" % value for value in values],
    "double": lambda values: [repr(value).encode() for value in values],
    "bool": lambda values: [b"t" if value else b"f" for value in values],
    "timestamp": _timestamps_spelled,
}

_NULL = r"\N"


def _as_text(values: Sequence[str | msgspec.Raw | None]) -> list[str]:
    return [_NULL if text is None else _escaped(text) for text in map(json_text, values)]


def _escaped(text: str) -> str:
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if text.isprintable():
        return text
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _as_number(values: Sequence[float | None]) -> list[str]:
    return [_NULL if value is None else repr(value) for value in values]


def _as_bool(values: Sequence[bool | None]) -> list[str]:
    return [_NULL if value is None else "t" if value else "f" for value in values]


def _as_timestamp(values: Sequence[datetime]) -> list[str]:
    return [value.isoformat() for value in values]


_COPIED: Mapping[str, Callable[[Sequence[Any]], list[str]]] = {
    "text": _as_text,
    "json": _as_text,
    "bigint": _as_number,
    "double": _as_number,
    "bool": _as_bool,
    "timestamp": _as_timestamp,
}
