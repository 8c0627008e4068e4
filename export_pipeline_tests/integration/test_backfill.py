"""Backfills: whole days to chosen subscribers."""

from datetime import datetime, timezone
from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import RemotePartitionSetOrigin

from export_pipeline.orchestration import backfills, instigators
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project, Run

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}


def options(only: str = "missing", *subscribers: str) -> dict[str, object]:
    chosen = {"subscribers": list(subscribers)} if subscribers else {}
    return {"list_day_files": {"config": {"only": only, **chosen}}}


@pytest.fixture
def two(project: Project, received: Path) -> Project:
    project.config["subscribers"] = {"crm": CRM, "dwh": DWH}
    return project


def test_missing_delivers_only_what_was_never_delivered(two: Project, received: Path) -> None:
    """`only: missing` delivers a day again to nobody who has it, and all of it to a subscriber that started later."""
    two.config["subscribers"] = {"crm": CRM}
    lines = two.put_days("21", "22")
    two.age()
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
    """The tags of a range of days say who gets it, and whether again; an invalid tag is refused."""
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
    assert run.failures == {"list_day_files": "subscribers: found crmm; allowed: crm, dwh"}


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


@pytest.mark.parametrize(
    ("tags", "config", "text"),
    [
        (
            {"export_pipeline/subscriber": "crm"},
            {},
            "unknown tag export_pipeline/subscriber; allowed: export_pipeline/",
        ),
        (
            {"export-pipeline/only": "all"},
            {},
            "unknown tag export-pipeline/only; allowed: export_pipeline/subscribers, ",
        ),
        ({"export_pipeline/subscribers": " , "}, {}, "tag export_pipeline/subscribers: found an empty list; allowed: "),
        (
            {"export_pipeline/subscribers": "crm,dwhh"},
            {},
            "tag export_pipeline/subscribers: found dwhh; allowed: ",
        ),
        (
            {},
            {"subscribers": []},
            "subscribers: found an empty list; allowed: names out of crm, dwh; leave it",
        ),
    ],
)
def test_what_asks_for_nobody_or_for_the_unknown_is_refused(
    two: Project, received: Path, tags: dict[str, str], config: dict[str, object], text: str
) -> None:
    """A backfill with an unknown tag, an empty list of subscribers or an unknown name fails, and delivers to nobody."""
    two.put_days("21")
    run = two.run("backfill_job", partition="2026-11-21", tags=tags, config={"list_day_files": {"config": config}})
    assert not run.success
    assert run.failures["list_day_files"].startswith(text)
    assert receivers.calls("crm", received) == receivers.calls("dwh", received) == []


def test_the_subscribers_of_a_backfill_are_fixed_when_it_is_launched(two: Project, received: Path) -> None:
    """A subscriber that is added while a backfill to all is under way gets none of its later days."""
    two.config["subscribers"] = {"crm": CRM}
    lines = two.put_days("21", "22")
    two.age()
    tags = {"dagster/backfill": "history"}
    assert two.run("backfill_job", partition="2026-11-21", tags=tags).success
    two.config["subscribers"] = {"crm": CRM, "dwh": {**DWH, "since": "now"}}
    assert two.run("backfill_job", partition="2026-11-22", tags=tags).success
    assert receivers.events("crm", received) == lines
    assert receivers.events("dwh", received) == []
    assert two.run("backfill_job", partition="2026-11-22", tags={"dagster/backfill": "another"}).success
    assert receivers.events("dwh", received) == lines[6:]


def test_a_run_that_waits_in_the_queue_serves_those_that_were_configured_when_it_was_made(two: Project) -> None:
    """A run of backfill_job has the names of the subscribers of its launch as a tag, and "all" means them."""
    assert two.job("backfill_job").tags["export_pipeline/configured_subscribers"] == "crm,dwh"
    two.put_days("21")
    run = two.run("backfill_job", partition="2026-11-21", tags={"export_pipeline/configured_subscribers": "dwh"})
    assert run.success
    assert [message for message in run.messages("info") if message.startswith("crm accepted")] == []


def launched(days: list[str], status: BulkActionStatus = BulkActionStatus.REQUESTED) -> PartitionBackfill:
    """A backfill of these days of November 2026 as Dagster keeps it."""
    names = [f"2026-11-{day}" for day in days]
    now = datetime.now(timezone.utc).timestamp()
    return PartitionBackfill("history", status, False, {}, now, partition_names=names)


def about_backfills(run: Run) -> list[str]:
    return [message for message in run.messages("warning") if message.startswith("backfill")]


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def test_days_whose_runs_dagster_dropped_are_owed_by_the_next_run(
    two: Project, received: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """Of a backfill of eight days, of which Dagster ran two, the next run of the export delivers the other six, says
    so, and does it once.
    """
    if database == "postgresql":
        two.config["ledger"] = {"url": request.getfixturevalue("new_postgres")}
    two.config["start_from"] = "2026-11-23"
    days = [f"{day:02}" for day in range(10, 18)]
    lines = two.put_days(*days)
    with DagsterInstance.from_config(str(two.home)) as instance:
        instance.add_backfill(launched(days))
        for day in ("10", "14"):
            assert two.run("backfill_job", partition=f"2026-11-{day}", tags={"dagster/backfill": "history"}).success
        assert about_backfills(two.run()) == []
        assert len(receivers.events("crm", received)) == 12
        instance.update_backfill(launched(days, BulkActionStatus.COMPLETED_FAILED))
    assert [line.split(",")[0] for line in about_backfills(two.run())] == [
        f"backfill history: Dagster dropped the run for 2026-11-{day}" for day in ("11", "12", "13", "15", "16", "17")
    ]
    for name in ("crm", "dwh"):
        assert sorted(receivers.events(name, received)) == sorted(lines)
    assert about_backfills(two.run()) == []


def test_a_backfill_that_nothing_was_written_down_of_is_repeated_for_no_day_that_it_owed(
    two: Project, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a failed backfill that the ledger knows nothing of, only the days without a run that came to them are owed:
    one that was delivered is not sent again, though all was asked for, nor one whose delivery failed and is owed.
    """
    two.config["start_from"] = "2026-11-23"
    lines = two.put_days("10", "11", "12")
    only_all = {"export_pipeline/only": "all"}
    with DagsterInstance.from_config(str(two.home)) as instance:
        assert two.run("backfill_job", partition="2026-11-10", tags=only_all).success
        (received / "dwh.fails").touch()
        assert not two.run("backfill_job", partition="2026-11-11", tags=only_all).success
        (received / "dwh.fails").unlink()
        for run, day in zip(instance.get_runs(), ("11", "10"), strict=True):
            instance.add_run_tags(run.run_id, {"dagster/backfill": "history", "dagster/partition": f"2026-11-{day}"})
        origin = RemotePartitionSetOrigin(
            repository_origin=instigators.repository_named("here"), partition_set_name="backfill_job_partition_set"
        )
        failed = launched(["10", "11", "12"], BulkActionStatus.COMPLETED_FAILED)
        instance.add_backfill(failed._replace(tags=only_all, partition_set_origin=origin))
    monkeypatch.setattr(backfills, "location_of", lambda run: "here")
    assert [line.split(",")[0] for line in about_backfills(two.run())] == [
        "backfill history: Dagster dropped the run for 2026-11-12"
    ]
    assert sorted(receivers.events("crm", received)) == sorted(receivers.events("dwh", received)) == sorted(lines)
    assert about_backfills(two.run()) == []


def test_days_of_a_backfill_that_somebody_canceled_are_owed_to_nobody(two: Project, received: Path) -> None:
    """What was canceled in the UI is not delivered later."""
    two.config["start_from"] = "2026-11-23"
    two.put_days("10", "11")
    with DagsterInstance.from_config(str(two.home)) as instance:
        instance.add_backfill(launched(["10", "11"]))
        assert two.run("backfill_job", partition="2026-11-10", tags={"dagster/backfill": "history"}).success
        instance.update_backfill(launched(["10", "11"], BulkActionStatus.CANCELED))
    assert about_backfills(two.run()) == []
    assert len(receivers.events("crm", received)) == 6
