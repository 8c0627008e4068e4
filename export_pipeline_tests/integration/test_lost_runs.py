"""A run whose process died unnoticed keeps nobody waiting."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from sqlalchemy import text

from export_pipeline.batching.batch import Batch
from export_pipeline.deployment import load_deployment
from export_pipeline.ledger.claims import someone_is_at_work
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration import underway
from export_pipeline.orchestration.names import EXECUTOR_TAG
from export_pipeline.orchestration.schedule import reason_to_skip
from export_pipeline.subscribers.files import Files
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import EXECUTE_JOB, Project
from export_pipeline_tests.integration.spread import SpreadProject
from export_pipeline_tests.integration.waiting import wait_until


def reason(project: Project, instance: DagsterInstance, opened: Callable[[], Ledger] | None = None) -> str | None:
    """Why the schedule would skip a tick now."""
    export = load_deployment(str(project.deployment_path))
    with project.ledger() as ledger:
        return reason_to_skip(export, instance, ledger=opened or (lambda: ledger))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
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
        monkeypatch.setattr(underway, "_SILENT_SECONDS", 0.0)
        assert reason(either, instance) is None
        (ended,) = instance.get_runs()
        assert ended.status == DagsterRunStatus.FAILURE
        last = instance.all_logs(killed.run_id)[-1]
        assert "The process of this run died" in last.message
    assert either.run().success
    assert either.copied() == lines


def test_a_run_that_works_is_left_alone(either: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in the middle of its work is under way, however long its log has been silent."""
    monkeypatch.setattr(underway, "_SILENT_SECONDS", 0.0)
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
    monkeypatch.setattr(underway, "_SILENT_SECONDS", 0.0)
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


@pytest.mark.thorough
def test_a_run_that_waits_for_workers_is_gone_with_its_own_process(
    spread: SpreadProject, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no worker is free a run is under way while its own process waits, also after its connections to the ledger
    broke; once that was killed it is reported as failed, and the next run delivers.
    """
    monkeypatch.setattr(underway, "_SILENT_SECONDS", 0.0)
    crm = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm"}
    spread.config["subscribers"] = {"crm": crm}
    lines = spread.put_days("23")
    job = spread.start_job("export_job")
    with DagsterInstance.from_config(str(spread.home)) as instance, spread.ledger() as ledger:
        wait_until(instance.get_runs)
        (run,) = instance.get_runs()
        wait_until(lambda: someone_is_at_work(ledger.claims, run.run_id))
        with ledger.write() as tx:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            assert tx.execute(text(f"{others} AND datname = current_database()")).all()
        wait_until(lambda: someone_is_at_work(ledger.claims, run.run_id))
        assert reason(spread, instance) == f"run {run.run_id[:8]} of export_job is still under way (started)"
        job.kill()
        job.communicate()
        wait_until(lambda: reason(spread, instance) is None)
        assert [one.status for one in instance.get_runs()] == [DagsterRunStatus.FAILURE]
    with spread.workers("one"):
        again = spread.start_job("export_job")
        printed = again.communicate(timeout=120)[0].decode()
        assert again.returncode == 0, printed
    # What the broker still had of the first run took nothing from the second.
    with DagsterInstance.from_config(str(spread.home)) as instance:
        assert "not listing: the run was ended" in [one.message for one in instance.all_logs(run.run_id)]
    assert sorted(receivers.events("crm", received)) == sorted(lines)


@pytest.mark.parametrize("executor", ["k8s", "docker", None])
def test_runs_in_containers_are_left_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch, executor: str | None
) -> None:
    """Containers are monitored by their launcher, and runs of older versions hold no lock: no ledger is opened."""
    monkeypatch.setattr(underway, "_SILENT_SECONDS", 0.0)
    with project.ledger(), DagsterInstance.from_config(str(project.home)) as instance:
        job = project.job()
        tags = {key: value for key, value in job.run_tags.items() if key != EXECUTOR_TAG}
        tags |= {EXECUTOR_TAG: executor} if executor else {}
        run = instance.create_run_for_job(job, status=DagsterRunStatus.STARTED, tags=tags)
        instance.report_engine_event("It has begun.", run)
        found = reason(project, instance, opened=lambda: pytest.fail("the ledger was opened"))
        assert found == f"run {run.run_id[:8]} of export_job is still under way (started)"
