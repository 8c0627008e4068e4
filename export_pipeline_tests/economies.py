"""Work that every test would repeat with the same result is done once per test process.

A ledger is created by the same statements each time, Dagster's databases are those of any other empty instance, and SQL
is compiled to the same text for each database of a kind. Nothing here changes what a test sees; processes that a test
starts do without.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
import yaml
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, QueuePool, event, update
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

from export_pipeline.ledger import database
from export_pipeline.ledger import tables as t

Statement = tuple[str, Any]

COMPILED_STATEMENTS = 5_000
ENGINES = 100


@contextmanager
def applied() -> Iterator[None]:
    """All of them, until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        _read_migrations_once(patch)
        _create_ledgers_by_recorded_statements(patch)
        _compile_statements_once(patch)
        _keep_engines_of_dagster(patch)
        _know_what_databases_of_dagster_have(patch)
        _derive_schemas_of_resources_once(patch)
        yield


def _read_migrations_once(patch: pytest.MonkeyPatch) -> None:
    """Dagster reads its migrations for every database that it creates."""
    read = ScriptDirectory.from_config
    once: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in once:
            once[place] = read(config)
        return once[place]

    patch.setattr(ScriptDirectory, "from_config", from_config)


def _create_ledgers_by_recorded_statements(patch: pytest.MonkeyPatch) -> None:
    """Record what the migrations execute in the first empty database of a kind, and execute it in the others."""
    migrate = database._migrate
    recorded: dict[str, list[Statement]] = {}

    def create_or_migrate(engine: Engine, found: str | None) -> None:
        if found is not None:
            migrate(engine, found)
        elif statements := recorded.get(engine.dialect.name):
            with engine.begin() as connection:
                _execute(connection, statements)
        else:
            with _recording(engine) as statements:
                migrate(engine, found)
            recorded[engine.dialect.name] = statements

    patch.setattr(database, "_migrate", create_or_migrate)


@contextmanager
def _recording(engine: Engine) -> Iterator[list[Statement]]:
    """The list of all statements that change something, with their parameters."""
    statements: list[Statement] = []

    def record(
        _connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> None:
        if not statement.lstrip().upper().startswith(("BEGIN", "SELECT", "PRAGMA")):
            statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)


def _execute(connection: Connection, statements: list[Statement]) -> None:
    """Make the database what the recorded one is, except for the identity, which no two ledgers share."""
    cursor = connection.connection.cursor()
    for statement, parameters in statements:
        cursor.execute(statement, parameters)
    cursor.close()
    connection.execute(update(t.identity).values(id=uuid4().hex))


def _compile_statements_once(patch: pytest.MonkeyPatch) -> None:
    """Share compiled statements between all engines whose dialects are in the same state.

    SQLAlchemy keeps them for each engine, and looks them up by the dialect too.
    """
    shared: LRUCache[Any, Any] = LRUCache(COMPILED_STATEMENTS)
    # Not by another __init__: SQLAlchemy reads from its signature what create_engine() may be given.
    kept = property(lambda engine: shared, lambda engine, own: None)
    patch.setattr(Engine, "_compiled_cache", kept, raising=False)
    for dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg2):
        patch.setattr(dialect, "__hash__", lambda one: hash(type(one)))
        patch.setattr(dialect, "__eq__", lambda one, other: one is other or _state(one) == _state(other))
        patch.setattr(dialect, "initialize", _remembering_state(dialect.initialize))


def _state(dialect: DefaultDialect) -> tuple[type[DefaultDialect], dict[str, Any]]:
    """What the text of a statement depends on: the class of the dialect, its options and its server."""
    return vars(dialect).get(_KNOWN) or (type(dialect), _plain(dialect))


def _plain(dialect: DefaultDialect) -> dict[str, Any]:
    return {name: value for name, value in vars(dialect).items() if isinstance(value, _PLAIN)}


def _remembering_state(initialize: Callable[..., None]) -> Callable[..., None]:
    """From the first connection on a dialect does not change: those in the same state get the same object for it."""
    known: list[tuple[type[DefaultDialect], dict[str, Any]]] = []

    def initialize_and_remember(dialect: DefaultDialect, connection: Connection) -> None:
        initialize(dialect, connection)
        state = (type(dialect), _plain(dialect))
        if state not in known:
            known.append(state)
        setattr(dialect, _KNOWN, known[known.index(state)])

    return initialize_and_remember


_KNOWN = "_state_in_tests"
_PLAIN = (bool, int, str, tuple, type(None))


def _keep_engines_of_dagster(patch: pytest.MonkeyPatch) -> None:
    """Dagster makes an engine and a connection for every statement that it executes in SQLite.

    Here an engine is kept, and its connections until an instance is disposed of: then the files are as ever.
    """
    from dagster import DagsterInstance
    from dagster._core.storage.event_log.sqlite import consolidated_sqlite_event_log, sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
    from dagster._core.storage.sql import create_engine

    kept: OrderedDict[tuple[str, int | None], Engine] = OrderedDict()
    dispose = DagsterInstance.dispose

    def engine_of(url: str, *, poolclass: Any, connect_args: dict[str, int] | None = None) -> Engine:
        name = url, (connect_args or {}).get("timeout")
        if name not in kept:
            kept[name] = create_engine(url, poolclass=QueuePool, connect_args=connect_args or {})
            if len(kept) > ENGINES:
                kept.popitem(last=False)[1].dispose()
        return kept[name]

    def dispose_and_disconnect(instance: DagsterInstance) -> None:
        dispose(instance)
        for engine in list(kept.values()):
            assert isinstance(engine.pool, QueuePool)  # see engine_of
            if engine.pool.checkedin():
                engine.dispose()

    patch.setattr(DagsterInstance, "dispose", dispose_and_disconnect)
    for module in (consolidated_sqlite_event_log, sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        patch.setattr(module, "create_engine", engine_of)


def _know_what_databases_of_dagster_have(patch: pytest.MonkeyPatch) -> None:
    """Dagster asks for each statement whether a database has columns and indexes, which all of this version have."""
    from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
    from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage

    def remembered(ask: Callable[..., bool]) -> Callable[..., bool]:
        have: set[tuple[str, ...]] = set()

        def asked(storage: Any, *names: str) -> bool:
            if names not in have and ask(storage, *names):
                have.add(names)
            return names in have

        return asked

    for storage, name in (
        (SqlRunStorage, "has_run_stats_index_cols"),
        (SqlScheduleStorage, "has_built_index"),
        (SqlScheduleStorage, "has_instigators_table"),
    ):
        patch.setattr(storage, name, remembered(getattr(storage, name)))


def _derive_schemas_of_resources_once(patch: pytest.MonkeyPatch) -> None:
    """Dagster copies a resource several times in each step, and derives the schema of its class for each copy."""
    from dagster import Field
    from dagster._config.pythonic_config import resource
    from dagster._config.pythonic_config.config import infer_schema_from_config_class

    derive = infer_schema_from_config_class
    once: weakref.WeakKeyDictionary[type, dict[frozenset[str], Field]] = weakref.WeakKeyDictionary()

    def derived(model_cls: type, *, fields_to_omit: set[str]) -> Field:
        by_omitted = once.setdefault(model_cls, {})
        omitted = frozenset(fields_to_omit)
        if omitted not in by_omitted:
            by_omitted[omitted] = derive(model_cls, fields_to_omit=fields_to_omit)
        return by_omitted[omitted]

    patch.setattr(resource, "infer_schema_from_config_class", derived)


def write_dagster_home(home: Path, config: dict[str, Any]) -> None:
    """Make *home* a folder as ``DAGSTER_HOME`` names one, with Dagster's databases as the first process leaves them."""
    for path, content in _databases(yaml.safe_dump(config).replace(str(home), _HOME)).items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(content)
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))


_HOME = "<home>"


@lru_cache
def _databases(config: str) -> dict[Path, bytes]:
    """The databases of a new instance with this ``dagster.yaml``, by their paths in its folder."""
    from dagster import DagsterInstance

    with TemporaryDirectory(prefix="dagster-home-") as folder:
        home = Path(folder)
        (home / "dagster.yaml").write_text(config.replace(_HOME, folder))
        with DagsterInstance.from_config(folder):
            pass
        return {path.relative_to(home): path.read_bytes() for path in home.rglob("*.db")}
