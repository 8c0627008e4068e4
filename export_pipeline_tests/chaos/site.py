"""A deployment in a separate folder, with everything around it that chaos can break."""

import gzip
import json
import multiprocessing
import os
import random
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance, RunsFilter

from export_pipeline.orchestration.underway import UNFINISHED
from export_pipeline_tests.chaos.receivers import Forgetful, Honouring, events_in
from export_pipeline_tests.chaos.store import FaultyStore
from export_pipeline_tests.chaos.worker import Order, work
from export_pipeline_tests.integration.project import DAGSTER_YAML
from export_pipeline_tests.servers.programs import python_path
from export_pipeline_tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server

COPY, HONOURING, FORGETFUL = "copy", "honouring", "forgetful"
_REQUEST_SECONDS = 1.0
_EVENTS_A_FILE = 6
# Real tries end in the quarantine after five; here hundreds of faults hit the same files, and none is at fault itself.
_MAX_ATTEMPTS = 1_000


class Site:
    """What one campaign works on.

    Attributes:
        config: the deployment file's content, written anew before each run.
        expected: event → 1, of everything that was ever put into the bucket.
        dagster_log: what the last ``dagster job execute`` printed.
    """

    def __init__(
        self, root: Path, *, s3: S3Server, store: FaultyStore, honouring: Honouring, forgetful: Forgetful, ledger: str
    ) -> None:
        self.root, self.s3, self.store, self.honouring, self.forgetful = root, s3, store, honouring, forgetful
        root.mkdir(parents=True)
        self.home = root / "home"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(DAGSTER_YAML))
        self.dagster_log = root / "dagster.log"
        self.bucket = s3.new_bucket()
        self.ledger_url = ledger or str(root / "ledger" / "ledger.db")
        self.expected: Counter[str] = Counter()
        self._files = 0
        self._runs = 0
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(["export_pipeline_tests.chaos.worker"])
        self.config: dict[str, Any] = {
            "frequency": "* * * * *",
            "source": {
                "url": f"s3://{self.bucket}/events/",
                "endpoint_url": store.url,
                "region_name": "us-east-1",
                "aws_access_key_id": ACCESS_KEY,
                "aws_secret_access_key": {"env": "CHAOS_SECRET_KEY"},
                "read_timeout_seconds": 5,
            },
            "staging": {"url": str(root / "staging")},
            "quarantine": {"url": str(root / "quarantine")},
            "ledger": {"url": self.ledger_url},
            "max_attempts": _MAX_ATTEMPTS,
            "max_files": 20,
            "manifest": {"max_files": 3},
            "batch": {"max_events": 5},
            "subscribers": {
                COPY: {"type": "files", "url": str(root / "copy")},
                HONOURING: self.webhook(f"{honouring.url}/{HONOURING}"),
                FORGETFUL: self.webhook(f"{forgetful.url}/{FORGETFUL}"),
            },
        }
        os.environ["CHAOS_SECRET_KEY"] = SECRET_KEY

    def webhook(self, url: str) -> dict[str, Any]:
        """A subscriber with little patience, so that chaos is quick."""
        return {
            "type": "webhook",
            "url": url,
            "body": "ndjson",
            "timeout_seconds": _REQUEST_SECONDS,
            "retry_for_seconds": 1.0,
        }

    # --- the source

    def put_files(self, count: int, chance: random.Random, *, large_bytes: int = 0) -> None:
        """New files, most of them of this hour and some late, with a name for every event."""
        now = datetime.now(timezone.utc)
        for _ in range(count):
            self._files += 1
            moment = now - timedelta(hours=chance.choice([0, 0, 0, 1, 2, 20]))
            names = [f"{self._files}-{n}" for n in range(chance.randint(1, _EVENTS_A_FILE))]
            self.expected.update(names)
            lines = [{"event": name, "filler": "x" * (large_bytes or chance.randint(0, 2_000))} for name in names]
            data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            key = f"events/{moment:%Y/%m/%d/%H}/{moment:%M-%S}-{self._files:05}.gz"
            self.s3.put(self.bucket, {key: gzip.compress(data, mtime=0)})

    # --- running

    def write_deployment(self) -> Path:
        """The deployment file, as it is now: replaced atomically, as a careful user does it."""
        path = self.root / "chaos.yaml"
        unfinished = path.with_suffix(".part")
        unfinished.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return unfinished.replace(path)

    def start_worker(self, **faults: Any) -> ForkServerProcess:
        """Fork a worker off the process that has imported everything."""
        order = Order(
            deployment=self.write_deployment(),
            run_id=self._next_run(),
            cursor=self.root / "cursor",
            log=self.root / "failures.log",
            **faults,
        )
        process = self._forks.Process(target=work, args=(order,), daemon=True)
        process.start()
        return process

    def start_dagster(self, *, kill_at: str = "") -> "subprocess.Popen[bytes]":
        """The whole job, as ``dagster job execute`` runs it; with *kill_at*, it dies at that moment."""
        module = "export_pipeline_tests.integration.killer" if kill_at else "dagster"
        command = [sys.executable, "-m", module, "job", "execute", "-m", "export_pipeline.definitions"]
        with self.dagster_log.open("wb") as log:
            return subprocess.Popen(
                [*command, "-j", "export_job"],
                cwd=self.root,
                env=self.environment(KILL_AT=kill_at),
                stdout=log,
                stderr=log,
            )

    def environment(self, **more: str) -> dict[str, str]:
        """What Dagster's commands need to find this deployment."""
        return {
            **os.environ,
            "EXPORT_DEPLOYMENT": str(self.write_deployment()),
            "DAGSTER_HOME": str(self.home),
            "PYTHONPATH": python_path(),
            **more,
        }

    def end_abandoned_runs(self) -> None:
        """As a user does it: in Dagster, a run whose process was killed while nothing monitored it stays started."""
        with DagsterInstance.from_config(str(self.home)) as instance:
            for run in instance.get_runs(RunsFilter(statuses=UNFINISHED)):
                instance.report_run_canceled(run)

    def _next_run(self) -> str:
        self._runs += 1
        return f"chaos-{self._runs:05}"

    # --- what came of it

    def copied(self) -> Counter[str]:
        """Event → how often the subscriber of files has it."""
        folder = self.root / "copy"
        return sum((events_in(path.read_bytes()) for path in folder.rglob("*.ndjson")), Counter[str]())

    def received(self) -> dict[str, Counter[str]]:
        """Subscriber → event → how often, under different ids, it was taken; of those configured now."""
        found = {COPY: self.copied(), FORGETFUL: self.forgetful.distinct()}
        found |= {name: self.honouring.events(name) for name in self.config["subscribers"] if name not in found}
        return found
