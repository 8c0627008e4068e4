"""Backfills: whole days to chosen subscribers."""

from pathlib import Path

import pytest

from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}


def options(only: str = "missing", *subscribers: str) -> dict[str, object]:
    return {"list_day_files": {"config": {"only": only, "subscribers": list(subscribers)}}}


@pytest.fixture
def two(project: Project, received: Path) -> Project:
    project.config["subscribers"] = {"crm": CRM, "dwh": DWH}
    return project


def test_missing_delivers_only_what_was_never_delivered(two: Project, received: Path) -> None:
    """`only: missing` delivers a day again to nobody who has it, and all of it to a subscriber that started later."""
    two.config["subscribers"] = {"crm": CRM}
    lines = two.put_days("21", "22")
    two.run()
    two.config["subscribers"] = {"crm": CRM, "dwh": DWH}
    two.run()
    assert receivers.calls("dwh", received) == []
    run = two.run("backfill_job", partition="2026-11-21", config=options())
    assert run.success
    assert receivers.events("crm", received) == lines
    assert receivers.events("dwh", received) == lines[:6]
    again = two.run("backfill_job", partition="2026-11-21", config=options())
    assert again.success
    assert again.messages("info")[-1] == "nothing of 2026-11-21 is owed to the chosen subscribers"
    assert receivers.events("dwh", received) == lines[:6]
    assert two.imbalances() == []


def test_all_delivers_the_day_once_more_under_the_same_ids(two: Project, received: Path) -> None:
    """`only: all` sends the day's batches again, with the same ids and bytes, to the chosen subscriber alone."""
    two.put_days("21", "22")
    two.run()
    first = receivers.calls("crm", received)
    run = two.run("backfill_job", partition="2026-11-21", config=options("all", "crm"))
    assert run.success
    assert receivers.calls("crm", received) == [*first, first[0]]
    assert receivers.calls("dwh", received) == first
    assert two.imbalances() == []
    assert two.staged() == []


def test_tags_choose_for_a_range_of_days(two: Project, received: Path) -> None:
    """The tags of a range of days say who gets it, and whether once more; a tag that says neither is refused."""
    two.put_days("21", "22")
    two.run()
    first = receivers.calls("crm", received)
    for only in ("all", "everything"):
        tags = {"export_pipeline/only": only, "export_pipeline/subscribers": "crm"}
        run = two.run("backfill_job", partition="2026-11-21", tags=tags)
        assert run.success is (only == "all")
    assert "tag export_pipeline/only: found 'everything'; allowed: missing, all" in run.failures["list_day_files"]
    assert receivers.calls("crm", received) == [*first, first[0]]
    assert receivers.calls("dwh", received) == first


def test_a_day_that_was_never_exported(two: Project, received: Path) -> None:
    """A backfill of days that no run has listed plans and delivers them; the cursor does not move."""
    two.config["start_from"] = "2026-11-23"
    two.put_days("10", "11", "23")
    two.run()
    before = two.cursor()
    for day in ("10", "11"):
        assert two.run("backfill_job", partition=f"2026-11-{day}", config=options("missing", "crm")).success
    assert len(receivers.events("crm", received)) == 18
    assert len(receivers.events("dwh", received)) == 6
    assert two.cursor() == before == "2026/11/23/00/001.gz"
    assert two.run().success
    assert len(receivers.events("crm", received)) == 18


def test_a_backfill_before_the_first_run(two: Project, received: Path) -> None:
    """A day that was backfilled before the export came to it is not delivered again when it does."""
    lines = two.put_days("21", "22")
    assert two.run("backfill_job", partition="2026-11-22", config=options()).success
    assert two.cursor() == ""
    assert receivers.events("crm", received) == lines[6:]
    assert two.run().success
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    assert sorted(receivers.events("dwh", received)) == sorted(lines)


def test_files_that_a_backfill_finds_are_owed_to_the_others_too(two: Project, received: Path) -> None:
    """A late file beyond the lookback, found by a backfill for one subscriber, reaches the others with the next run."""
    two.put_days("01", "23")
    two.run()
    late = two.put("2026/11/01/00/late.gz", [{"late": True}])
    two.run()
    assert late[0] not in receivers.events("crm", received)
    two.run("backfill_job", partition="2026-11-01", config=options("missing", "crm"))
    assert receivers.events("crm", received).count(late[0]) == 1
    assert late[0] not in receivers.events("dwh", received)
    two.run()
    assert receivers.events("dwh", received).count(late[0]) == 1
    assert receivers.events("crm", received).count(late[0]) == 1


def test_an_unknown_subscriber_is_named(two: Project) -> None:
    """A backfill to a subscriber that is not configured fails and lists those that are."""
    run = two.run("backfill_job", partition="2026-11-21", config=options("missing", "crmm"))
    assert not run.success
    assert run.failures == {"list_day_files": "subscribers: found crmm; configured are crm, dwh"}


def test_an_empty_day_ends_well(two: Project) -> None:
    """A backfill of a day without files ends well and says so."""
    run = two.run("backfill_job", partition="2026-11-05", config=options())
    assert run.success
    assert run.messages("info")[-1] == "nothing of 2026-11-05 is owed to the chosen subscribers"


def test_a_backfill_is_resumed_after_a_failure(two: Project, received: Path) -> None:
    """What a failed backfill still owes is delivered by the next run of the export."""
    two.config["start_from"] = "2026-11-23"
    lines = two.put_days("10")
    (received / "crm.fails").touch()
    assert not two.run("backfill_job", partition="2026-11-10", config=options("missing", "crm")).success
    (received / "crm.fails").unlink()
    assert two.run().success
    assert receivers.events("crm", received) == lines
