"""What a tick costs in a ledger of ten thousand files, and in one of ten million.

    python -m benchmarks.ledger --files 10_000 10_000_000 --folder /var/tmp/ledgers
    python -m benchmarks.ledger --files --postgres-files 10_000 1_000_000      # a server of its own, removed afterwards
    python -m benchmarks.ledger --files 10_000 1_000_000 --postgres postgresql://export@127.0.0.1/postgres

Work is counted where it can be: SQL statements, instructions of SQLite's virtual machine, pages that PostgreSQL touched
and sequential scans that it began. CPU seconds are those of this process, with SQLite in it, and of PostgreSQL's.
"""

import argparse
import json
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import event, text

from benchmarks.ledger_fill import Shape, file_of, fill, rows_of
from benchmarks.ledger_tick import MadeUpSource, tick
from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.page import PAGE
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.steps.retention import fold_old_days
from export_pipeline_tests.servers.postgres import new_database, postgres_server

FILES_A_DAY = 2_500
LAST_DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, 23, tzinfo=timezone.utc)
_ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_INSTRUCTIONS_A_CALL = 100
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Measured:
    """Medians over the ticks of one ledger.

    Attributes:
        work: what the database counted for a tick, by name.
    """

    engine: str
    files: int
    megabytes: float
    fill_seconds: float
    statements: float = 0
    cpu_ms: float = 0
    server_cpu_ms: float | None = None
    wall_ms: float = 0
    work: dict[str, float] = field(default_factory=dict)
    fold: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Fill, measure and print; each ledger is removed again where it was made here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="*", default=[10_000, 10_000_000], help="sizes, smallest first")
    parser.add_argument("--postgres-files", type=int, nargs="*", default=[], help="sizes in a PostgreSQL of its own")
    parser.add_argument("--ticks", type=int, default=40, help="how many are measured, after 5 that are not")
    parser.add_argument("--folder", type=Path, default=Path(), help="where SQLite's files go")
    parser.add_argument("--postgres", help="the URL of an empty PostgreSQL database, instead of SQLite")
    parser.add_argument("--fold", action="store_true", help="fold all days but 30 afterwards, and measure again")
    parser.add_argument("--page", action="store_true", help="write the table into docs/benchmarks.md")
    given = parser.parse_args()
    results = []
    for measured in _all(given):
        print(json.dumps(asdict(measured)), flush=True)
        results.append(measured)
    print(_table(results))
    if given.page:
        told = f"{date.today()}, {description()}; medians of {given.ticks} ticks."
        rewrite(PAGE, "bench-ledger", f"{_table(results)}\n\n{told}")


def _all(given: argparse.Namespace) -> Iterator[Measured]:
    if given.postgres_files:
        # Before the others: where PostgreSQL is missing, that is told at once and not after a quarter of an hour.
        with TemporaryDirectory() as folder, postgres_server(Path(folder)) as server:
            for files in given.postgres_files:
                with new_database(server) as url:
                    yield from _measure(files, argparse.Namespace(**{**vars(given), "postgres": url}))
    for files in given.files:
        yield from _measure(files, given)


def _measure(files: int, given: argparse.Namespace) -> Iterator[Measured]:
    shape = Shape("file:///made-up", LAST_DAY, files // FILES_A_DAY, FILES_A_DAY)
    with _ledger(files, given) as (ledger, size_bytes):
        started = time.monotonic()
        fill(ledger, shape, now=NOW)
        assert rows_of(ledger, t.files) == files
        seconds = time.monotonic() - started
        source = MadeUpSource(shape)
        measured = Measured(ledger.engine.dialect.name, files, size_bytes() / 1e6, round(seconds, 1))
        cursor = _ticks(ledger, source, file_of(LAST_DAY, FILES_A_DAY - 1).key, given.ticks, measured)
        yield measured
        if given.fold:
            again = Measured(measured.engine, files, 0, measured.fill_seconds)
            started = time.monotonic()
            manifests = fold_old_days(source, ledger, keep_days=30, now=NOW, most=sys.maxsize)
            again.fold = {"manifests": manifests, "seconds": round(time.monotonic() - started, 1)}
            vacuum(ledger)
            again.megabytes = size_bytes() / 1e6
            _ticks(ledger, source, cursor, given.ticks, again)
            yield again


@contextmanager
def _ledger(files: int, given: argparse.Namespace) -> Iterator[tuple[Ledger, Any]]:
    if given.postgres:
        ledger = Ledger(given.postgres)
        with ledger.read() as tx:
            assert not tx.execute(text("SELECT 1 FROM sources")).first(), "the database is not empty"

        def server_bytes() -> int:
            with ledger.read() as tx:
                return int(tx.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

        yield ledger, server_bytes
        with ledger.write() as tx:
            tx.execute(text("DROP TABLE " + ", ".join([*t.metadata.tables, "alembic_version"])))
        ledger.close()
        return
    path = given.folder / f"ledger-{files}.db"
    assert not path.exists(), path
    ledger = Ledger(str(path))

    def file_bytes() -> int:
        with ledger.read() as tx:
            pages, page_bytes = (
                tx.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("page_count", "page_size")
            )
        return int(pages) * int(page_bytes)

    yield ledger, file_bytes
    ledger.close()
    for left in given.folder.glob(f"{path.name}*"):
        if left.is_file():
            left.unlink()


def _ticks(ledger: Ledger, source: MadeUpSource, cursor: str, ticks: int, measured: Measured) -> str:
    for n in range(5):
        cursor = tick(ledger, source, cursor, run_id=f"warm-{n}-{source.added}")
    counted: list[dict[str, float]] = []
    with _counting(ledger) as count:
        for n in range(ticks):
            before = count()
            cursor = tick(ledger, source, cursor, run_id=f"count-{n}-{source.added}")
            after = count()
            counted.append({name: after[name] - before[name] for name in after})
    # Counting instructions runs Python thousands of times a tick, so that CPU is measured without it.
    cpu, wall, server = [], [], []
    for n in range(ticks):
        backend = _server_cpu_seconds(ledger)
        begun, cpu_begun = time.perf_counter(), time.process_time()
        cursor = tick(ledger, source, cursor, run_id=f"time-{n}-{source.added}")
        cpu.append(time.process_time() - cpu_begun)
        wall.append(time.perf_counter() - begun)
        if backend is not None:
            server.append((_server_cpu_seconds(ledger) or 0) - backend)
    work = {name: statistics.median(one[name] for one in counted) for name in counted[0]}
    measured.statements = work.pop("statements")
    measured.work = work
    measured.cpu_ms = round(statistics.median(cpu) * 1e3, 2)
    measured.wall_ms = round(statistics.median(wall) * 1e3, 2)
    # The kernel counts in hundredths of a second: the mean of many tells more than the median.
    measured.server_cpu_ms = round(statistics.mean(server) * 1e3, 2) if server else None
    return cursor


@contextmanager
def _counting(ledger: Ledger) -> Iterator[Callable[[], dict[str, float]]]:
    """Inside the block its value gives what the database has done so far, by name."""
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


def vacuum(ledger: Ledger) -> None:
    """Give back the space of what was deleted."""
    if ledger.is_sqlite:
        ledger.engine.dispose()
        with closing(sqlite3.connect(ledger.engine.url.database or "", isolation_level=None)) as alone:
            alone.execute("VACUUM")
            alone.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM FULL ANALYZE"))


def _server_cpu_seconds(ledger: Ledger) -> float | None:
    """CPU seconds of the server's processes that serve this one; None with SQLite, or a server on another machine."""
    if ledger.is_sqlite:
        return None
    with ledger.read() as tx:
        pids = tx.execute(
            text(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND backend_type = 'client backend'"
            )
        ).scalars()
        found = [Path(f"/proc/{pid}/stat") for pid in pids]
    fields = [path.read_text().rpartition(")")[2].split() for path in found if path.exists()]
    return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS_PER_SECOND


def _table(results: list[Measured]) -> str:
    head = ["files", "ledger", "MB", "statements", "work", "CPU ms", "server CPU ms", "wall ms"]
    return "\n".join(table(head, map(_cells, results)))


def _cells(one: Measured) -> list[str]:
    return [
        f"{one.files:,}",
        f"{_ENGINES[one.engine]}{', folded' if one.fold else ''}",
        f"{one.megabytes:,.0f}",
        f"{one.statements:,.1f}",
        ", ".join(f"{value:,.0f} {name}" for name, value in one.work.items()),
        f"{one.cpu_ms:.1f}",
        "" if one.server_cpu_ms is None else f"{one.server_cpu_ms:.1f}",
        f"{one.wall_ms:.1f}",
    ]


if __name__ == "__main__":
    main()
