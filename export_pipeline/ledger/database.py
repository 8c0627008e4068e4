"""The ledger's database: one engine, short transactions, claims."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from export_pipeline.errors import ConfigurationError, LedgerMissing
from export_pipeline.ledger.claims import Claims, FileClaims, PostgresClaims
from export_pipeline.ledger.schema import ensure_schema, require_schema
from export_pipeline.ledger.wal import ensure_wal
from export_pipeline.storage.folders import make_private_file

# A connection without an answer is given up after half a minute, by either side.
_KEEPALIVE_SECONDS, _KEEPALIVE_INTERVAL_SECONDS, _KEEPALIVE_COUNT = 10, 5, 4
_BUSY_TIMEOUT_SECONDS = 60


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(timezone.utc)


class Ledger:
    """An open ledger. A file of SQLite is made for its owner only (mode 0600, SQLite's files beside it alike).

    Args:
        url: a SQLAlchemy URL (``postgresql://user:password@host/name``, ``sqlite:///path``) or a bare path, which is
            taken as SQLite. A relative path starts at the working folder.
        create: whether to make the ledger, or to bring an older one to this version. Who only looks does neither.

    Raises:
        LedgerMissing: there is none, and it must not be made.
        LedgerError: it was written by a newer version, or an older one where it must not be changed.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.description = parsed.render_as_string(hide_password=True)
        self.claims: Claims
        if self.is_sqlite:
            path = Path(parsed.database or "")
            if create:
                # Whatever hinders this hinders SQLite too, which says so.
                with suppress(OSError):
                    make_private_file(os.path.abspath(path))
            elif not path.exists():
                raise LedgerMissing(f"there is no ledger at {path}; the first run makes it")
            self._engine = _sqlite_engine(parsed)
            self.claims = FileClaims(path.with_name(path.name + ".claims"))
        else:
            self._engine = _postgres_engine(parsed)
            self.claims = PostgresClaims(self._engine)
        try:
            if create:
                if self.is_sqlite:
                    ensure_wal(path, self.claims)
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
        """A transaction that is kept whole or not at all.

        Args:
            durable: kept even when the machine loses power right after. Plans need it: a plan that was forgotten after
                its batches were delivered would be made again with other ids. A forgotten acceptance only repeats
                a batch under its old id, so it need not wait for the disk.
        """
        with self._engine.connect().execution_options(begin_immediate=True) as connection:
            if self.is_sqlite:
                # On the driver's own connection: SQLAlchemy would begin a transaction first, and SQLite does not
                # change this inside one.
                driver_connection: Any = connection.connection.driver_connection
                driver_connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    @property
    def engine(self) -> Engine:
        """For schema tools and tests; everything else goes through :meth:`read` and :meth:`write`."""
        return self._engine


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url if "://" in url else f"sqlite:///{url}")
    except (ArgumentError, ValueError):
        # SQLAlchemy's own message would repeat the password.
        raise ConfigurationError(f"ledger.url: found something that is no database URL; allowed: {_ALLOWED}") from None
    backend = parsed.get_backend_name()
    if backend == "postgres":
        parsed, backend = parsed.set(drivername="postgresql"), "postgresql"
    if backend not in ("sqlite", "postgresql"):
        raise ConfigurationError(f"ledger.url: found a {backend} URL; allowed: {_ALLOWED}")
    if parsed.drivername == "postgresql":
        # SQLAlchemy 2.1 would look for psycopg 3; dagster-postgres brings psycopg2, so one driver serves both.
        parsed = parsed.set(drivername="postgresql+psycopg2")
    if backend == "sqlite" and parsed.host:
        raise ConfigurationError(f"ledger.url: found an SQLite URL with a host; allowed: {_ALLOWED}")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(f"ledger.url: an SQLite ledger in memory would be lost; allowed: {_ALLOWED}")
    return parsed


_ALLOWED = "a path such as .dagster/ledger.db, sqlite:///path, or postgresql://user:password@host:5432/name"


def _postgres_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        # Between two ticks a firewall or a restart may have closed the connection.
        pool_pre_ping=True,
        # Keys are Unicode, whatever encoding the database was made with.
        client_encoding="utf8",
        connect_args={
            "keepalives_idle": _KEEPALIVE_SECONDS,
            "keepalives_interval": _KEEPALIVE_INTERVAL_SECONDS,
            "keepalives_count": _KEEPALIVE_COUNT,
            "tcp_user_timeout": 1_000 * (_KEEPALIVE_SECONDS + _KEEPALIVE_COUNT * _KEEPALIVE_INTERVAL_SECONDS),
        },
    )

    # A machine that lost power says no goodbye: without this PostgreSQL would keep its claims for two hours. Not among
    # the options of connecting, which poolers refuse.
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


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS})

    # SQLAlchemy documents these two hooks as the way to BEGIN oneself: the driver's implicit BEGIN comes too late for
    # a read, and a write must take its lock at the start or two writers deadlock on the upgrade.
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("begin_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
