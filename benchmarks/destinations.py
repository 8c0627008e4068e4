"""The cost of each destination: ``python -m benchmarks.destinations``, which ``make bench-destinations`` runs.

Every subscriber gets the same batches, in a separate process, from the code that delivers them in a run. The receiver
is a separate process, too, and accepts everything at once. For comparison, other tools get the same events: DuckDB's
``read_json`` into a table, PostgreSQL's COPY of the same CSV, dlt alone, and the vendors' own SDKs. CPU is that of the
sending process, above that of one that only reads the batches; the CPU of PostgreSQL's server is listed separately.
Then a whole run exports a bucket to each subscriber: :mod:`benchmarks.destinations_whole`.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.data import UNTIL
from benchmarks.destinations_receiver import PASSWORD, TOPIC, USER
from benchmarks.destinations_targets import targets_of_deliveries, targets_of_runs
from benchmarks.destinations_whole import whole_exports
from benchmarks.environments import NotInstalled, environment
from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.page import PAGE
from benchmarks.serving import ROOT
from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.loads import MAX_BYTES, MAX_EVENTS
from export_pipeline.sample_bucket import sample_events
from export_pipeline.subscribers.warehouse_arrow import arrow_table
from export_pipeline.subscribers.warehouse_columns import TableColumns
from export_pipeline.subscribers.warehouse_native import rows_to_write
from export_pipeline.subscribers.warehouse_placing import place
from export_pipeline.subscribers.warehouse_rows import read_rows

BATCH_BYTES = 5 * 1024 * 1024
_MIB = 1024 * 1024
FLOOR = "http"
NEW_TABLE = "a new table"
ROW_GROUP_ROWS = 122_880
"""Of DuckDB, by default."""
PARTS = DELIVERY, WHOLE = "delivery", "whole"
SDKS = {
    "segment": ("segment-analytics-python", "segment_sdk"),
    "mixpanel": ("mixpanel", "mixpanel_sdk"),
    "amplitude": ("amplitude-analytics", "amplitude_sdk"),
    "posthog": ("posthog", "posthog_sdk"),
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to deliver the batches.

    Attributes:
        name: as on the page.
        told: the task's parameters.
        beside: name of the way with which it is compared.
        requirements: of its environment; empty: this one.
    """

    name: str
    told: dict[str, Any]
    beside: str = FLOOR
    requirements: tuple[str, ...] = ()


@dataclass(slots=True)
class Costs:
    """The costs of all rounds, in the order in which they were run."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000, help="in addition to a first batch that is not counted")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured, in turns")
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[2_000_000, 5_000_000], help="rows of the tables for a load into DuckDB"
    )
    parser.add_argument("--only", nargs="*", default=[], help="names of ways, in addition to the floor")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="what is measured")
    parser.add_argument("--no-page", action="store_true", help="print only; do not change docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, _receiver(Path(name)) as addresses:
        folder = Path(name)
        ways = _ways(addresses, folder)
        chosen = [way for way in ways if not arguments.only or way.name in (*arguments.only, "empty", FLOOR)]
        rows = arguments.rows if not arguments.only else []
        shown: dict[str, list[str]] = {}
        if DELIVERY in arguments.parts:
            shown["bench-destinations"] = _deliveries(chosen, folder, arguments.events, arguments.rounds, rows)
        if WHOLE in arguments.parts:
            whole = whole_exports(
                folder / "whole",
                {way.name: _as_deployed(way) for way in chosen if way.told["way"] == "ours"},
                events=2 * arguments.events,
                rounds=arguments.rounds,
            )
            shown["bench-destinations-whole"] = [*whole.shown(FLOOR), "", *targets_of_runs(FLOOR, whole)]
    for mark, lines in shown.items():
        text = "\n".join(
            [*lines, "", f"{date.today():%Y-%m-%d}, {description()}; medians of {arguments.rounds} rounds."]
        )
        print(text, end="\n\n")
        if not arguments.no_page:
            rewrite(PAGE, mark, text)


def _deliveries(ways: Sequence[Way], folder: Path, count: int, rounds: int, rows: Sequence[int]) -> list[str]:
    """The tables of the delivery alone, of *count* events; with *rows*, also of loads into tables of DuckDB."""
    events, size_bytes = _write_batches(folder / "batches", count)
    found: dict[str, Costs] = {}
    notes: dict[str, str] = {}
    for run in range(rounds):
        for way in ways:
            _go(way, folder, run, found, notes)
    full = _into_full_table(folder, rows, rounds) if rows else {}
    return [
        *_shown(ways, found, notes, events),
        *(["", *_shown_full(full, found)] if full else []),
        "",
        *targets_of_deliveries(
            {name: _cpu(name, found) / events * 1e6 for name in found},
            {name: median(costs.wall) / events * 1e6 for name, costs in found.items()},
            load_seconds=_more_per_load(full, events, size_bytes),
            load_mib={name: _most_mib(costs, found) for name, costs in full.items()},
        ),
        "",
        f"{events:,} events of {size_bytes / events:,.0f} bytes.",
    ]


def _ways(addresses: dict[str, str], folder: Path) -> list[Way]:
    url = addresses["http"]
    postgres = addresses["postgres"]

    def one(name: str, subscriber: str, beside: str = FLOOR, **options: Any) -> Way:
        return Way(name, {"way": "ours", "subscriber": subscriber, "options": options}, beside)

    aws = {"endpoint_url": url, "region_name": "eu-central-1"}
    duckdb = {"destination": "duckdb", "url": "{folder}/ours.duckdb"}
    into_postgres = {"destination": "postgres", "connection": postgres, "table_name": "events_{run}"}
    ways = [
        Way("empty", {"way": "empty"}),
        one(FLOOR, "http:Http", url=url + "/events"),
        one("webhook", "webhook:Webhook", url=url + "/events", secret="whsec_" + "QUJD" * 12, body="array"),
        one("files", "files:Files", url="{folder}/files"),
        one("kafka", "kafka:Kafka", bootstrap_servers=addresses["kafka"], topic=TOPIC),
        one("kinesis", "kinesis:Kinesis", stream_name="s", **aws),
        one("firehose", "firehose:Firehose", stream_name="s", **aws),
        one("sqs", "sqs:Sqs", queue_url=url + "/1/q.fifo", **aws),
        one("opensearch", "opensearch:Opensearch", api_url=url, index="events"),
        one(
            "clickhouse",
            "clickhouse:Clickhouse",
            api_url=addresses["clickhouse"],
            username=USER,
            password=PASSWORD,
            table="events",
            skip_unknown_fields=True,
        ),
        one("mixpanel", "mixpanel:Mixpanel", token="k", api_url=url),
        one("amplitude", "amplitude:Amplitude", api_key="k", api_url=url),
        one("posthog", "posthog:Posthog", api_key="k", api_url=url),
        one("segment", "segment:Segment", write_key="k", api_url=url),
        one("segment, legacy_message_ids", "segment:Segment", write_key="k", api_url=url, legacy_message_ids=True),
        Way("DuckDB `read_json`", {"way": "read_json", "file": "{folder}/native.duckdb"}),
        one("warehouse, DuckDB", "warehouse:Warehouse", "DuckDB `read_json`", **duckdb),
        one("warehouse, PostgreSQL", "warehouse:Warehouse", "PostgreSQL `COPY`", **into_postgres),
        Way("PostgreSQL `COPY`", {"way": "copy", "url": postgres, "like": "events_{run}"}),
        one(
            "warehouse, Parquet files",
            "warehouse:Warehouse",
            "dlt alone, Parquet files",
            destination="filesystem",
            url="{folder}/parquet",
        ),
        Way("dlt alone, DuckDB", {"way": "dlt_alone", "destination": "duckdb", "file": "{folder}/dlt.duckdb"}),
        Way(
            "dlt alone, PostgreSQL",
            {"way": "dlt_alone", "destination": "postgres", "file": "{folder}/dlt-postgres", "url": postgres},
        ),
        Way(
            "dlt alone, Parquet files",
            {"way": "dlt_alone", "destination": "filesystem", "file": "{folder}/dlt-parquet"},
        ),
    ]
    for name, (package, made) in SDKS.items():
        ways.append(Way(f"`{package}`", {"way": made, "url": url}, name, (package,)))
    for way in ways:
        if "postgres" in json.dumps(way.told.get("options", {})) or way.told["way"] == "copy":
            way.told["server_of"] = postgres
    return ways


def _as_deployed(way: Way) -> dict[str, Any]:
    """The subscriber as in a deployment file."""
    return {"type": way.told["subscriber"].partition(":")[0], **way.told["options"]}


def _go(way: Way, folder: Path, run: int, found: dict[str, Costs], notes: dict[str, str]) -> None:
    """Measure one way once; an error is noted, and does not stop the others."""
    if way.name in notes:
        return
    own = folder / f"run-{run}"
    own.mkdir(exist_ok=True)
    told = json.loads(json.dumps({**way.told, "run": run}).replace("{folder}", str(own)).replace("{run}", str(run)))
    try:
        python = sys.executable
        if way.requirements:
            python = environment(ROOT / ".bench" / way.requirements[0], way.requirements).python
        cost = _measure(python, {**told, "batches": str(folder / "batches")})
    except (NotInstalled, RuntimeError) as error:
        notes[way.name] = str(error)
        print(f"{way.name}: {error}", file=sys.stderr, flush=True)
        return
    costs = found.setdefault(way.name, Costs())
    for name in ("cpu", "wall", "server", "peak"):
        getattr(costs, name).append(cost[name])
    print(
        f"{way.name}, round {run + 1}: CPU {cost['cpu']:.2f} s, wall {cost['wall']:.2f} s", file=sys.stderr, flush=True
    )


def _measure(python: str, told: dict[str, Any]) -> dict[str, Any]:
    script = Path(__file__).with_name("destinations_task.py")
    credentials = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    done = subprocess.run(
        [python, "-W", "ignore", str(script), json.dumps(told)],
        env={**os.environ, **credentials},
        capture_output=True,
        text=True,
        check=False,
        timeout=1_800,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(said[-1][:300] if said else f"ended with code {done.returncode}")
    cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return cost


def _into_full_table(folder: Path, rows: Sequence[int], rounds: int) -> dict[str, Costs]:
    """Load into a new table of DuckDB, and into tables that already have that many *rows*, the same in every round.

    The tables end with a full row group: otherwise a load would rewrite the last one, which depends on the number of
    rows in it, not on those in the table.
    """
    found: dict[str, Costs] = {}
    notes: dict[str, str] = {}
    for name, before in ((NEW_TABLE, 0), *((f"a table of {count:,} rows", count) for count in rows)):
        file = folder / f"full-{before}.duckdb"
        options = {"destination": "duckdb", "url": str(file)}
        way = Way(name, {"way": "ours", "subscriber": "warehouse:Warehouse", "options": options})
        full = file.with_suffix(".full")
        if before:
            _fill(full, folder / "batches", before)
        for run in range(rounds):
            file.unlink(missing_ok=True)
            if before:
                shutil.copyfile(full, file)
            _go(way, folder, 100 + run, found, notes)
        full.unlink(missing_ok=True)
    return found


def _fill(file: Path, batches: Path, rows: int) -> None:
    """Create the table by a load, and add rows with ids like ours up to *rows*, rounded to full row groups."""
    first = {"way": "ours", "subscriber": "warehouse:Warehouse", "run": "first", "batches": str(batches)}
    _measure(sys.executable, {**first, "options": {"destination": "duckdb", "url": str(file)}})
    there = "SELECT count(*) FROM export.events"
    more = f"({round(rows / ROW_GROUP_ROWS) * ROW_GROUP_ROWS} - ({there}))::BIGINT"
    statement = (
        "INSERT INTO export.events (_event_id, _batch_id, _file, _exported_at, event_type) "
        "SELECT md5((i // 5000)::VARCHAR) || '-' || (i % 5000) || '-' || substr(md5(i::VARCHAR), 1, 16), "
        "md5((i // 5000)::VARCHAR), 'f', now(), 'x' "
        f"FROM range({more}) t(i)"
    )
    program = f"import duckdb; c = duckdb.connect({str(file)!r}); c.execute({statement!r}); c.close()"
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _write_batches(folder: Path, count: int) -> tuple[int, int]:
    """Write the batches as NDJSON, and as CSV for COPY; returns events and bytes without those of the first batch."""
    folder.mkdir()
    events = sample_events(random.Random(1), 10**9, UNTIL)
    written = size = 0
    number = 0
    columns = TableColumns([], {}, max_name_bytes=63, max_columns=1_000)
    while written < count:
        lines: list[bytes] = []
        bytes_ = 0
        most = 500 if number == 0 else count - written
        for line in islice(events, most):
            lines.append(line + b"\n")
            bytes_ += len(line) + 1
            if bytes_ >= BATCH_BYTES:
                break
        file = folder / f"{number:04}.ndjson"
        file.write_bytes(b"".join(lines))
        batch = Batch(f"copy-{number}", b"".join(lines), len(lines), ("f",), date(2026, 11, 20))
        rows = read_rows(batch, by_content=False, takes_nul=False)
        place(rows, columns, may_grow=True, overflow="json", max_row_bytes=7_700)
        prepared = list(rows_to_write(rows, columns))
        names = ", ".join(f'"{name}"' for name, _, _ in prepared)
        file.with_suffix(".csv").write_bytes(names.encode() + b"\n" + _as_csv(arrow_table(prepared)))
        if number:
            written += len(lines)
            size += bytes_
        number += 1
    return written, size


def _as_csv(table: Any) -> bytes:
    """As others write it for COPY: every text in quotes, so that an empty one is none of those that are missing."""
    import pyarrow as pa
    from pyarrow import csv

    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink, csv.WriteOptions(include_header=False))
    data: bytes = sink.getvalue().to_pybytes()
    return data


@contextmanager
def _receiver(folder: Path) -> Iterator[dict[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.destinations_receiver", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        addresses: dict[str, str] = json.loads(process.stdout.readline())
        yield addresses
    finally:
        process.stdin.close()
        process.wait(60)


def _shown(ways: Sequence[Way], found: dict[str, Costs], notes: dict[str, str], events: int) -> list[str]:
    """The table of all ways."""
    nothing = found["empty"]

    def cpu(name: str) -> float:
        return _cpu(name, found)

    rows = []
    for way in ways:
        if way.name == "empty":
            continue
        if way.name not in found:
            rows.append([way.name, notes.get(way.name, ""), "", "", "", ""])
            continue
        costs = found[way.name]
        server = median(costs.server)
        beside = f"{cpu(way.beside) / cpu(way.name):.2f} of {way.beside}" if way.beside in found else ""
        rows.append(
            [
                way.name,
                f"{cpu(way.name) / events * 1e6:.1f}" + (f" (server {server / events * 1e6:.1f})" if server else ""),
                f"{median(costs.wall) / events * 1e6:.1f}",
                f"{cpu(FLOOR) / cpu(way.name):.2f}",
                "" if way.beside == FLOOR else beside,
                f"{(median(costs.peak) - median(nothing.peak)) / _MIB:.0f}",
            ]
        )
    head = [
        "way",
        "CPU µs per event",
        "wall µs per event",
        f"rate ÷ {FLOOR}",
        "rate ÷ other tool",
        "MiB above empty",
    ]
    return table(head, rows)


def _cpu(name: str, found: Mapping[str, Costs]) -> float:
    """CPU seconds of client and server: PostgreSQL's server does a part of the work."""
    costs = found[name]
    own = [one - before for one, before in zip(costs.cpu, found["empty"].cpu, strict=True)]
    return median(one + server for one, server in zip(own, costs.server, strict=True))


def _shown_full(full: Mapping[str, Costs], found: Mapping[str, Costs]) -> list[str]:
    shown = [
        [name, f"{median(costs.cpu):.2f}", f"{median(costs.wall):.2f}", f"{_most_mib(costs, found):.0f}"]
        for name, costs in full.items()
    ]
    return table(["all events into DuckDB, into", "CPU s", "wall s", "MiB above empty, maximum"], shown)


def _most_mib(costs: Costs, found: Mapping[str, Costs]) -> float:
    return (max(costs.peak) - median(found["empty"].peak)) / _MIB


def _more_per_load(full: Mapping[str, Costs], events: int, size_bytes: int) -> dict[str, float]:
    """CPU seconds of one load into each table, above those of one into a new table."""
    loads = max(-(-events // MAX_EVENTS), -(-size_bytes // MAX_BYTES))
    return {
        name: (median(costs.cpu) - median(full[NEW_TABLE].cpu)) / loads
        for name, costs in full.items()
        if name != NEW_TABLE
    }


if __name__ == "__main__":
    main()
