"""``make bench-latency``: how long a file waits, from its arrival in the source to its acceptance by a webhook.

One file of one event arrives every few seconds, at random moments, while a real Dagster daemon, or a process of the
command line, looks for it. Everything runs on this machine: source, ledger, Dagster's storage, and the receiver.
"""

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.rounds import say
from benchmarks.serving import ROOT
from export_pipeline_tests.integration.dagster_dev import dagster_dev
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.test_s3 import in_s3
from export_pipeline_tests.servers.queues import new_queue, notify
from export_pipeline_tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server, moto_server

PAGE = ROOT / "docs" / "benchmarks.md"
MEDIAN_SECONDS, MOST_SECONDS = 30, 45
"""What the sensor promises at its default interval: the median, and 95 % of the files."""

_GAP_SECONDS = (5.0, 25.0)
_PATIENCE_SECONDS = 900
_COMMAND = (sys.executable, "-m", "export_pipeline.cli")


class Receiver:
    """Accepts webhooks, and notes when it accepted the event of each file."""

    def __init__(self) -> None:
        self.accepted: dict[int, float] = {}
        accepted = self.accepted

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(204)
                self.end_headers()
                now = time.time()
                for event in json.loads(body):
                    accepted.setdefault(event["n"], now)

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> "Receiver":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Site:
    """A deployment with one subscriber, and what its files land in.

    Args:
        server: the S3 server of a source with notifications; None: the source is a folder.
    """

    def __init__(self, folder: Path, receiver: Receiver, server: S3Server | None) -> None:
        self.project = Project(folder)
        shutil.copy(ROOT / "dagster.yaml", self.project.home)
        self.project.config.update(
            frequency="weekly", subscribers={"receiver": {"type": "webhook", "url": receiver.url}}
        )
        self._server = server
        self._bucket = ""
        if server is not None:
            self._bucket = server.new_bucket()
            queue = new_queue(server)
            notify(server, self._bucket, queue, prefix="raw/")
            self.project.config["source"] = in_s3(
                server, f"s3://{self._bucket}/raw/", notifications={"queue_url": queue.url}
            )

    def put(self, number: int) -> None:
        """Have the file with this number arrive."""
        key = f"{datetime.now(timezone.utc):%Y/%m/%d/%H}/{number:04}"
        if self._server is None:
            self.project.put(key, [{"n": number}])
        else:
            self._server.put(self._bucket, {f"raw/{key}": json.dumps({"n": number}).encode()})


@contextmanager
def _schedule(site: Site) -> Iterator[None]:
    site.project.config["frequency"] = "* * * * *"
    with dagster_dev(site.project):
        yield


@contextmanager
def _sensor(site: Site) -> Iterator[None]:
    with dagster_dev(site.project) as dev:
        dev.start_sensor("new_files")
        yield


@contextmanager
def _run_in_a_loop(site: Site) -> Iterator[None]:
    over = threading.Event()

    def loop() -> None:
        while not over.is_set():
            _command(site, "run").wait()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _follow(site: Site) -> Iterator[None]:
    process = _command(site, "follow")
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _command(site: Site, name: str) -> "subprocess.Popen[bytes]":
    with (site.project.root / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [*_COMMAND, name], cwd=site.project.root, env=site.project.environment(), stdout=log, stderr=log
        )


@dataclass(frozen=True, slots=True)
class Way:
    """How new files are looked for.

    Attributes:
        title: as shown on the page.
        looking: starts it, and ends it.
        is_notified: the source has notifications.
        is_promised: the page says whether it keeps what is promised.
    """

    title: str
    looking: Callable[[Site], AbstractContextManager[None]]
    is_notified: bool = False
    is_promised: bool = False


WAYS = (
    Way('schedule, `frequency: "* * * * *"`, the most that cron allows', _schedule),
    Way("sensor `new_files`, switched on", _sensor, is_promised=True),
    Way("sensor `new_files`, with notifications", _sensor, is_notified=True, is_promised=True),
    Way("`export-pipeline run`, in a loop", _run_in_a_loop),
    Way("`export-pipeline follow`", _follow),
    Way("`export-pipeline follow`, with notifications", _follow, is_notified=True),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One way.

    Attributes:
        seconds: from arrival to acceptance, by file.
        load: the highest load average (of a minute) during it, with what else the machine had to do.
    """

    way: str
    is_promised: bool
    seconds: list[float]
    load: float = 0.0


def main() -> None:
    """Measure each way, and write the page's section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(".bench"))
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--resume", action="store_true", help="keep what an interrupted measurement has measured")
    given = parser.parse_args()
    results = given.root / "results"
    results.mkdir(parents=True, exist_ok=True)
    os.environ.update(TEST_ACCESS_KEY=ACCESS_KEY, TEST_SECRET_KEY=SECRET_KEY)
    kept = results / "latency.json"
    before = [Measured(**one) for one in json.loads(kept.read_text())] if given.resume and kept.exists() else []
    found = []
    for way in WAYS:
        measured = next((one for one in before if one.way == way.title), None) or measure(way, files=given.files)
        say(f"{way.title}: median {median(measured.seconds):.1f} s, 95 % {at_share(measured.seconds, 0.95):.1f} s")
        found.append(measured)
        kept.write_text(json.dumps([asdict(one) for one in found], indent=1))
    text = section(found)
    rewrite(PAGE, "bench-latency", text)
    print(text)


def measure(way: Way, *, files: int) -> Measured:
    """Have so many files arrive, after one that warms everything up."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = stack.enter_context(Receiver())
        server = stack.enter_context(moto_server(folder)) if way.is_notified else None
        (folder / "project").mkdir()
        site = Site(folder / "project", receiver, server)
        stack.enter_context(way.looking(site))
        site.put(0)
        _wait_for(receiver, 1)
        gaps, arrived, load = random.Random(way.title), {}, 0.0
        for number in range(1, files + 1):
            time.sleep(gaps.uniform(*_GAP_SECONDS))
            arrived[number] = time.time()
            site.put(number)
            load = max(load, os.getloadavg()[0])
        _wait_for(receiver, files + 1)
        seconds = [receiver.accepted[number] - at for number, at in arrived.items()]
        return Measured(way.title, way.is_promised, seconds, load)


def _wait_for(receiver: Receiver, files: int) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while len(receiver.accepted) < files:
        assert time.monotonic() < end, f"{len(receiver.accepted)} of {files} files arrived"
        time.sleep(0.1)


def at_share(seconds: list[float], share: float) -> float:
    """The least of *seconds* that this *share* of them does not exceed."""
    return sorted(seconds)[math.ceil(share * len(seconds)) - 1]


def section(found: list[Measured]) -> str:
    """The table and what it was measured on."""
    rows = []
    for one in found:
        middle, most = median(one.seconds), at_share(one.seconds, 0.95)
        met = "yes" if middle < MEDIAN_SECONDS and most < MOST_SECONDS else "no"
        promised = f"{MEDIAN_SECONDS} and {MOST_SECONDS} s: {met}" if one.is_promised else ""
        rows.append([one.way, f"{middle:.1f}", f"{most:.1f}", f"{max(one.seconds):.1f}", promised])
    files, load = len(found[0].seconds), max(one.load for one in found)
    busy = f" The load average was {load:.1f} at most." if load else ""
    return "\n".join(
        [
            *table(["looked for by", "median s", "95 % s", "longest s", "target met"], rows),
            "",
            f"{date.today():%Y-%m-%d}, {description()}; {files} files each, one every {_GAP_SECONDS[0]:g} to "
            f"{_GAP_SECONDS[1]:g} s. Daemon, runs, source and receiver share these cores.{busy}",
        ]
    )


if __name__ == "__main__":
    main()
