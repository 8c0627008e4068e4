"""Steps in other processes look at Dagster's storage to see that their run has ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from dagster import DagsterInstance, DagsterRunStatus, OpExecutionContext

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration import underway
from export_pipeline.steps.stopping import Stop
from export_pipeline_tests.integration.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def look_of(project: Project, instance: DagsterInstance, run_id: str) -> Stop:
    """As a step of the run *run_id* looks."""
    context = cast("OpExecutionContext", SimpleNamespace(instance=instance, run_id=run_id))
    return underway.run_is_over(context, load_deployment(str(project.deployment_path)))


@pytest.mark.parametrize("end", ["report_run_canceling", "report_run_canceled", "report_run_failed", "delete_run"])
def test_a_step_elsewhere_sees_that_its_run_has_ended(
    project: Project, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A step in a separate process continues while the run does, and starts nothing more once that has ended."""
    monkeypatch.setattr(underway, "_LOOK_SECONDS", 0.0)
    project.config["executor"] = {"type": "multiprocess"}
    with DagsterInstance.from_config(str(project.home)) as instance:
        run = instance.create_run_for_job(project.job(), status=DagsterRunStatus.STARTED)
        look = look_of(project, instance, run.run_id)
        assert look() == ""
        getattr(instance, end)(run.run_id if end == "delete_run" else run)
        assert look() == "the run was ended"


def test_storage_is_asked_every_two_seconds_at_most(project: Project) -> None:
    """Between two looks a step takes the last answer; one in the run's own process never asks."""
    project.config["executor"] = {"type": "multiprocess"}
    asked: list[str] = []

    def get_run_by_id(run_id: str) -> SimpleNamespace:
        asked.append(run_id)
        return SimpleNamespace(status=DagsterRunStatus.STARTED)

    instance = cast("DagsterInstance", SimpleNamespace(get_run_by_id=get_run_by_id))
    look = look_of(project, instance, "run")
    assert [look() for _ in range(50)] == [""] * 50
    assert asked == ["run"]
    del project.config["executor"]
    assert look_of(project, instance, "run")() == ""
    assert asked == ["run"]
