"""A backfill that is launched through the UI's own API, and a code server that dies in the middle of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.dagster_dev import SELECTOR, DagsterDev, dagster_dev
from export_pipeline_tests.integration.project import DAGSTER_YAML, Project
from export_pipeline_tests.servers.programs import free_port

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:slow", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}
DAYS = [f"{day:02}" for day in range(10, 18)]
LAUNCH_BACKFILL = """mutation ($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
LAUNCH_RUN = """mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
BACKFILL = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status } } }"""


@contextmanager
def code_server(project: Project, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """`dagster api grpc` as shipped, the leader of a separate process group."""
    command = "api grpc --module-name export_pipeline.definitions --location-name export_pipeline --lazy-load-user-code"
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", *command.split(), "--host", "127.0.0.1", "--port", str(port)],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def workspace(port: int) -> str:
    server = {"host": "127.0.0.1", "port": port, "location_name": "export_pipeline"}
    return yaml.safe_dump({"load_from": [{"grpc_server": server}]})


def launch_backfill(dev: DagsterDev, config: dict[str, Any]) -> str:
    """Launch all days with this config of the first op; the backfill's id."""
    params = {
        "selector": {"partitionSetName": "backfill_job_partition_set", "repositorySelector": SELECTOR},
        "partitionNames": [f"2026-11-{day}" for day in DAYS],
        "runConfigData": json.dumps({"ops": {"list_day_files": {"config": config}}}),
    }
    found = dev.ask(LAUNCH_BACKFILL, p=params)["launchPartitionBackfill"]
    assert found["__typename"] == "LaunchBackfillSuccess", found
    return str(found["backfillId"])


def run_export(dev: DagsterDev) -> None:
    """Launch export_job and wait until it has succeeded."""
    params = {"selector": {**SELECTOR, "jobName": "export_job"}, "runConfigData": "{}"}
    found = dev.ask(LAUNCH_RUN, p=params)["launchRun"]
    assert found["__typename"] == "LaunchRunSuccess", found
    identity = found["run"]["runId"]
    dev.wait_for(
        lambda: [run for run in dev.runs() if run["runId"] == identity and run["status"] == "SUCCESS"], seconds=180
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("database", "retries"),
    [
        ("sqlite", 0),
        ("postgresql", 0),
        ("sqlite", 10),
    ],
)
def test_a_code_server_that_dies_during_a_backfill_costs_no_day(
    project: Project, received: Path, database: str, retries: int, request: pytest.FixtureRequest
) -> None:
    """Of eight days those whose runs Dagster drops, since the code server is away, reach the subscriber that the config
    of the launch names, with the next run of the export, and nobody else; with retries of the queue none is dropped.
    """
    if database == "postgresql":
        project.config["ledger"] = {"url": request.getfixturevalue("new_postgres")}
    project.config.update(frequency="weekly", start_from="2026-11-23", subscribers={"crm": CRM, "dwh": DWH})
    settings = {
        **DAGSTER_YAML,
        "run_queue": {"max_user_code_failure_retries": retries, "user_code_failure_retry_delay": 1},
    }
    (project.home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    # Dagster's storage must be there: processes that make its tables at the same moment hinder each other.
    with DagsterInstance.from_config(str(project.home)) as instance:
        assert instance.get_runs() == []
    lines = project.put_days(*DAYS)
    port = free_port()
    with code_server(project, port) as first, dagster_dev(project, workspace(port)) as dev:
        identity = launch_backfill(dev, {"subscribers": ["crm"], "only": "missing"})
        dev.wait_for(lambda: receivers.calls("crm", received) and len(dev.runs()) == len(DAYS), seconds=180)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        with DagsterInstance.from_config(str(project.home)) as instance:
            # Nobody tells Dagster that the run's process died with its server; here the next tick would find out.
            for run in instance.get_runs():
                if run.status in (DagsterRunStatus.STARTED, DagsterRunStatus.STARTING):
                    instance.report_run_failed(run)
        if retries == 0:
            dev.wait_for(lambda: all(run["status"] in ("FAILURE", "SUCCESS") for run in dev.runs()), seconds=180)
            assert len(receivers.calls("crm", received)) < len(DAYS)
        with code_server(project, port):
            dev.wait_for(
                lambda: (
                    dev.ask(BACKFILL, id=identity)["partitionBackfillOrError"]["status"]
                    in ("COMPLETED_SUCCESS", "COMPLETED_FAILED")
                ),
                seconds=300,
            )
            run_export(dev)
    assert set(receivers.events("crm", received)) == set(lines)
    assert receivers.events("dwh", received) == []
    assert project.imbalances() == []
