"""An export whose steps run on Celery's workers: ledger and Dagster in PostgreSQL, Redis as broker, the rest in S3."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance

from export_pipeline_tests.integration.project import DAGSTER_YAML, Project
from export_pipeline_tests.servers.programs import wait_for
from export_pipeline_tests.servers.s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server

VARIABLES = {"SPREAD_SECRET_KEY": SECRET_KEY}


class SpreadProject(Project):
    """A project that any number of workers share; nothing of it is in a folder of one machine.

    Attributes:
        names: the deployment's and Dagster's variables, for whoever starts a process.
    """

    def __init__(self, root: Path, *, s3: S3Server, ledger: str, storage: str, broker: str) -> None:
        self.s3, self.s3_bucket = s3, s3.new_bucket()
        self.names = {**VARIABLES, "SPREAD_BROKER": broker}
        super().__init__(
            root,
            source=self.place("events"),
            staging=self.place("staging"),
            quarantine=self.place("quarantine"),
            ledger={"url": ledger},
            executor={"type": "celery", "broker": {"env": "SPREAD_BROKER"}, "redeliver_after_seconds": 10},
        )
        storage = storage.replace("postgresql:", "postgresql+psycopg2:")
        settings = {**DAGSTER_YAML, "storage": {"postgres": {"postgres_url": storage}}}
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(settings))
        # Two processes that make Dagster's tables at the same moment hinder each other.
        with DagsterInstance.from_config(str(self.home)) as instance:
            assert instance.get_runs() == []

    def place(self, folder: str) -> dict[str, Any]:
        return {
            "url": f"s3://{self.s3_bucket}/{folder}/",
            "endpoint_url": self.s3.url,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": {"env": "SPREAD_SECRET_KEY"},
        }

    def put_bytes(self, key: str, data: bytes, *, compress: bool = True) -> None:
        self.s3.put(self.s3_bucket, {f"events/{key}": gzip.compress(data, mtime=0) if compress else data})

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**{**self.names, **more})

    # --- workers

    def start_worker(self, name: str, *, options: tuple[str, ...] = ()) -> "subprocess.Popen[bytes]":
        """A worker with one step at a time, in a separate process group, as on a separate machine."""
        command = [sys.executable, "-m", "celery", "-A", "export_pipeline.celery_app", "worker"]
        with self.worker_log(name).open("ab") as log:
            return subprocess.Popen(
                [*command, "--concurrency", "1", "--hostname", f"{name}@%h", "--loglevel", "INFO", *options],
                cwd=self.root,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def worker_log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    @contextmanager
    def workers(self, *names: str, options: Mapping[str, tuple[str, ...]] | None = None) -> Iterator[list["Worker"]]:
        """Workers that are ready; ended with all their processes."""
        with ExitStack() as stack:
            found = []
            for name in names:
                worker = Worker(name, self.start_worker(name, options=(options or {}).get(name, ())), self)
                stack.callback(worker.end)
                found.append(worker)
            for worker in found:
                worker.wait()
            yield found

    def start_backfill(self, day: str) -> "subprocess.Popen[bytes]":
        """``backfill_job`` of one day, in a separate process, as the queue starts it."""
        return self.start_job("backfill_job", tags={"dagster/partition": day})

    def start_job(self, job: str, tags: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start a run by command line, whose steps workers do."""
        arguments = ["job", "execute", "-m", "export_pipeline.definitions", "-j", job]
        return self.start(*arguments, *(["--tags", json.dumps(tags)] if tags else []))

    def cancel_runs(self) -> None:
        """As the UI does with a run whose process does not answer."""
        with DagsterInstance.from_config(str(self.home)) as instance:
            for run in instance.get_runs():
                instance.report_run_canceled(run)

    def is_idle(self) -> bool:
        """Whether the workers have ended every step that was ever sent to them."""
        from redis import Redis

        with Redis.from_url(self.names["SPREAD_BROKER"]) as broker:
            waiting = sum(broker.llen(key) for key in broker.keys("dagster*"))
            return bool(waiting == 0 and broker.hlen("unacked") == 0)

    def steps_by_worker(self) -> Counter[str]:
        """How many steps each worker has taken, as their own logs have it."""
        found: Counter[str] = Counter()
        for path in self.root.glob("*.log"):
            found[path.stem] += path.read_text(errors="replace").count("] received")
        return found


class Worker:
    """One worker: Celery's own process, and the child that does the steps."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", project: SpreadProject) -> None:
        self.name, self.process, self._project = name, process, project

    def wait(self) -> None:
        log = self._project.worker_log(self.name)
        wait_for(lambda: " ready." in log.read_text(errors="replace"), processes=[self.process], log=log)

    def kill(self) -> None:
        """As a machine dies: every process at once, without a warning."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
