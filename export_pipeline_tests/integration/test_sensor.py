"""When the sensor new_files starts the next run at once."""

from pathlib import Path

import pytest

from export_pipeline.errors import FileForbidden
from export_pipeline.orchestration.schedule import backlog
from export_pipeline.source.file import SourceFile
from export_pipeline.source.local import LocalSource
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


def test_a_corrupt_file_is_no_reason_to_hurry(project: Project, received: Path) -> None:
    """What failed to be read is tried again by the schedule alone, in each of its tries; other files are a reason."""
    project.config.update(subscribers={"crm": CRM}, max_files=1)
    project.put_bytes("2026/11/22/00/broken.gz", b"\x1f\x8b\x08\x00broken", compress=False)
    project.run()
    assert not waits(project)
    project.run()
    assert not waits(project)
    project.put_days("23", files=2)
    project.run()
    assert waits(project)
    project.run()
    assert not waits(project)


@pytest.mark.parametrize("files", [1, 3])
def test_a_store_that_cannot_be_read_is_no_reason_to_hurry(
    project: Project, received: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """While access is refused nothing is started at once, however much waits; once it is granted, a backlog is one."""

    def refuses(_source: LocalSource, file: SourceFile, _start: int, _stop: int) -> bytes:
        raise FileForbidden(file.key, "403 InvalidObjectState")

    project.config.update(subscribers={"crm": CRM}, manifest={"max_files": 3})
    project.put_days("20", "21", "22", files=files)
    with monkeypatch.context() as patch:
        patch.setattr(LocalSource, "read_range", refuses)
        for _ in range(3):
            assert not project.run().success
            assert not waits(project)
    project.run()
    assert not waits(project)
    assert project.imbalances() == []
