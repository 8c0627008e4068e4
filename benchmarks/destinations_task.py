"""Deliver batches once, in a separate process, as described by JSON in its argument; prints the cost.

For other tools, which run in separate environments, nothing of this package is imported.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    """Deliver, and print CPU and wall seconds, CPU seconds of our server, and peak memory in bytes."""
    told = json.loads(sys.argv[1])
    work = WAYS[told["way"]](told)
    files = sorted(Path(told["batches"]).glob("*.ndjson"))
    pid = None
    work(files[:1])  # imports, connections, tables and columns: what only the first batch of a run costs
    if told.get("server_of"):
        pid = _busiest_child(told["server_of"])
    before = _server_seconds(pid)
    wall, cpu = time.perf_counter(), time.process_time()
    work(files[1:])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    cost = {
        "cpu": cpu,
        "wall": wall,
        "server": _server_seconds(pid) - before,
        "peak": _peak_bytes(),
    }
    print(json.dumps(cost))
    sys.stdout.flush()
    os._exit(0)  # the SDKs' threads


Work = Callable[[list[Path]], None]


def ours(told: dict[str, Any]) -> Work:
    """One of our subscribers, as the pipeline drives it."""
    from datetime import date

    from export_pipeline.batching.batch import Batch
    from export_pipeline.delivery.sending import Sent
    from export_pipeline.delivery.window import send_many

    module, _, name = told["subscriber"].partition(":")
    subscriber = getattr(importlib.import_module(f"export_pipeline.subscribers.{module}"), name)(**told["options"])

    def batches(files: list[Path]) -> Iterator[tuple[int, Batch]]:
        for number, file in enumerate(files):
            data = file.read_bytes()
            name = f"0123456789abcdef01234567-{file.stem}-{told['run']}"
            yield number, Batch(name, data, data.count(b"\n"), ("2026/11/20/a.gz",), date(2026, 11, 20))

    def work(files: list[Path]) -> None:
        for _, batch, outcome in send_many(subscriber, batches(files)):
            if not isinstance(outcome, Sent) or outcome.refused:
                raise SystemExit(f"{batch.id}: {outcome}"[:2_000])

    return work


def empty(told: dict[str, Any]) -> Work:
    """All but the sending."""
    ours({**told, "subscriber": "http:Http", "options": {"url": "http://127.0.0.1:9"}})

    def work(files: list[Path]) -> None:
        for file in files:
            file.read_bytes().count(b"\n")

    return work


def read_json(told: dict[str, Any]) -> Work:
    """DuckDB's own reading of the files into a table."""
    import duckdb

    connection = duckdb.connect(told["file"])

    def work(files: list[Path]) -> None:
        source = f"SELECT * FROM read_json({[str(file) for file in files]}, format = 'newline_delimited')"
        connection.execute(f"CREATE TABLE IF NOT EXISTS events AS {source} LIMIT 0")
        connection.execute(f"INSERT INTO events BY NAME {source}")
        connection.execute("CHECKPOINT")

    return work


def copy(told: dict[str, Any]) -> Work:
    """PostgreSQL's COPY of the same CSV, made beforehand, into a table like ours, with our index."""
    import io

    import psycopg2

    connection = psycopg2.connect(told["url"])
    cursor = connection.cursor()
    cursor.execute("DROP TABLE IF EXISTS export.plain")
    cursor.execute(f"CREATE TABLE export.plain (LIKE export.{told['like']} INCLUDING ALL)")
    connection.commit()

    def work(files: list[Path]) -> None:
        for file in files:
            cursor.execute("SAVEPOINT one")
            names, _, data = file.with_suffix(".csv").read_bytes().partition(b"\n")
            cursor.copy_expert(f"COPY export.plain ({names.decode()}) FROM STDIN (FORMAT csv)", io.BytesIO(data))
        connection.commit()

    return work


def dlt_alone(told: dict[str, Any]) -> Work:
    """dlt, as its documentation loads JSON lines, with objects as JSON."""
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false"}
    dlt: Any = importlib.import_module("dlt")
    destination: Any = {
        "duckdb": lambda: dlt.destinations.duckdb(told["file"]),
        "postgres": lambda: dlt.destinations.postgres(told.get("url")),
        "filesystem": lambda: dlt.destinations.filesystem(bucket_url=told["file"]),
    }[told["destination"]]()
    pipeline = dlt.pipeline(
        "bench", destination=destination, dataset_name=f"dlt_{told['run']}", pipelines_dir=f"{told['file']}.pipelines"
    )

    def work(files: list[Path]) -> None:
        def events() -> Iterator[Any]:
            for file in files:
                yield [json.loads(line) for line in file.read_bytes().splitlines()]

        made = dlt.resource(events, name="events", max_table_nesting=0, write_disposition="append")
        pipeline.run(made, loader_file_format="parquet" if told["destination"] == "filesystem" else None)

    return work


def _events(files: list[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        for line in file.read_bytes().splitlines():
            yield json.loads(line)


def _of_sdk(event: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    return event["endpoint"]["Id"], event["event_type"], {**event["attributes"], **event["metrics"]}


def segment_sdk(told: dict[str, Any]) -> Work:
    """segment-analytics-python."""
    from segment.analytics.client import Client  # type: ignore[import-not-found, unused-ignore]

    def work(files: list[Path]) -> None:
        client = Client("key", host=told["url"], max_queue_size=10**7, upload_size=2_000, gzip=False)
        for event in _events(files):
            visitor, name, properties = _of_sdk(event)
            client.identify(anonymous_id=visitor, traits=event["endpoint"].get("Attributes", {}))
            client.track(anonymous_id=visitor, event=name, properties=properties)
        client.flush()
        client.join()

    return work


def mixpanel_sdk(told: dict[str, Any]) -> Work:
    """mixpanel, with its buffered consumer."""
    import mixpanel  # type: ignore[import-not-found, unused-ignore]

    consumer = mixpanel.BufferedConsumer(max_size=2_000, import_url=f"{told['url']}/import")
    client = mixpanel.Mixpanel("token", consumer=consumer)

    def work(files: list[Path]) -> None:
        for event in _events(files):
            visitor, name, properties = _of_sdk(event)
            moment = event["event_timestamp"] // 1000
            client.import_data("key", visitor, name, moment, properties)
        consumer.flush()

    return work


def amplitude_sdk(told: dict[str, Any]) -> Work:
    """amplitude-analytics."""
    from amplitude import Amplitude, BaseEvent  # type: ignore[import-not-found, unused-ignore]

    client = Amplitude("key")
    client.configuration.server_url = f"{told['url']}/batch"
    client.configuration.flush_queue_size = 1_000
    client.configuration.flush_max_retries = 1

    def work(files: list[Path]) -> None:
        pending: list[Any] = []
        for number, event in enumerate(_events(files), start=1):
            visitor, name, properties = _of_sdk(event)
            client.track(BaseEvent(name, device_id=visitor, event_properties=properties, time=event["event_timestamp"]))
            if number % 1_000 == 0:
                pending += client.flush() or []
        for one in [*pending, *(client.flush() or [])]:
            if one is not None:
                one.result()

    return work


def posthog_sdk(told: dict[str, Any]) -> Work:
    """posthog."""
    from posthog import Posthog  # type: ignore[import-not-found, unused-ignore]

    client = Posthog("phc_key", host=told["url"], max_queue_size=10**7, flush_at=1_000)

    def work(files: list[Path]) -> None:
        for event in _events(files):
            visitor, name, properties = _of_sdk(event)
            client.capture(name, distinct_id=visitor, properties=properties)
        client.flush()

    return work


WAYS: dict[str, Callable[[dict[str, Any]], Work]] = {
    one.__name__: one
    for one in (ours, empty, read_json, copy, dlt_alone, segment_sdk, mixpanel_sdk, amplitude_sdk, posthog_sdk)
}


def _busiest_child(url: str) -> int | None:
    """The server's process for the connection that is open now: of the one that this task opened last."""
    import psycopg2

    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' ORDER BY backend_start DESC LIMIT 1"
        )
        found = cursor.fetchone()
    return found[0] if found else None


def _peak_bytes() -> int:
    """Of this program alone: what getrusage tells begins with the memory of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _server_seconds(pid: int | None) -> float:
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
