"""``make bench-spread``: the gain of a second Celery worker, on a backfill of one day.

Ledger and Dagster's storage are in PostgreSQL, the broker is Redis, source and staging are in Ceph's S3 server: all on
this machine, together with the workers, each of which runs one step at a time.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from sqlalchemy import func, select

from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.rounds import say
from benchmarks.serving import ROOT
from export_pipeline.ledger import deliveries
from export_pipeline.ledger import tables as t
from export_pipeline.sample_bucket import sample_events
from export_pipeline_tests.integration.spread import VARIABLES, SpreadProject
from export_pipeline_tests.servers.postgres import new_database, postgres_server
from export_pipeline_tests.servers.programs import wait_for
from export_pipeline_tests.servers.redis import redis_server
from export_pipeline_tests.servers.s3 import S3Server, ceph_server

PAGE = ROOT / "docs" / "deployment.md"
DAY, WARM_UP = "2026-11-20", "2026-11-19"
FILES = 24
SLOW_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Case:
    """A backfill, and its bottleneck.

    Attributes:
        title: as shown on the page.
        subscriber: in the deployment file; URL stands for the receiver's address.
        events: in each of the files, each file a manifest.
        batch_events: maximum number of events per batch.
        wait_seconds: how long the receiver takes per request.
        wanted: required speed of two workers, in multiples of one.
    """

    title: str
    subscriber: dict[str, Any]
    events: int
    batch_events: int
    wait_seconds: float
    wanted: float


CASES = (
    Case(
        f"a receiver that takes {SLOW_SECONDS:g} s per request (`webhook`)",
        {"type": "webhook", "url": "URL"},
        events=200,
        batch_events=25,
        wait_seconds=SLOW_SECONDS,
        wanted=1.7,
    ),
    Case(
        "CPU: each event mapped to calls in Python (`segment`)",
        {"type": "segment", "api_url": "URL", "write_key": "key"},
        events=12_000,
        batch_events=3_000,
        wait_seconds=0,
        wanted=1.5,
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One backfill.

    Attributes:
        seconds: from the run's start to its end, according to Dagster.
        steps: how many each worker did.
    """

    case: str
    workers: int
    events: int
    seconds: float
    steps: list[int]


def main() -> None:
    """Measure both cases with one worker and with two, in turns, and write the page's section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(".bench"))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    results = given.root / "results"
    results.mkdir(parents=True, exist_ok=True)
    found = []
    with _servers() as servers:
        for case in CASES:
            for _ in range(given.rounds):
                for workers in (1, 2):
                    measured = _measure(case, workers, servers)
                    say(f"{case.title}: {workers} worker(s): {measured.seconds:.1f} s, steps {measured.steps}")
                    found.append(measured)
    (results / "spread.json").write_text(json.dumps([asdict(one) for one in found], indent=1))
    text = _text(found)
    rewrite(PAGE, "bench-spread", text)
    print(text)


@dataclass(frozen=True, slots=True)
class _Servers:
    s3: S3Server
    postgres: str
    redis: str


@contextmanager
def _servers() -> Iterator[_Servers]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield _Servers(
            s3=stack.enter_context(ceph_server(folder)),
            postgres=stack.enter_context(postgres_server(folder)),
            redis=stack.enter_context(redis_server(folder)),
        )


def _measure(case: Case, workers: int, servers: _Servers) -> Measured:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(_receiver(case.wait_seconds, folder))
        os.environ.update(VARIABLES | {"SPREAD_BROKER": servers.redis})
        project = SpreadProject(
            folder,
            s3=servers.s3,
            ledger=stack.enter_context(new_database(servers.postgres)),
            storage=stack.enter_context(new_database(servers.postgres)),
            broker=servers.redis,
        )
        project.config["executor"]["redeliver_after_seconds"] = 3_600
        project.config["frequency"] = "daily"
        project.config["manifest"] = {"max_files": 1}
        project.config["batch"] = {"max_events": case.batch_events, "max_bytes": 50_000_000}
        project.config["subscribers"] = {"receiver": case.subscriber | _address(case, url)}
        _fill(project, WARM_UP, files=2 * workers, events=10)
        _fill(project, DAY, files=FILES, events=case.events)
        names = [f"worker{n}" for n in range(workers)]
        stack.enter_context(project.workers(*names))
        _backfill(project, WARM_UP)  # every worker has imported everything
        before = project.steps_by_worker()
        seconds = _backfill(project, DAY)
        steps = project.steps_by_worker() - before
        with project.ledger() as ledger, ledger.read() as tx:
            d = t.deliveries.c
            accepted = tx.execute(select(func.sum(d.accepted)).where(d.state == deliveries.DELIVERED)).scalar_one()
        assert accepted == FILES * case.events + 2 * workers * 10, "not everything was delivered"
        assert project.imbalances() == []
        return Measured(case.title, workers, FILES * case.events, seconds, [steps[name] for name in names])


def _address(case: Case, url: str) -> dict[str, str]:
    return {option: url for option, value in case.subscriber.items() if value == "URL"}


def _fill(project: SpreadProject, day: str, *, files: int, events: int) -> None:
    moment = datetime.fromisoformat(day).replace(hour=12, tzinfo=timezone.utc)
    for number in range(files):
        lines = list(islice(sample_events(random.Random(f"{day}/{number}"), events, moment), events))
        project.put(f"{day.replace('-', '/')}/12/{number:03}.gz", lines)


def _backfill(project: SpreadProject, day: str) -> float:
    """Run it, and return how many seconds it took."""
    done = project.start_backfill(day)
    printed = done.communicate(timeout=1_800)[0].decode()
    assert done.returncode == 0, printed[-3_000:]
    with DagsterInstance.from_config(str(project.home)) as instance:
        finished = RunsFilter(statuses=[DagsterRunStatus.SUCCESS])
        (record,) = instance.get_run_records(filters=finished, limit=1)
    assert record.start_time is not None
    assert record.end_time is not None
    return record.end_time - record.start_time


_RECEIVER = """
import http.server, sys, time

class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(float(sys.argv[1]))
        self.send_response(200)
        self.send_header("content-length", "16")
        self.end_headers()
        self.wfile.write(b'{"success":true}')
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@contextmanager
def _receiver(wait_seconds: float, folder: Path) -> Iterator[str]:
    """A receiver in a separate process, which accepts any number of concurrent requests."""
    with (folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", _RECEIVER, str(wait_seconds)], stdout=log, stderr=log)
    try:
        printed = folder / "receiver.log"
        wait_for(lambda: printed.read_bytes().endswith(b"\n"), processes=[process], log=printed)
        yield f"http://127.0.0.1:{int(printed.read_text())}"
    finally:
        process.kill()
        process.wait()


def _text(found: list[Measured]) -> str:
    rows = []
    for case in CASES:
        of_case = [one for one in found if one.case == case.title]
        one, two = (median(each.seconds for each in of_case if each.workers == workers) for workers in (1, 2))
        cells = [
            f"{of_case[0].events:,}",
            f"{one:.1f}",
            f"{two:.1f}",
            f"{one / two:.2f} times",
            f"{case.wanted:g} times",
        ]
        rows.append([case.title, *cells])
    rounds = sum(one.workers == 1 and one.case == CASES[0].title for one in found)
    told = "One round" if rounds == 1 else f"Medians of {rounds} rounds"
    return "\n".join(
        [
            *table(["bottleneck", "events", "one worker, s", "two workers, s", "speedup", "target"], rows),
            "",
            f"{told}, from the run's start to its end. One day, {FILES} files, one manifest per file. "
            f"{description()}; workers, PostgreSQL, Redis, S3 server and receiver share these cores.",
        ]
    )


if __name__ == "__main__":
    main()
