"""What was quarantined is driven again, and obeys all promises."""

import os
from pathlib import Path

import pytest

from export_pipeline.steps.retry import Retried
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.retrying import retry

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}
PICKY: dict[str, str | int] = {
    "type": "python",
    "function": "export_pipeline_tests.integration.receivers:picky",
    "retry_for_seconds": 0,
}


def test_a_bad_stretch_that_a_higher_limit_allows_is_delivered(project: Project, received: Path) -> None:
    """An event that was too deep is delivered to every subscriber once the limit allows it, and once only."""
    project.config.update(subscribers={"crm": CRM, "dwh": DWH}, limits={"max_depth": 3})
    deep = b'{"a":{"b":{"c":{}}}}'
    project.put("2026/11/23/a.gz", [b'{"a":1}', deep, b'{"b":2}'])
    project.run()
    assert receivers.events("crm", received) == [b'{"a":1}', b'{"b":2}']
    project.config["limits"] = {"max_depth": 4}
    assert retry(project).stretches == 1
    assert project.run().success
    for name in ("crm", "dwh"):
        assert receivers.events(name, received) == [b'{"a":1}', b'{"b":2}', deep]
    assert retry(project) == Retried()
    assert project.run().success
    assert len(receivers.events("crm", received)) == 3
    assert project.imbalances() == []
    assert project.staged() == []


def test_what_was_not_mended_is_quarantined_again(project: Project, received: Path) -> None:
    """A malformed record that is still malformed goes back to the quarantine; nothing is lost on the way."""
    project.config["subscribers"] = {"crm": CRM}
    project.put("2026/11/23/a.gz", [b'{"a":1}', b'{"broken":'])
    project.run()
    retry(project)
    assert project.run().success
    with project.workspace() as place:
        (record,) = [record for _, record in place.quarantine.records()]
    assert record.data == b'{"broken":'
    assert receivers.events("crm", received) == [b'{"a":1}']


def test_refused_events_go_again_to_whom_refused_them(project: Project, received: Path) -> None:
    """Events that one subscriber refused are sent again to that one only."""
    project.config["subscribers"] = {"picky": PICKY, "dwh": DWH}
    project.put("2026/11/23/a.gz", [b'{"a":1}', b'{"refuse":2}'])
    project.run()
    project.config["subscribers"]["picky"] = {**PICKY, "function": CRM["function"]}
    assert retry(project).refused == 1
    assert project.run().success
    assert receivers.events("crm", received) == [b'{"refuse":2}']
    assert receivers.events("dwh", received) == [b'{"a":1}', b'{"refuse":2}']
    assert project.imbalances() == []


def test_a_file_that_was_given_up_is_tried_anew(project: Project, received: Path) -> None:
    """A file that was given up is read and delivered after it was fixed in place, and its manifest keeps its id."""
    project.config.update(subscribers={"crm": CRM}, max_attempts=1)
    lines = project.put("2026/11/23/a.gz", [{"a": 1}])
    path = project.bucket / "2026/11/23/a.gz"
    whole, status = path.read_bytes(), path.stat()
    project.put("2026/11/23/b.gz", [{"b": 1}])
    path.write_bytes(whole[:-4] + b"\0\0\0\0")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not project.run().success
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert retry(project).files == ["2026/11/23/a.gz"]
    assert project.run().success
    assert sorted(receivers.events("crm", received)) == sorted([*lines, b'{"b": 1}'])
