"""The cost of a tick with a ledger of ten thousand files, and with one of ten million.

    python -m benchmarks.ledger --files 10_000 10_000_000 --folder /var/tmp/ledgers
    python -m benchmarks.ledger --files --postgres-files 10_000 10_000_000     # in a temporary server

Work is counted where possible: SQL statements, instructions of SQLite's virtual machine, pages that PostgreSQL accessed
and sequential scans that it started. CPU seconds are those of this process, which includes SQLite, and of PostgreSQL's.
"""

import argparse
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from datetime import date, datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import text

from benchmarks.ledger_fill import Shape, file_of, fill, rows_of
from benchmarks.ledger_tick import MadeUpSource
from benchmarks.ledger_turns import Filled, Measured, measure
from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.page import PAGE
from benchmarks.rounds import say
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.steps.retention import fold_old_days
from export_pipeline_tests.servers.postgres import new_database, postgres_server

FILES_A_DAY = 2_500
LAST_DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, 23, tzinfo=timezone.utc)
_ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def main() -> None:
    """Fill, measure and print; the ledgers are deleted afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="*", default=[10_000, 10_000_000], help="sizes, smallest first")
    parser.add_argument("--postgres-files", type=int, nargs="*", default=[], help="sizes in a temporary PostgreSQL")
    parser.add_argument("--ticks", type=int, default=40, help="how many are measured per ledger, after the warm-up")
    parser.add_argument("--folder", type=Path, default=Path(), help="where SQLite's files are created")
    parser.add_argument("--fold", action="store_true", help="then fold all but the last 30 days, and measure again")
    parser.add_argument("--page", action="store_true", help="write the table into docs/benchmarks.md")
    given = parser.parse_args()
    results = []
    for measured in _all(given):
        print(json.dumps(asdict(measured)), flush=True)
        results.append(measured)
    print(_table(results))
    if given.page:
        told = f"{date.today()}, {description()}; medians of {given.ticks} ticks per ledger, in turns."
        rewrite(PAGE, "bench-ledger", f"{_table(results)}\n\n{told}")


def _all(given: argparse.Namespace) -> Iterator[Measured]:
    # PostgreSQL before SQLite: if it is missing, this fails at once and not after a quarter of an hour.
    if given.postgres_files:
        with TemporaryDirectory() as folder, postgres_server(Path(folder)) as server, ExitStack() as stack:
            databases = [stack.enter_context(new_database(server)) for _ in given.postgres_files]
            yield from _measure(databases, given.postgres_files, given)
    if given.files:
        with TemporaryDirectory(dir=given.folder) as folder:
            yield from _measure([str(Path(folder, f"{files}.db")) for files in given.files], given.files, given)


def _measure(urls: list[str], sizes: list[int], given: argparse.Namespace) -> Iterator[Measured]:
    """The ledgers of one engine."""
    with ExitStack() as stack:
        ledgers = [stack.enter_context(_filled(url, files)) for url, files in zip(urls, sizes, strict=True)]
        measure(ledgers, given.ticks)
        yield from (one.measured for one in ledgers)
        if not given.fold:
            return
        for one in ledgers:
            _fold(one)
        measure(ledgers, given.ticks)
        yield from (one.measured for one in ledgers)


@contextmanager
def _filled(url: str, files: int) -> Iterator[Filled]:
    shape = Shape("file:///made-up", LAST_DAY, files // FILES_A_DAY, FILES_A_DAY)
    with closing(Ledger(url)) as ledger:
        started = time.monotonic()
        fill(ledger, shape, now=NOW)
        assert rows_of(ledger, t.files) == files
        seconds = round(time.monotonic() - started, 1)
        engine, size_bytes = ledger.engine.dialect.name, _size_bytes(ledger)
        say(f"{_ENGINES[engine]}: {files:,} files in {seconds} s")
        measured = Measured(engine, files, size_bytes() / 1e6, seconds)
        yield Filled(ledger, MadeUpSource(shape), file_of(LAST_DAY, FILES_A_DAY - 1).key, size_bytes, measured)


def _size_bytes(ledger: Ledger) -> Callable[[], int]:
    sizes = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    if not ledger.is_sqlite:
        sizes = "SELECT pg_database_size(current_database())"

    def size_bytes() -> int:
        with ledger.read() as tx:
            return int(tx.execute(text(sizes)).scalar_one())

    return size_bytes


def _fold(one: Filled) -> None:
    started = time.monotonic()
    manifests = fold_old_days(one.source, one.ledger, keep_days=30, now=NOW, most=sys.maxsize)
    folded: dict[str, float] = {"manifests": manifests, "seconds": round(time.monotonic() - started, 1)}
    vacuum(one.ledger)
    one.measured = replace(one.measured, megabytes=one.size_bytes() / 1e6, fold=folded)


def vacuum(ledger: Ledger) -> None:
    """Release the space of what was deleted."""
    if ledger.is_sqlite:
        ledger.engine.dispose()
        with closing(sqlite3.connect(ledger.engine.url.database or "", isolation_level=None)) as alone:
            alone.execute("VACUUM")
            alone.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM FULL ANALYZE"))


def _table(results: list[Measured]) -> str:
    head = ["files", "ledger", "MB", "work", "wall ms", "CPU ms", "of which server", "CPU ÷ smallest ledger"]
    return "\n".join(table(head, map(_cells, results)))


def _cells(one: Measured) -> list[str]:
    return [
        f"{one.files:,}",
        f"{_ENGINES[one.engine]}{', folded' if one.fold else ''}",
        f"{one.megabytes:,.0f}",
        ", ".join(f"{value:,.0f} {name}" for name, value in one.work.items()),
        f"{one.wall_ms:.1f}",
        f"{one.cpu_ms:.1f}",
        f"{one.server_cpu_ms:.1f}" if one.engine == "postgresql" else "",
        f"{one.cpu_ratio:.2f}",
    ]


if __name__ == "__main__":
    main()
