"""``export-pipeline ledger``."""

import os
from pathlib import Path

import pytest

from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}


def lose_ledger(project: Project) -> None:
    for path in project.root.glob("ledger.db*"):
        if path.is_file():
            path.unlink()


def contents(project: Project) -> dict[str, bytes]:
    folder = project.root / "copy"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.ndjson")}


@pytest.fixture
def delivered(project: Project, received: Path) -> Project:
    """Two days, planned a few files at a time, with a late file among them, delivered to copy and crm."""
    project.config["subscribers"]["crm"] = CRM
    project.config["max_files"] = 2
    project.put_days("21", "22", files=3)
    for _ in range(3):
        assert project.run().success
    late = project.bucket / "2026/11/22/00/000-late.gz"
    project.put("2026/11/22/00/000-late.gz", [{"late": True}])
    arrived = late.stat().st_mtime + 60
    os.utime(late, (arrived, arrived))
    assert project.run().success
    return project


@pytest.mark.thorough
def test_a_lost_ledger_is_made_again(delivered: Project, cli: CommandLine, received: Path) -> None:
    """From what `files` holds the same batches are found again: after the next runs its objects are what they were, and
    a subscriber that cannot report what it has gets what --from says, under the same ids as before.
    """
    ids, calls, before = delivered.batch_ids(), receivers.calls("crm", received), contents(delivered)
    lose_ledger(delivered)
    shown = cli("ledger", "rebuild", "--from", "2026-11-22").out
    assert "the ledger has 7 files in 5 manifests, of which 5 were recovered" in shown
    for _ in range(4):
        assert delivered.run().success
    assert sorted(delivered.batch_ids()) == sorted(ids)
    assert contents(delivered) == before
    again = receivers.calls("crm", received)[len(calls) :]
    assert sorted(again) == sorted(call for call in calls if "2026/11/22" in call[1] or "late" in call[1])
    assert delivered.imbalances() == []


def test_who_cannot_tell_needs_a_date(delivered: Project, cli: CommandLine) -> None:
    """Without --from it names the subscribers that cannot report, and a ledger that is not empty is left alone."""
    full = cli("ledger", "rebuild", "--from", "2026-11-22")
    assert full.code == 1
    assert "is not empty; move it away" in full.err
    lose_ledger(delivered)
    undated = cli("ledger", "rebuild")
    assert undated.code == 2
    assert "--from is missing: crm cannot report" in undated.err


def test_batches_of_files_that_are_gone_stop_it(delivered: Project, cli: CommandLine) -> None:
    """If a subscriber has batches of a file that no longer exists, nothing is written unless the option allows it."""
    lose_ledger(delivered)
    (delivered.bucket / "2026/11/21/00/000.gz").unlink()
    told = cli("ledger", "rebuild", "--from", "2026-11-22")
    assert told.code == 1
    assert "have batches of 1 manifests whose files are no longer in the source" in told.err
    made = cli("ledger", "rebuild", "--from", "2026-11-22", "--ignore-unmatched").out
    assert "6 files in 5 manifests, of which 4" in made


def test_old_days_are_folded_now(delivered: Project, cli: CommandLine) -> None:
    """`fold` does at once what runs do in steps, and reports that keep_days is missing if it is."""
    assert "ledger.keep_days is not set" in cli("ledger", "fold").err
    delivered.config["ledger"]["keep_days"] = 1
    assert cli("ledger", "fold").out == "folded 5 manifests older than 1 day\n"
    assert cli("ledger", "fold", "--json").json() == {"manifests": 0}
    story = cli("why", "2026/11/21/00/000.gz", "--json").json()
    assert [(one["subscriber"], one["state"]) for one in story["lives"][0]["deliveries"]] == [
        ("copy", "delivered"),
        ("crm", "delivered"),
    ]
    assert [answer["code"] for answer in story["answers"]] == ["delivered"]
