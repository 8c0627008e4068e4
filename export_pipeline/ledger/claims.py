"""Claims: who works on what right now, even among processes that know nothing of each other.

A claim is not a row with an expiry time. It is a lock that the operating system (SQLite: one machine) or PostgreSQL
(many machines) gives back by itself the moment its holder dies. So a killed run blocks nobody, and a slow one keeps
its claim however long one request takes: there is no lease to outlive.
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
# Those beyond are known to work only by what they write into their run's log.
_PROCESSES_OF_A_RUN = 32
_RENEW_SECONDS = 2.0
# A database that does not answer must not keep a run from ending.
_LET_GO_SECONDS = 10.0


class Claims(Protocol):
    """Exclusive rights to named pieces of work."""

    @contextmanager
    def claim(self, name: str, *, wait_seconds: float = 0) -> Iterator[bool]:
        """Hold *name* inside the block; yields False where somebody else holds it still after *wait_seconds*."""

    def sweep(self) -> None:
        """Forget what abandoned claims left behind, if they leave anything."""


@contextmanager
def at_work(claims: Claims, run_id: str) -> Iterator[None]:
    """Be known to work for a run inside the block; several processes may be, each with a claim of its own."""
    with _first_free(claims, _of_run(run_id)):
        yield


def someone_is_at_work(claims: Claims, run_id: str) -> bool:
    """Whether a process that lives is in a block of :func:`at_work` for the run."""
    # Twice, since whoever renews its claim takes another one first, and may so pass by the first look.
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
    """Claims as locked files in a folder: for SQLite, whose ledger lives on one machine as well."""

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
        """Remove lock files nobody has used for a day; the lock's holder is the only one who unlinks it."""
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
    """Claims as PostgreSQL's advisory locks, each on a connection of its own that dies with its process."""

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
                    # With the connection PostgreSQL has given it back, and what was done under it is done.
                    if not error.connection_invalidated:
                        raise

    def sweep(self) -> None:
        """Nothing is left behind."""


@contextmanager
def kept_at_work(claims: Callable[[], Claims], run_id: str) -> Iterator[None]:
    """As :func:`at_work`, but that the claim is taken anew every two seconds, by a thread.

    So it outlives broken connections: the database was restarted, or failed over to another machine.

    Args:
        claims: of the ledger; called again where the ledger is out of reach.
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
        # Whatever goes wrong here is for those to report who read and write. A connection that breaks raises what
        # SQLAlchemy knows, or the driver's own errors, and is no reason to go without a claim from then on.
        with suppress(Exception):
            taken = ExitStack()
            taken.enter_context(at_work(claims(), run_id))
            # Only now, so that there is no moment without a claim.
            before, held = held, taken
            before.close()
        ended.wait(_RENEW_SECONDS)
    with suppress(Exception):
        held.close()
