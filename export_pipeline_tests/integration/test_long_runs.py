"""Time budgets and termination: a run ends between two batches, and the next one goes on behind the last of them."""

import logging
import time
from pathlib import Path

import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._daemon.monitoring import run_monitoring

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.dagster_dev import dagster_dev
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.test_watching import has_ended, launch

RECEIVER = "export_pipeline_tests.integration.receivers"
TERMINATE = """mutation ($id: String!) { terminateRun(runId: $id) { __typename
  ... on PythonError { message } ... on TerminateRunFailure { message } } }"""


def python(name: str, **options: object) -> dict[str, object]:
    return {"type": "python", "function": f"{RECEIVER}:{name}", "retry_for_seconds": 0, **options}


def test_a_slow_subscriber_uses_its_budget_and_holds_up_nobody(project: Project, received: Path) -> None:
    """Who has used its time gets no further batch in this run, the others get all; later runs go on from there."""
    project.config["subscribers"] = {"crm": python("slow", max_run_seconds=0.1), "dwh": python("dwh")}
    project.config["batch"] = {"max_events": 1}
    project.config["manifest"] = {"max_files": 1}
    lines = project.put_days("22", files=2, events=2)
    run = project.run()
    assert run.success
    assert receivers.events("crm", received) == lines[:1]
    assert receivers.events("dwh", received) == lines
    stops = [message for message in run.messages("info") if message.startswith("crm: stopped")]
    assert stops[0] == (
        "crm: stopped after 1 of 2 batches, because crm has used its 0.1 s of this run; the rest stays owed, and the "
        "next run continues with it"
    )
    for _ in range(3):
        assert project.run().success
    assert receivers.events("crm", received) == lines
    assert receivers.events("dwh", received) == lines
    assert project.imbalances() == []


def test_a_run_begins_nothing_after_its_time(project: Project, received: Path) -> None:
    """After max_run_seconds no manifest is read and no batch is begun; what is left stays owed for the next run."""
    project.config["subscribers"] = {"crm": python("slow", max_run_seconds=600)}
    project.config["max_run_seconds"] = 1
    project.config["manifest"] = {"max_files": 1}
    lines = project.put_days("22", files=20, events=1)
    run = project.run()
    assert run.success
    first = receivers.events("crm", received)
    assert len(first) < len(lines)
    left = [
        message for message in run.messages("info") if "is left for the next run, because the run has used" in message
    ]
    assert left
    project.config["max_run_seconds"] = 600
    assert project.run().success
    assert receivers.events("crm", received) == lines
    assert project.imbalances() == []


def test_termination_from_the_ui_waits_for_the_batch_in_flight(project: Project, received: Path) -> None:
    """A run ended in the UI while a receiver takes a batch ends once that is recorded; nothing is lost or repeated."""
    project.config["subscribers"] = {"crm": python("stuck_once")}
    project.config["batch"] = {"max_events": 1}
    project.config["frequency"] = "weekly"
    lines = project.put_days("22", files=1, events=4)
    with dagster_dev(project) as dev:
        run_id = launch(dev, "export_job")
        dev.wait_for((received / "stuck.pid").exists)
        assert dev.ask(TERMINATE, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
        time.sleep(1)  # the signal has arrived; only then may the receiver answer
        (received / "free").touch()
        dev.wait_for(has_ended(dev, run_id, "CANCELED"))
        assert receivers.events("crm", received) == lines[:1]
        again = launch(dev, "export_job")
        dev.wait_for(has_ended(dev, again, "SUCCESS"))
    assert receivers.events("crm", received) == lines
    assert project.imbalances() == []


def test_a_run_that_nobody_has_heard_of_is_ended(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose process died with its machine is failed by Dagster's monitoring an hour after its time budget."""
    project.config["max_run_seconds"] = 600
    first = project.run()
    job = project.job()
    with DagsterInstance.from_config(str(project.home)) as instance:
        run = instance.get_run_by_id(first.run_id)
        assert run is not None
        run_id = instance.create_run_for_job(job, tags=dict(run.tags)).run_id
        started = DagsterEvent(DagsterEventType.RUN_START.value, job_name=job.name)
        instance.report_dagster_event(started, run_id=run_id)

        def status_after(seconds: float) -> DagsterRunStatus:
            monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda: time.time() + seconds)
            record = instance.get_run_record_by_id(run_id)
            assert record is not None
            run_monitoring.check_run_timeout(instance, record, logging.getLogger("test"), 14_400)
            found = instance.get_run_by_id(run_id)
            assert found is not None
            return found.status

        assert status_after(4_100) == DagsterRunStatus.STARTED
        assert status_after(4_300) == DagsterRunStatus.FAILURE
