"""Claims: locks on what is being worked on, even among processes that know nothing of each other.

A claim is not a row with an expiry time. It is a lock that the operating system (SQLite: one machine) or PostgreSQL
(many machines) releases by itself as soon as its holder dies. So a killed run blocks nobody, and a slow one keeps its
claim however long a request takes: there is no lease to outlive.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

_STALE_LOCK_FILE_SECONDS = 24 * 3600
_POLL_SECONDS = 0.05
# Processes beyond these show that they are working only by what they write to their run's log.
_PROCESSES_OF_A_RUN = 32
_RENEW_SECONDS = 2.0
# A database that does not answer must not keep a run from ending.
_LET_GO_SECONDS = 10.0


class Claims(Protocol):
    """Exclusive locks on named pieces of work."""

    @contextmanager
    def claim(self, name: str, *, wait_seconds: float = 0) -> Iterator[bool]:
        """Hold *name* inside the block; yields False if another process still holds it after *wait_seconds*."""

    def sweep(self) -> None:
        """Clean up after abandoned claims, if they leave anything behind."""


@contextmanager
def at_work(claims: Claims, run_id: str) -> Iterator[None]:
    """Show inside the block that this process works for a run; several may, each with a separate claim."""
    with _first_free(claims, _of_run(run_id)):
        yield


def someone_is_at_work(claims: Claims, run_id: str) -> bool:
    """Whether a live process is inside a block of :func:`at_work` for the run."""
    # Twice, since a process that renews its claim first takes another one, and may be missed by the first look.
    return any(_somebody_holds(claims, name) for _ in range(2) for name in _of_run(run_id))


def _somebody_holds(claims: Claims, name: str) -> bool:
    with claims.claim(name) as free:
        return not free


def _of_run(run_id: str) -> list[str]:
    return [f"run:{run_id}:{n}" for n in range(_PROCESSES_OF_A_RUN)]


def _first_free(claims: Claims, names: Iterable[str]) -> ExitStack:
    for name in names:
        with ExitStack() as held:
            if held.enter_context(claims.claim(name)):
                return held.pop_all()
    return ExitStack()


class FileClaims:
    """Claims as locked files in a folder: for SQLite, whose ledger is on one machine as well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def claim(self, name: str, *, wait_seconds: float = 0) -> Iterator[bool]:
        """See :class:`Claims`."""
        from filelock import FileLock, Timeout

        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"
        lock = FileLock(path, timeout=wait_seconds, poll_interval=_POLL_SECONDS, thread_local=False, mode=0o600)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            os.utime(path)
            yield True
        finally:
            lock.release()

    def sweep(self) -> None:
        """Delete lock files unused for a day; only the lock's holder unlinks one."""
        from filelock import FileLock, Timeout

        if not self._folder.is_dir():
            return
        oldest = time.time() - _STALE_LOCK_FILE_SECONDS
        for entry in os.scandir(self._folder):
            if entry.stat().st_mtime >= oldest:
                continue
            try:
                with FileLock(entry.path, timeout=0):
                    os.unlink(entry.path)
            except Timeout:
                continue


class PostgresClaims:
    """Claims as PostgreSQL's advisory locks, each on its own connection, which dies with its process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def claim(self, name: str, *, wait_seconds: float = 0) -> Iterator[bool]:
        """See :class:`Claims`. Needs session-level locks: no transaction-pooling proxy between here and PostgreSQL."""
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        deadline = time.monotonic() + wait_seconds
        # AUTOCOMMIT: a transaction left open for hours would hold back PostgreSQL's vacuum.
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            take = text("SELECT pg_try_advisory_lock(:number)")
            while not (taken := bool(connection.execute(take, {"number": number}).scalar())):
                if time.monotonic() >= deadline:
                    break
                time.sleep(_POLL_SECONDS)
            if not taken:
                yield False
                return
            try:
                yield True
            finally:
                try:
                    connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": number})
                except DBAPIError as error:
                    # PostgreSQL has released it with the connection, and the work done under it is done.
                    if not error.connection_invalidated:
                        raise

    def sweep(self) -> None:
        """Nothing is left behind."""


@contextmanager
def kept_at_work(claims: Callable[[], Claims], run_id: str) -> Iterator[None]:
    """As :func:`at_work`, but a thread takes the claim again every two seconds.

    So it survives broken connections: a restart of the database, or a failover to another machine.

    Args:
        claims: of the ledger; called again if the ledger is unreachable.
    """
    ended = Event()
    holder = Thread(target=_hold, args=(claims, run_id, ended), name="claim of the run", daemon=True)
    holder.start()
    try:
        yield
    finally:
        ended.set()
        holder.join(_LET_GO_SECONDS)


def _hold(claims: Callable[[], Claims], run_id: str, ended: Event) -> None:
    held = ExitStack()
    while not ended.is_set():
        # Those who read and write report whatever is wrong. A broken connection raises SQLAlchemy's errors or the
        # driver's own, and must not lead to continuing without a claim.
        with suppress(Exception):
            taken = ExitStack()
            taken.enter_context(at_work(claims(), run_id))
            # Only now, so that there is no moment without a claim.
            before, held = held, taken
            before.close()
        ended.wait(_RENEW_SECONDS)
    with suppress(Exception):
        held.close()
