"""The ledger's database: one engine, short transactions, claims.

The schema is created on first use, migrated on start, and never downgraded by accident. SQLite uses a write-ahead log,
so that readers and writers do not block each other. Nothing but SQLite may open its files, not even to read them: when
a process closes a file, POSIX releases all its locks on it, those of SQLite's connections included, and another process
that believes itself alone deletes the log (https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from export_pipeline.errors import ConfigurationError, LedgerError, LedgerMissing
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.claims import Claims, FileClaims, PostgresClaims
from export_pipeline.storage.folders import make_private_file

if TYPE_CHECKING:
    from alembic.config import Config


_ALLOWED = "a path such as .dagster/ledger.db, sqlite:///path, or postgresql://user:password@host:5432/name"
# A connection without an answer is given up after half a minute, by either side.
_KEEPALIVE_SECONDS, _KEEPALIVE_INTERVAL_SECONDS, _KEEPALIVE_COUNT = 10, 5, 4
_BUSY_TIMEOUT_SECONDS = 60
_WAIT_SECONDS = 60
_SWITCH_PAUSE_SECONDS = 0.05
_BRIEF_SECONDS = 2
# The newest migration in migrations/versions. A test compares it with Alembic's own idea of head: knowing it here saves
# every run the import of Alembic.
HEAD = "0011"
_MIGRATION_WAIT_SECONDS = 300
_MARK_DIGITS = 8


_IDENTITY = select(t.identity.c.id).where(t.identity.c.n == 1)


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(timezone.utc)


class Ledger:
    """An open ledger. A SQLite file, like SQLite's files next to it, is accessible only to its owner (mode 0600).

    Args:
        url: a SQLAlchemy URL (``postgresql://user:password@host/name``, ``sqlite:///path``) or a path, which means
            SQLite. A relative path is relative to the working folder.
        create: whether to create the ledger, or migrate an older one. Read-only users do neither.

    Raises:
        LedgerMissing: there is none, and it must not be created.
        LedgerError: it was written by a newer version, or by an older one and must not be changed.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.description = parsed.render_as_string(hide_password=True)
        self.claims: Claims
        if self.is_sqlite:
            path = Path(parsed.database or "")
            if create:
                # Whatever prevents this prevents SQLite too, which reports it.
                with suppress(OSError):
                    make_private_file(os.path.abspath(path))
            elif not path.exists():
                raise LedgerMissing(f"there is no ledger at {path}; the first run creates it")
            self._engine = _sqlite_engine(parsed)
            # Of the file itself: a process that reaches it by a symbolic link has to find the claims of all others.
            real = Path(os.path.realpath(path))
            self.claims = FileClaims(real.with_name(real.name + ".claims"))
        else:
            self._engine = _postgres_engine(parsed)
            self.claims = PostgresClaims(self._engine)
        try:
            if create:
                if self.is_sqlite:
                    ensure_wal(self._engine, path, self.claims)
                ensure_schema(self._engine, self.claims)
            else:
                require_schema(self._engine, self.description)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the ledger and changes nothing."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A transaction that is committed completely or not at all.

        Args:
            durable: it survives a power failure right after the commit. Plans need this: a forgotten plan whose batches
                were delivered would be made again with other ids. A forgotten acceptance only repeats a batch under its
                old id, so it need not wait for the disk.
        """
        with self._engine.connect().execution_options(begin_immediate=True) as connection:
            if self.is_sqlite:
                # On the driver's own connection: SQLAlchemy would begin a transaction first, and SQLite does not change
                # this setting inside one.
                driver_connection: Any = connection.connection.driver_connection
                driver_connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @property
    def engine(self) -> Engine:
        """For schema tools and tests; everything else uses :meth:`read` and :meth:`write`."""
        return self._engine


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url if "://" in url else f"sqlite:///{url}")
    except (ArgumentError, ValueError):
        # SQLAlchemy's own message would repeat the password.
        raise ConfigurationError(f"ledger.url: found an invalid database URL; allowed: {_ALLOWED}") from None
    backend = parsed.get_backend_name()
    if backend == "postgres":
        parsed, backend = parsed.set(drivername="postgresql"), "postgresql"
    if backend not in ("sqlite", "postgresql"):
        raise ConfigurationError(f"ledger.url: found a {backend} URL; allowed: {_ALLOWED}")
    if parsed.drivername == "postgresql":
        # SQLAlchemy 2.1 would look for psycopg 3; dagster-postgres installs psycopg2, so one driver serves both.
        parsed = parsed.set(drivername="postgresql+psycopg2")
    if backend == "sqlite" and parsed.host:
        raise ConfigurationError(f"ledger.url: found an SQLite URL with a host; allowed: {_ALLOWED}")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(f"ledger.url: an SQLite ledger in memory would be lost; allowed: {_ALLOWED}")
    return parsed


def _postgres_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        # Between two ticks, a firewall or a restart may have closed the connection.
        pool_pre_ping=True,
        # Keys are Unicode, whatever the database's encoding.
        client_encoding="utf8",
        connect_args={
            "keepalives_idle": _KEEPALIVE_SECONDS,
            "keepalives_interval": _KEEPALIVE_INTERVAL_SECONDS,
            "keepalives_count": _KEEPALIVE_COUNT,
            "tcp_user_timeout": 1_000 * (_KEEPALIVE_SECONDS + _KEEPALIVE_COUNT * _KEEPALIVE_INTERVAL_SECONDS),
        },
    )

    # A machine that loses power does not say goodbye: without this, PostgreSQL would keep its claims for two hours. Not
    # as connection options, which poolers reject.
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET tcp_keepalives_idle = {_KEEPALIVE_SECONDS}; "
                f"SET tcp_keepalives_interval = {_KEEPALIVE_INTERVAL_SECONDS}; "
                f"SET tcp_keepalives_count = {_KEEPALIVE_COUNT}"
            )
        connection.commit()

    return engine


@contextmanager
def asked_briefly(url: str) -> Iterator[Connection | None]:
    """A connection to the ledger at *url* for one quick question; None if it is a file that does not exist.

    It changes nothing, and gives up after two seconds: code locations load with it.

    Raises:
        ConfigurationError: the URL is invalid.
        SQLAlchemyError: the database cannot be reached, or does not answer in time.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if not path.exists():
            yield None
            return
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BRIEF_SECONDS),
            poolclass=NullPool,
        )
    else:
        engine = create_engine(parsed, poolclass=NullPool, connect_args={"connect_timeout": _BRIEF_SECONDS})
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {1_000 * _BRIEF_SECONDS}")
            yield connection
    finally:
        engine.dispose()


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS})

    # SQLAlchemy documents these two hooks as the way to control BEGIN: the driver's implicit BEGIN comes too late for a
    # read, and a write must take its lock at the start, or two writers deadlock on the upgrade.
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("begin_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def ensure_wal(engine: Engine, path: Path, claims: Claims) -> None:
    """Put the database at *path*, which *engine* opens, into WAL mode, where it stays.

    The switch needs exclusive access to the file. If another process looks at it or tries the same at that moment,
    SQLite says "database is locked" without waiting for its busy timeout. So it is made under a claim, and repeated.

    Raises:
        LedgerError: the file is not a database, or another process has used it in another mode for a minute.
    """
    with engine.connect() as connection:
        driver_connection: Any = connection.connection.driver_connection
        try:
            if _is_in_wal(driver_connection):
                return
            with claims.claim("wal", wait_seconds=_WAIT_SECONDS) as mine:
                end = time.monotonic() + _WAIT_SECONDS
                while mine and not _switch(driver_connection) and time.monotonic() < end:
                    time.sleep(_SWITCH_PAUSE_SECONDS)
                if not _is_in_wal(driver_connection):
                    raise LedgerError(
                        f"{path}: another process has kept SQLite from changing to WAL for {_WAIT_SECONDS} s"
                    )
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"ledger.url: found {path}, which is not a SQLite database: {error}") from None


def _switch(driver_connection: Any) -> bool:
    """Try to change to WAL; whether it is done: not while another process uses the database."""
    try:
        (mode,) = driver_connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
    return bool(mode == "wal")


def _is_in_wal(driver_connection: Any) -> bool:
    """Asked of SQLite: a process that opened and closed the file itself would release the locks of its connections."""
    (mode,) = driver_connection.execute("PRAGMA journal_mode").fetchone()
    return bool(mode == "wal")


def ensure_schema(engine: Engine, claims: Claims) -> None:
    """Migrate the database to :data:`HEAD`.

    Raises:
        LedgerError: the ledger was written by a newer version of export_pipeline.
    """
    if schema_version(engine) == HEAD:
        return
    with claims.claim("schema", wait_seconds=_MIGRATION_WAIT_SECONDS) as mine:
        if not mine:
            raise LedgerError(f"another process has been migrating the ledger for {_MIGRATION_WAIT_SECONDS} s")
        found = schema_version(engine)
        if found != HEAD:
            _migrate(engine, found)


def require_schema(engine: Engine, description: str) -> None:
    """Check that the database is at :data:`HEAD`, and change nothing.

    Raises:
        LedgerMissing: it contains no ledger.
        LedgerError: it contains one of another version.
    """
    found = schema_version(engine)
    if found is None:
        raise LedgerMissing(f"there is no ledger in {description}; the first run creates it")
    if found != HEAD:
        raise LedgerError(
            f"the ledger in {description} is at schema {found}, but this version of export_pipeline reads {HEAD}; "
            "its next run or `export-pipeline check` migrates an older one; a newer one needs the version that wrote it"
        )


def schema_version(engine: Engine) -> str | None:
    """The database's current migration; None if it has no ledger yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def alembic_config() -> "Config":
    """Alembic, configured for the migrations inside this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "export_pipeline.ledger:migrations")
    return config


def _migrate(engine: Engine, found: str | None) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise LedgerError(
            f"the ledger is at schema {found}, which this version of export_pipeline does not know "
            f"(its newest is {HEAD}); use the version that wrote it, or a newer one"
        )
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)


def identity(tx: Connection) -> str:
    """Distinguishes this ledger from all others: 32 hexadecimal digits, drawn at random when it was created.

    Two deployments may share a folder, a Dagster instance or the names of their jobs, but not the identity of a ledger.
    A copy of a ledger (a restored backup, say) has the identity of the original.
    """
    return str(tx.execute(_IDENTITY).scalar_one())


def source_mark(tx: Connection, url: str) -> str:
    """8 hexadecimal digits that represent the source at *url* in this ledger, where people read it."""
    return sha256(f"{identity(tx)}\n{url}".encode("utf-8", "surrogatepass")).hexdigest()[:_MARK_DIGITS]


def knows_source(path: Path, source_urls: Sequence[str]) -> bool:
    """Whether the SQLite file at *path* is a ledger in which one of these sources was listed; creates nothing."""
    marks = ", ".join("?" for _ in source_urls)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(f"SELECT 1 FROM sources WHERE url IN ({marks})", source_urls)  # noqa: S608
            return found.fetchone() is not None
    except sqlite3.Error:
        return False  # no ledger, or one of a version before sources existed
