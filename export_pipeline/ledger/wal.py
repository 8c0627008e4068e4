"""SQLite's write-ahead log, in which who reads and who writes do not wait for each other."""

import sqlite3
from contextlib import closing
from pathlib import Path

from export_pipeline.errors import LedgerError
from export_pipeline.ledger.claims import Claims

# https://www.sqlite.org/fileformat2.html: bytes 18 and 19 of the file are 2 where it is kept in WAL mode.
_VERSIONS = slice(18, 20)
_WAL = b"\x02\x02"
_WAIT_SECONDS = 60


def ensure_wal(path: Path, claims: Claims) -> None:
    """Put the database at *path* into WAL mode, where it stays.

    The switch needs the file for itself, and where two processes try it at once SQLite tells one of them "database is
    locked" without waiting for its busy timeout. So it is made under a claim, and the mode is looked up in the file.

    Raises:
        LedgerError: the file holds something else, or another process has been using it in another mode for a minute.
    """
    if _is_in_wal(path):
        return
    with claims.claim("wal", wait_seconds=_WAIT_SECONDS) as mine:
        if mine and not _is_in_wal(path):
            _switch(path)
        if not _is_in_wal(path):
            raise LedgerError(f"{path}: another process has kept SQLite from changing to WAL for {_WAIT_SECONDS} s")


def _switch(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"ledger.url: found {path}, which holds no SQLite database: {error}") from None


def _is_in_wal(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.read(_VERSIONS.stop)[_VERSIONS] == _WAL
