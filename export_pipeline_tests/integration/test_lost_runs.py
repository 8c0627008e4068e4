"""A run whose process died unnoticed keeps nobody waiting."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from export_pipeline.batching.batch import Batch
from export_pipeline.deployment import load_deployment
from export_pipeline.ledger.claims import Claims
from export_pipeline.orchestration import lost_runs
from export_pipeline.orchestration.build import export_of
from export_pipeline.orchestration.names import EXECUTOR_TAG
from export_pipeline.orchestration.schedule import reason_to_skip
from export_pipeline.subscribers.files import Files
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import EXECUTE_JOB, Project
from export_pipeline_tests.integration.waiting import wait_until


def reason(project: Project, instance: DagsterInstance, claims: Callable[[], Claims] | None = None) -> str | None:
    """Why the schedule would skip a tick now."""
    export = export_of(load_deployment(str(project.deployment_path)))
    with project.ledger() as ledger:
        return reason_to_skip(export, instance, claims=claims or (lambda: ledger.claims))


@pytest.fixture(params=["sqlite", "postgresql"])
def either(project: Project, request: pytest.FixtureRequest) -> Project:
    """A project with either ledger."""
    if request.param == "postgresql":
        project.config["ledger"] = {"url": request.getfixturevalue("new_postgres")}
    return project


def test_the_next_tick_ends_a_run_that_was_killed(either: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has long been silent, a killed run is reported as failed, and the next one delivers what it left."""
    lines = either.put_days("23")
    either.kill_job_at("deliver_files:before:1")
    with DagsterInstance.from_config(str(either.home)) as instance:
        (killed,) = instance.get_runs()
        assert killed.status == DagsterRunStatus.STARTED
        assert reason(either, instance) == f"run {killed.run_id[:8]} of export_job is still under way (started)"
        monkeypatch.setattr(lost_runs, "_SILENT_SECONDS", 0.0)
        assert reason(either, instance) is None
        (ended,) = instance.get_runs()
        assert ended.status == DagsterRunStatus.FAILURE
        last = instance.all_logs(killed.run_id)[-1]
        assert "The process of this run is gone" in last.message
    assert either.run().success
    assert either.copied() == lines


def test_a_run_that_works_is_left_alone(either: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in the middle of its work is under way, however long its log has been silent."""
    monkeypatch.setattr(lost_runs, "_SILENT_SECONDS", 0.0)
    either.put_days("23")
    found: list[str | None] = []
    deliver = Files.deliver

    def look(self: Files, batch: Batch) -> None:
        with DagsterInstance.from_config(str(either.home)) as instance:
            found.append(reason(either, instance))
        deliver(self, batch)

    monkeypatch.setattr(Files, "deliver", look)
    run = either.run()
    assert run.success
    assert found == [f"run {run.run_id[:8]} of export_job is still under way (started)"]


def test_a_run_of_several_processes_is_gone_with_the_last(
    either: Project, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with a process for each step is under way while one of them works, though the run's own was killed; it is
    reported as failed once they are all gone, and the next run delivers what it left.
    """
    monkeypatch.setattr(lost_runs, "_SILENT_SECONDS", 0.0)
    either.config["executor"] = {"type": "multiprocess", "max_concurrent": 3}
    stuck = {"type": "python", "function": "export_pipeline_tests.integration.receivers:stuck_once"}
    either.config["subscribers"] |= {"crm": stuck}
    lines = either.put_days("23")
    job = either.start(*EXECUTE_JOB)
    pid = received / "stuck.pid"
    # The other step, which may have been the first to say that it works, has ended by then.
    wait_until(lambda: pid.exists() and either.copied() == lines)
    job.kill()
    job.wait()
    with DagsterInstance.from_config(str(either.home)) as instance:
        (run,) = instance.get_runs()
        assert reason(either, instance) == f"run {run.run_id[:8]} of export_job is still under way (started)"
        os.kill(int(pid.read_text()), signal.SIGKILL)
        wait_until(lambda: reason(either, instance) is None)
        (ended,) = instance.get_runs()
        assert ended.status == DagsterRunStatus.FAILURE
    # Its output was open in the step's process too.
    job.communicate()
    (received / "free").touch()
    assert either.run().success
    assert either.copied() == receivers.events("crm", received) == lines


@pytest.mark.parametrize("executor", ["celery", None])
def test_runs_that_wait_for_workers_are_left_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch, executor: str | None
) -> None:
    """Where steps wait for workers nobody need hold a claim, nor in runs of older versions: no ledger is opened."""
    monkeypatch.setattr(lost_runs, "_SILENT_SECONDS", 0.0)
    with project.ledger(), DagsterInstance.from_config(str(project.home)) as instance:
        job = project.job()
        tags = {key: value for key, value in job.run_tags.items() if key != EXECUTOR_TAG}
        tags |= {EXECUTOR_TAG: executor} if executor else {}
        run = instance.create_run_for_job(job, status=DagsterRunStatus.STARTED, tags=tags)
        instance.report_engine_event("It has begun.", run)
        found = reason(project, instance, claims=lambda: pytest.fail("the ledger was opened"))
        assert found == f"run {run.run_id[:8]} of export_job is still under way (started)"
