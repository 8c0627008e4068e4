"""A whole deployment in a folder of the test's own, run as Dagster runs it."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    EventLogEntry,
    ExecuteInProcessResult,
    JobDefinition,
)
from dagster._serdes import serialize_value
from sqlalchemy import select

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.staging import Staging
from export_pipeline.configuration.names import Names
from export_pipeline.deployment import load_deployment
from export_pipeline.ledger import balance, manifests, sources
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration.build import definitions_of
from export_pipeline.orchestration.instigators import SensorCursor
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.store import open_source
from export_pipeline.steps.next_listing import Cursor
from export_pipeline.steps.open import Workspace
from export_pipeline.storage.objects import open_objects
from export_pipeline_tests.economies import write_dagster_home

DAGSTER_YAML = {
    "telemetry": {"enabled": False},
    "concurrency": {
        "runs": {
            "tag_concurrency_limits": [
                {"key": "export_pipeline/ledger", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
            ]
        }
    },
    # To copy what steps print, Dagster would start two processes in each run.
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
}

EXECUTE_JOB = ("job", "execute", "-m", "export_pipeline.definitions", "-j", "export_job")


@dataclass(frozen=True)
class Run:
    """What one run of a job came to.

    Attributes:
        log: level name and message of every line the ops wrote.
        failures: description of every step failure, by step.
    """

    run_id: str
    success: bool
    log: list[tuple[str, str]]
    failures: dict[str, str]
    entries: list[EventLogEntry]

    def messages(self, level: str) -> list[str]:
        """The log's lines of one level: debug, info, warning, error or critical."""
        return [message for found, message in self.log if found == level]


class Project:
    """A working folder with a bucket, a deployment file and a Dagster instance.

    Attributes:
        config: the deployment file's content; change it between runs.
    """

    def __init__(self, root: Path, **config: Any) -> None:
        self.root = root
        self.bucket = root / "bucket"
        self.bucket.mkdir()
        self.home = root / "home"
        self.home.mkdir()
        write_dagster_home(self.home, DAGSTER_YAML)
        self.config: dict[str, Any] = {
            "source": {"url": str(self.bucket)},
            "staging": {"url": str(root / "staging")},
            "quarantine": {"url": str(root / "quarantine")},
            "ledger": {"url": str(root / "ledger.db")},
            "subscribers": {"copy": {"type": "files", "url": str(root / "copy")}},
            **config,
        }
        self.sent: dict[str, list[bytes]] = {}

    def keep_one_event_log(self) -> None:
        """Keep the events of all runs in one database, as Dagster offers for tests, not in one per run."""
        storage = {
            "module": "dagster._core.storage.event_log",
            "class": "ConsolidatedSqliteEventLogStorage",
            "config": {"base_dir": str(self.home / "storage")},
        }
        write_dagster_home(self.home, {**DAGSTER_YAML, "event_log_storage": storage})

    def keep_what_is_printed(self) -> None:
        """Let Dagster keep the output of steps below its home, as it does where nothing else is configured."""
        write_dagster_home(self.home, {name: value for name, value in DAGSTER_YAML.items() if name != "compute_logs"})

    # --- the source

    def put(self, key: str, events: Iterable[bytes | dict[str, Any]], *, compress: bool = True) -> list[bytes]:
        """Write one file of events; returns their lines."""
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in events]
        self.put_bytes(key, b"".join(line + b"\n" for line in lines), compress=compress)
        return lines

    def put_bytes(self, key: str, data: bytes, *, compress: bool = True) -> None:
        """Write one file of any bytes; *compress*: by gzip."""
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # As an object store does it: the file is there at once and whole.
        hidden = path.with_name(f".{path.name}.tmp")
        hidden.write_bytes(gzip.compress(data, mtime=0) if compress else data)
        hidden.rename(path)

    def put_days(self, *days: str, files: int = 2, events: int = 3) -> list[bytes]:
        """Files ``2026/11/<day>/00/<n>.gz`` of a few events each; returns all events in key order."""
        lines: list[bytes] = []
        for day in days:
            for n in range(files):
                key = f"2026/11/{day}/00/{n:03}.gz"
                lines += self.put(key, [{"key": key, "n": number} for number in range(events)])
        return lines

    def age(self, seconds: float = 60) -> None:
        """Let all files have arrived *seconds* ago, before anybody who is added now; called before the first run."""
        moment = time.time() - seconds
        for path in filter(Path.is_file, self.bucket.rglob("*")):
            os.utime(path, (moment, moment))

    # --- running

    @property
    def deployment_path(self) -> Path:
        """The deployment file, written from the current :attr:`config`."""
        path = self.root / "test.yaml"
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return path

    def job(self, name: str = "export_job") -> JobDefinition:
        """As Dagster loads it now."""
        deployment = load_deployment(str(self.deployment_path), without_variables=True)
        return definitions_of(deployment).resolve_job_def(name)

    def run(
        self,
        job: str = "export_job",
        *,
        config: Mapping[str, Any] | None = None,
        run_config: Mapping[str, Any] | None = None,
        partition: str | None = None,
        resources: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Run a job in this process, on the project's persistent instance.

        Args:
            config: of its ops.
            run_config: the whole config, instead of that.
        """
        with DagsterInstance.from_config(str(self.home)) as instance:
            result = self.job(job).execute_in_process(
                instance=instance,
                run_config=dict(run_config) if run_config else {"ops": config} if config else None,
                partition_key=partition,
                raise_on_error=False,
                resources=dict(resources) if resources else None,
                tags=tags,
            )
            return _run(instance, result)

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a process that works for this project."""
        return {
            **os.environ,
            "EXPORT_DEPLOYMENT": str(self.deployment_path),
            "DAGSTER_HOME": str(self.home),
            **more,
        }

    def start(self, *arguments: str, **more: str) -> "subprocess.Popen[bytes]":
        """Start a ``dagster`` command in the project's folder."""
        return subprocess.Popen(
            [sys.executable, "-m", "dagster", *arguments],
            cwd=self.root,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def command(self, *arguments: str, **more: str) -> tuple[int, str]:
        """Run a ``dagster`` command to its end; returns its exit code and what it printed."""
        process = self.start(*arguments, **more)
        printed, _ = process.communicate(timeout=240)
        return process.returncode, printed.decode()

    def execute(self, **more: str) -> tuple[int, str]:
        """``dagster job execute`` of the export job."""
        return self.command(*EXECUTE_JOB, **more)

    def kill_job_at(self, moment: str) -> None:
        """``dagster job execute`` of the export job, killed at *moment* (``place:before|after:nth``), as it must be."""
        killed = subprocess.run(
            [sys.executable, "-m", "export_pipeline_tests.integration.killer", *EXECUTE_JOB],
            cwd=self.root,
            env=self.environment(KILL_AT=moment),
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stdout.decode() + killed.stderr.decode()

    # --- what came of it

    def last_log(self) -> list[str]:
        """The event log of the latest run, entry by entry. What Dagster prints of a run may end too early."""
        with DagsterInstance.from_config(str(self.home)) as instance:
            (run,) = instance.get_runs(limit=1)
            records = instance.get_records_for_run(run.run_id).records
            return [serialize_value(record.event_log_entry) for record in records]

    def copied(self, name: str = "copy") -> list[bytes]:
        """All events that the ``files`` subscriber called *name* holds, sorted by object name."""
        folder = self.root / name
        objects = sorted(path for path in folder.rglob("*.ndjson") if path.is_file()) if folder.exists() else []
        return [line for path in objects for line in path.read_bytes().split(b"\n")[:-1]]

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The project's ledger, open inside the block."""
        opened = Ledger(self.config["ledger"]["url"])
        try:
            yield opened
        finally:
            opened.close()

    def cursor(self) -> str:
        """The key in the cursor of the sensor new_files, as a run by command line sees it."""
        with self.sensor_cursor() as cursor:
            return Cursor.parse(cursor.read()).key

    def set_cursor(self, key: str) -> None:
        """Set the cursor, as a user does."""
        with self.sensor_cursor() as cursor:
            cursor.replace(cursor.read(), key)

    @contextmanager
    def sensor_cursor(self) -> Iterator[SensorCursor]:
        """The cursor of new_files, as a run reads and sets it."""
        with DagsterInstance.from_config(str(self.home)) as instance:
            yield SensorCursor.of_run(instance, DagsterRun(job_name="export_job"), Names(), mark="")

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """The deployment's places, opened without Dagster."""
        deployment = load_deployment(str(self.deployment_path))
        with self.ledger() as ledger:
            yield Workspace(
                source=open_source(deployment.source),
                ledger=ledger,
                staging=Staging(open_objects(deployment.staging.url)),
                quarantine=Quarantine(open_objects(deployment.quarantine.url)),
                limits=ReadLimits(**deployment.limits.model_dump()),
                max_attempts=deployment.max_attempts,
            )

    def imbalances(self) -> list[str]:
        """Sentences about numbers of the ledger that do not add up."""
        with self.ledger() as ledger, ledger.read() as tx:
            return [*balance.imbalances(tx, 1)]

    def states(self, name: str) -> list[str]:
        """State of every delivery to a subscriber, in key order."""
        with self.ledger() as ledger, ledger.read() as tx:
            return list(
                tx.execute(
                    select(t.deliveries.c.state)
                    .join(t.subscriptions, t.subscriptions.c.id == t.deliveries.c.subscription_id)
                    .where(t.subscriptions.c.name == name)
                    .order_by(t.deliveries.c.day, t.deliveries.c.first_key)
                ).scalars()
            )

    def batch_ids(self) -> list[str]:
        """Ids of every batch that was ever cut, in key order."""
        with self.ledger() as ledger, ledger.read() as tx:
            ids = tx.execute(select(t.manifests.c.id).order_by(t.manifests.c.day, t.manifests.c.first_key)).scalars()
            return [f"{manifest_id}-{batch.n}" for manifest_id in ids for batch in manifests.batches(tx, manifest_id)]

    def source_id(self) -> int | None:
        """The ledger's number of the bucket; None: no run has seen it."""
        with self.ledger() as ledger, ledger.read() as tx:
            return sources.source_id(tx, self.bucket.as_uri())

    def staged(self) -> list[str]:
        """Every object that is still in staging."""
        folder = self.root / "staging"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def quarantined(self) -> list[dict[str, Any]]:
        """Every record in the quarantine."""
        folder = self.root / "quarantine"
        return [
            json.loads(line)
            for path in sorted(folder.rglob("*.ndjson"))
            for line in path.read_bytes().split(b"\n")[:-1]
        ]


def _run(instance: DagsterInstance, result: ExecuteInProcessResult) -> Run:
    entries = [record.event_log_entry for record in instance.get_records_for_run(result.run_id).records]
    log = [
        (_LEVELS[entry.level], entry.user_message)
        for entry in entries
        if not entry.is_dagster_event and entry.level in _LEVELS
    ]
    failures = {}
    for entry in entries:
        event = entry.dagster_event
        if event is not None and event.event_type is DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            text = data.user_failure_data.description if data.user_failure_data else None
            failures[entry.step_key or ""] = text or (data.error.message if data.error else "")
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE)
    return Run(result.run_id, result.success, log, failures, entries)


_LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
