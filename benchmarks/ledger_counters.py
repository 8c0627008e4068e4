"""The work of a database for a tick: statements, instructions or pages, and the CPU time of its processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from export_pipeline.ledger.database import Ledger

_INSTRUCTIONS_A_CALL = 100


@contextmanager
def counting(ledger: Ledger) -> Iterator[Callable[[], dict[str, float]]]:
    """Inside the block, the value returns the work of the database so far, by name."""
    done = {"statements": 0.0, **({"instructions": 0.0} if ledger.is_sqlite else {})}

    def statement(*_: object) -> None:
        done["statements"] += 1

    def instructions() -> int:
        done["instructions"] += _INSTRUCTIONS_A_CALL
        return 0

    def watch(connection: Any, _record: Any) -> None:
        if ledger.is_sqlite:
            connection.set_progress_handler(instructions, _INSTRUCTIONS_A_CALL)

    def count() -> dict[str, float]:
        event.remove(ledger.engine, "before_cursor_execute", statement)
        found = dict(done) if ledger.is_sqlite else {**done, **_server_counters(ledger)}
        event.listen(ledger.engine, "before_cursor_execute", statement)
        return found

    ledger.engine.dispose()
    event.listen(ledger.engine, "connect", watch)
    event.listen(ledger.engine, "before_cursor_execute", statement)
    yield count
    event.remove(ledger.engine, "before_cursor_execute", statement)
    event.remove(ledger.engine, "connect", watch)
    ledger.engine.dispose()


def _server_counters(ledger: Ledger) -> dict[str, float]:
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        pages = connection.execute(
            text("SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read) FROM pg_statio_user_tables")
        ).scalar_one()
        scans = connection.execute(
            text("SELECT sum(seq_scan) AS scans, sum(seq_tup_read) AS tuples FROM pg_stat_user_tables")
        ).one()
    return {
        "pages": float(pages),
        "sequential scans": float(scans.scans),
        "rows of sequential scans": float(scans.tuples),
    }


def server_cpu_seconds(ledger: Ledger) -> float:
    """CPU seconds of the server's processes that serve this one; 0 with SQLite, which works in this process."""
    if ledger.is_sqlite:
        return 0.0
    with ledger.read() as tx:
        pids = tx.execute(
            text(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND backend_type = 'client backend'"
            )
        ).scalars()
        # In nanoseconds; the hundredths of a second in /proc/<pid>/stat are too coarse for one tick.
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9
