"""Reads the evaluations of asset checks back, for the tests."""

from dataclasses import dataclass
from typing import Any

from dagster import AssetCheckEvaluation, DagsterEventType

from export_pipeline_tests.integration.project import Project, Run


@dataclass(frozen=True)
class Checked:
    """One evaluation."""

    passed: bool
    severity: str
    text: str
    metadata: dict[str, Any]


def check(project: Project, **config: Any) -> dict[tuple[str, str], Checked]:
    """Run check_job; *config* is that of completeness. (asset, check) → its evaluation."""
    run = project.run("check_job", config={"check_completeness": {"config": config}} if config else None)
    assert run.success, run.failures
    return evaluations(run)


def evaluations(run: Run) -> dict[tuple[str, str], Checked]:
    """Asset and name of a check → what it found in a run."""
    found = {}
    for entry in run.entries:
        event = entry.dagster_event
        if event is not None and event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
            data = event.event_specific_data
            assert isinstance(data, AssetCheckEvaluation)
            metadata = {name: value.value for name, value in data.metadata.items()}
            asset = data.asset_key.to_user_string()
            found[asset, data.check_name] = Checked(data.passed, data.severity.value, data.description or "", metadata)
    return found
