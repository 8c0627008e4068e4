"""Why a tick is skipped."""

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.test_utils import create_run_for_test

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import definitions_of
from export_pipeline.orchestration.names import LEDGER_TAG
from export_pipeline.orchestration.schedule import reason_to_skip
from export_pipeline_tests.integration.project import Project


def reason(project: Project, instance: DagsterInstance) -> str | None:
    export = load_deployment(str(project.deployment_path))
    return reason_to_skip(
        export, instance, ledger=lambda: pytest.fail("the ledger was opened for no run that bears its identity")
    )


def test_a_tick_runs_when_nothing_speaks_against_it(project: Project) -> None:
    """With a subscriber, enabled, and no run under way, a tick runs the job."""
    with DagsterInstance.ephemeral() as instance:
        assert reason(project, instance) is None


def test_disabled_by_the_deployment_file(project: Project) -> None:
    """`enabled: false` skips every tick and says so, and the schedule is off from the start."""
    project.config["enabled"] = False
    with DagsterInstance.ephemeral() as instance:
        assert reason(project, instance) == "enabled: false in deployment test"
    definitions = definitions_of(load_deployment(str(project.deployment_path)))
    assert definitions.resolve_schedule_def("export_schedule").default_status.value == "STOPPED"


def test_without_a_subscriber(project: Project) -> None:
    """Where no subscriber is configured every tick is skipped and says what to configure."""
    project.config["subscribers"] = {}
    with DagsterInstance.ephemeral() as instance:
        assert reason(project, instance) == (
            "no subscriber is configured, so no events can be delivered; add one under `subscribers:` in test"
        )


def test_a_run_under_way(project: Project) -> None:
    """While a run of the export is under way a tick is skipped; one that has ended, or a backfill, does not count, nor
    does a run of another deployment's job of this name.
    """
    tags = {LEDGER_TAG: "test"}
    with DagsterInstance.ephemeral() as instance:
        create_run_for_test(instance, job_name="export_job", status=DagsterRunStatus.FAILURE, tags=tags)
        create_run_for_test(instance, job_name="backfill_job", status=DagsterRunStatus.STARTED, tags=tags)
        others = {LEDGER_TAG: "other"}
        create_run_for_test(instance, job_name="export_job", status=DagsterRunStatus.STARTED, tags=others)
        assert reason(project, instance) is None
        run = create_run_for_test(instance, job_name="export_job", status=DagsterRunStatus.STARTED, tags=tags)
        assert reason(project, instance) == f"run {run.run_id[:8]} of export_job is still under way (started)"
