"""The cost of a batch for the ``warehouse`` subscriber: ``python -m benchmarks.warehouse``.

Each destination gets batches of several sizes, directly or through dlt; for comparison, DuckDB reads the same events on
its own. Everything runs in this process, except PostgreSQL's own work.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.page import PAGE
from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.postgres import new_database, postgres_server

SIZES = (1, 1_000, 10_000)
NESTED = {"max_table_nesting": 1, "table_name": "nested"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="batches of each size, after one that does not count")
    rounds = parser.parse_args().rounds
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, way, made in _ways(Path(folder)):
            with made as load:
                costs = _costs(load, rounds)
            rows.append([name, way, *(f"{costs[size][which]:.2f}" for which in (0, 1) for size in SIZES)])
            print(rows[-1], flush=True)
    head = ["destination", "loaded by"]
    head += [f"{what} s, {size:,} events" for what in ("wall", "CPU") for size in SIZES]
    told = f"{date.today():%Y-%m-%d}, {description()}; "
    told += f"medians of {rounds} batches; {_event_bytes():.0f} bytes per event."
    rewrite(PAGE, "bench-warehouse", "\n".join([*table(head, rows), "", told]))


def _event_bytes() -> float:
    """Size of an average event of the largest batch."""
    return sum(len(sample_event(n)) for n in range(SIZES[-1])) / SIZES[-1]


def _ways(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """Name of the destination, how it is loaded, and what loads a batch."""
    duckdb = {"destination": "duckdb", "url": str(folder / "lake.duckdb")}
    yield "DuckDB", "`warehouse`", _loading(**duckdb)
    yield "DuckDB", "`warehouse`, nested, by dlt", _loading(**duckdb, **NESTED)
    yield "DuckDB", "`read_json`, without this project", _read_json(folder)
    yield "PostgreSQL", "`warehouse`", _into_postgres(folder)
    yield "PostgreSQL", "`warehouse`, nested, by dlt", _into_postgres(folder, **NESTED)
    yield "Parquet files", "`warehouse`", _loading(destination="filesystem", url=str(folder / "parquet"))
    delta = {"destination": "filesystem", "table_format": "delta"}
    yield "Delta table", "`warehouse`, by dlt", _loading(**delta, url=str(folder / "delta"))


@contextmanager
def _loading(**options: Any) -> Iterator[Callable[[Batch], object]]:
    with closing(Warehouse(**options)) as warehouse:
        yield warehouse.deliver


@contextmanager
def _into_postgres(folder: Path, **options: Any) -> Iterator[Callable[[Batch], object]]:
    with (
        postgres_server(folder) as server,
        new_database(server.replace("export@", "export:none@")) as url,
        _loading(destination="postgres", connection=url, **options) as load,
    ):
        yield load


@contextmanager
def _read_json(folder: Path) -> Iterator[Callable[[Batch], object]]:
    """DuckDB appends a file with the same events to a table, in a database file that it opens for each batch."""
    import duckdb

    source, file = folder / "batch.ndjson", folder / "itself.duckdb"
    options = f"'{source}', format = 'newline_delimited', maximum_depth = 1"

    def load(batch: Batch) -> None:
        source.write_bytes(batch.data)
        with duckdb.connect(str(file)) as connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS events AS FROM read_json({options}) LIMIT 0")
            connection.execute(f"INSERT INTO events BY NAME FROM read_json({options})")

    yield load


def _costs(load: Callable[[Batch], object], rounds: int) -> dict[int, tuple[float, float]]:
    """Size of a batch in events → its cost: wall clock and CPU of this process, in seconds."""
    found: dict[int, tuple[float, float]] = {}
    number = 0
    for size in SIZES:
        costs = []
        for _ in range(rounds + 1):
            batch = batch_of((sample_event(number + n) for n in range(size)), f"batch-{number}")
            number += size
            wall, cpu = time.perf_counter(), time.process_time()
            load(batch)
            costs.append((time.perf_counter() - wall, time.process_time() - cpu))
        found[size] = (median(wall for wall, _ in costs[1:]), median(cpu for _, cpu in costs[1:]))
    return found


if __name__ == "__main__":
    main()
