"""Assets are materialized: the chosen assets are the subscribers, the chosen days are delivered in one run."""

from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus, EventLogEntry

from export_pipeline.deployment import Deployment
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}
DAYS = ("10", "11", "12")
ALL = {"only": "all"}


@pytest.fixture
def history(project: Project, received: Path) -> Project:
    """Two subscribers that start after three days of history."""
    project.config.update(subscribers={"crm": CRM, "dwh": DWH}, start_from="2026-11-23")
    project.sent["lines"] = project.put_days(*DAYS)
    return project


class Materialized:
    """A run that materialized assets for the days from the 10th to the 13th, of which the last has no file.

    Args:
        days: the first and the last; the same twice: one day, as Dagster's UI and command line launch it.
    """

    def __init__(
        self,
        project: Project,
        *assets: str,
        config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        days: tuple[str, str] = ("10", "13"),
    ) -> None:
        bounds = {"start": days[0], "end": days[1]}
        ranged = {f"dagster/asset_partition_range_{end}": f"2026-11-{day}" for end, day in bounds.items()}
        if days[0] == days[1]:
            ranged = {"dagster/partition": f"2026-11-{days[0]}"}
        with DagsterInstance.from_config(str(project.home)) as instance:
            result = project.job("__ASSET_JOB").execute_in_process(
                instance=instance,
                run_config={"ops": {"deliver_days": {"config": config}}} if config else None,
                tags={**ranged, **(tags or {})},
                asset_selection=[AssetKey(name) for name in assets],
                raise_on_error=False,
            )
            self.id, self.success = result.run_id, result.success
            entries = instance.all_logs(result.run_id)
            self.partitions = {name: _partitions(instance, name) for name in ("crm", "dwh")}
        self.lines = [entry.user_message for entry in entries if not entry.is_dagster_event]
        self.failure = next(filter(None, map(_failure, entries)), "")


def _failure(entry: EventLogEntry) -> str:
    event = entry.dagster_event
    if event is None or event.event_type_value != "STEP_FAILURE":
        return ""
    told = event.step_failure_data.user_failure_data
    return (told.description if told is not None else None) or str(event.step_failure_data.error)


def _partitions(instance: DagsterInstance, name: str) -> list[str]:
    return sorted(day.removeprefix("2026-11-") for day in instance.get_materialized_partitions(AssetKey(name)))


def test_one_run_delivers_the_days_to_the_chosen_asset_alone(history: Project, received: Path) -> None:
    """What nobody has listed is found and delivered in order, a day without files is complete, too; once more, nothing
    is sent; with `only: all`, everything under the same ids; the others keep what they are owed.
    """
    first = Materialized(history, "crm")
    assert first.success, first.failure
    assert receivers.events("crm", received) == history.sent["lines"]
    assert receivers.events("dwh", received) == []
    assert first.partitions == {"crm": ["10", "11", "12", "13"], "dwh": []}
    assert "crm accepted 18 events of 6 files; all of 4 days is delivered" in first.lines
    calls = receivers.calls("crm", received)
    assert Materialized(history, "crm").success
    assert receivers.calls("crm", received) == calls
    assert Materialized(history, "crm", config=ALL).success
    assert receivers.calls("crm", received) == calls * 2
    both = Materialized(history, "crm", "dwh", tags={"export_pipeline/only": "missing"})
    assert both.success
    assert receivers.calls("crm", received) == calls * 2
    assert receivers.events("dwh", received) == history.sent["lines"]
    assert history.imbalances() == []
    assert history.staged() == []


def test_one_day_is_a_range_too(history: Project, received: Path) -> None:
    """A single partition, which has another tag than a range, is delivered; a reversed range says what it is."""
    one = Materialized(history, "crm", days=("11", "11"))
    assert one.success, one.failure
    assert receivers.events("crm", received) == history.sent["lines"][6:12]
    assert one.partitions["crm"] == ["11"]
    reversed_ = Materialized(history, "crm", days=("13", "10"))
    assert not reversed_.success
    assert "a range from 2026-11-13 to 2026-11-10, which ends before it begins" in reversed_.failure
    assert history.imbalances() == []


def test_a_failing_subscriber_stops_no_other_and_the_rest_stays_owed(history: Project, received: Path) -> None:
    """The run fails, and says of whom and why; the other's days are complete; executed again from failure it delivers
    what is left, and repeats nothing, though everything was asked for again.
    """
    assert Materialized(history, "dwh").success
    (received / "crm.fails").touch()
    failed = Materialized(history, "crm", "dwh", config=ALL)
    assert not failed.success
    assert failed.failure.startswith("crm failed: ")
    assert "1 of 4 days complete, still owed: 6 files of 3 days, from 2026-11-10 on" in failed.failure
    assert failed.partitions == {"crm": ["13"], "dwh": ["10", "11", "12", "13"]}
    assert receivers.events("dwh", received) == history.sent["lines"] * 2
    (received / "crm.fails").unlink()
    resumed = {"dagster/parent_run_id": failed.id, "dagster/root_run_id": failed.id, "dagster/is_resume_retry": "true"}
    again = Materialized(history, "crm", "dwh", config=ALL, tags=resumed)
    assert again.success
    assert receivers.events("crm", received) == history.sent["lines"]
    assert receivers.events("dwh", received) == history.sent["lines"] * 2
    assert history.imbalances() == []


@pytest.fixture
def short(history: Project, monkeypatch: pytest.MonkeyPatch) -> Materialized:
    """A run whose time was over before it delivered anything, and that planned the first stretch of days only."""
    with monkeypatch.context() as patch:
        patch.setattr(Deployment, "run_seconds", 0.001)
        return Materialized(history, "crm")


def test_the_rest_of_a_long_range_is_owed_and_said(history: Project, received: Path, short: Materialized) -> None:
    """A run whose time is over says what is owed; the next run of the export plans the rest and delivers it all."""
    assert short.success, short.failure
    assert receivers.calls("crm", received) == []
    assert any(
        "still owed: 2 files of 4 days, from 2026-11-10 on. This run ended because" in one for one in short.lines
    )
    assert short.partitions["crm"] == []
    assert history.run().success
    assert receivers.events("crm", received) == history.sent["lines"]
    assert receivers.events("dwh", received) == []


def test_an_unreadable_file_keeps_its_day_open(history: Project, received: Path) -> None:
    """The files beside it are delivered; its day is not materialized, and the failure names the file."""
    history.put_bytes("2026/11/11/00/broken.gz", b"\x1f\x8b\x08\x00broken", compress=False)
    run = Materialized(history, "crm")
    assert not run.success
    assert "1 file could not be read, such as 2026/11/11/00/broken.gz" in run.failure
    assert run.partitions["crm"] == ["10", "12", "13"]
    assert receivers.events("crm", received) == history.sent["lines"]


def test_a_tag_that_names_subscribers_is_refused(history: Project, received: Path) -> None:
    """The chosen assets are the subscribers: a tag that names others fails the run before anything is planned."""
    run = Materialized(history, "crm", tags={"export_pipeline/subscribers": "dwh"})
    assert not run.success
    assert "the chosen assets are the subscribers" in run.failure
    assert receivers.calls("crm", received) == []


def test_days_of_a_run_that_was_canceled_are_owed_to_nobody(
    history: Project, received: Path, short: Materialized
) -> None:
    """While a run is under way no other one plans its days, and once a person ended it they are delivered no more."""
    with DagsterInstance.from_config(str(history.home)) as instance:
        for status in (DagsterRunStatus.STARTED, DagsterRunStatus.CANCELED):
            stored = instance.get_run_by_id(short.id)
            assert stored is not None
            instance.delete_run(short.id)
            instance.add_run(stored.with_status(status))
            assert history.run().success
            assert receivers.events("crm", received) == history.sent["lines"][:6]
