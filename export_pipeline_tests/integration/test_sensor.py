"""When the sensor new_files starts the next run at once."""

from pathlib import Path

from export_pipeline.orchestration.sensors import backlog
from export_pipeline_tests.integration.project import Project

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}


def waits(project: Project) -> bool:
    with project.workspace() as place:
        return backlog(place.ledger, place.source.url)


def test_a_backlog_is_what_a_run_could_get_on_with(project: Project, received: Path) -> None:
    """More files than a run takes are a backlog until the last run; an export that never ran has none."""
    project.config.update(subscribers={"crm": CRM}, max_files=2)
    assert not waits(project)
    project.put_days("23", files=3)
    project.run()
    assert waits(project)
    project.run()
    assert not waits(project)


def test_a_failing_subscriber_is_no_reason_to_hurry(project: Project, received: Path) -> None:
    """While every subscriber fails nothing is started at once, however much waits; one that is well is enough."""
    project.config.update(subscribers={"crm": CRM}, max_files=2)
    project.put_days("22", "23", files=4)
    (received / "crm.fails").touch()
    project.run()
    assert not waits(project)
    project.config["subscribers"] = {"crm": CRM, "dwh": {**DWH, "since": "beginning"}}
    project.run()
    assert waits(project)
