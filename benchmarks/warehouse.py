"""What a batch costs the ``warehouse`` subscriber: ``python -m benchmarks.warehouse``.

Each destination gets batches of several sizes, as the Arrow table that the subscriber makes and as the objects that dlt
usually takes. Everything is done in this process, but for PostgreSQL's own work.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.page import PAGE
from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.subscribers.warehouse_rows import rows_of
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.postgres import new_database, postgres_server

SIZES = (1, 1_000, 10_000)


class ByObjects(Warehouse):
    """The way that is not taken: dlt gets objects, not an Arrow table."""

    def _data(self, pipeline: Any, batch: Batch) -> tuple[list[Any], dict[str, Any]]:
        return rows_of(batch, datetime.now(timezone.utc)), {"_event_id": {"nullable": False}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="batches of each size, after one that does not count")
    rounds = parser.parse_args().rounds
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, options in _destinations(Path(folder)):
            with options as made:
                for way, kind in (("Arrow", Warehouse), ("objects", ByObjects)):
                    costs = _costs(kind(table_name=way.lower(), **made), rounds)
                    rows.append([name, way, *(f"{costs[size][which]:.2f}" for which in (0, 1) for size in SIZES)])
                    print(rows[-1], flush=True)
    head = ["destination", "dlt gets"]
    head += [f"{what} s, {size:,} events" for what in ("wall", "CPU") for size in SIZES]
    told = f"{date.today():%Y-%m-%d}, {description()}; "
    told += f"median of {rounds} batches of {_event_bytes():.0f} bytes an event."
    rewrite(PAGE, "bench-warehouse", "\n".join([*table(head, rows), "", told]))


def _event_bytes() -> float:
    """Size of an average event of the largest batch."""
    return sum(len(sample_event(n)) for n in range(SIZES[-1])) / SIZES[-1]


def _destinations(folder: Path) -> Iterator[tuple[str, Any]]:
    yield "DuckDB", _plain(destination="duckdb", url=str(folder / "lake.duckdb"))
    yield "PostgreSQL", _postgres(folder)
    yield "Parquet files", _plain(destination="filesystem", url=str(folder / "parquet"))
    yield "Delta table", _plain(destination="filesystem", url=str(folder / "delta"), table_format="delta")


@contextmanager
def _plain(**options: Any) -> Iterator[dict[str, Any]]:
    yield options


@contextmanager
def _postgres(folder: Path) -> Iterator[dict[str, Any]]:
    with postgres_server(folder) as server, new_database(server.replace("export@", "export:none@")) as url:
        yield {"destination": "postgres", "connection": url}


def _costs(warehouse: Warehouse, rounds: int) -> dict[int, tuple[float, float]]:
    """Size of a batch in events → its cost: wall clock and CPU of this process, in seconds."""
    found: dict[int, tuple[float, float]] = {}
    number = 0
    for size in SIZES:
        costs = []
        for _ in range(rounds + 1):
            batch = batch_of((sample_event(number + n) for n in range(size)), f"batch-{number}")
            number += size
            wall, cpu = time.perf_counter(), time.process_time()
            warehouse.deliver(batch)
            costs.append((time.perf_counter() - wall, time.process_time() - cpu))
        found[size] = (median(wall for wall, _ in costs[1:]), median(cpu for _, cpu in costs[1:]))
    warehouse.close()
    return found


if __name__ == "__main__":
    main()
