"""The quarantine in Dagster: an asset by day, and jobs that retry and dismiss what it names."""

from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, TableMetadataValue

from export_pipeline_tests.integration.project import Project, Run

DAY = "2026-11-23"


def shown(project: Project, run: Run) -> dict[str, Any]:
    """The metadata of the latest entry of the asset ``quarantine`` that a run made."""
    found = [
        entry.dagster_event.step_materialization_data.materialization
        for entry in run.entries
        if entry.dagster_event and entry.dagster_event.is_step_materialization
    ]
    (latest,) = [one for one in found if one.asset_key == AssetKey("quarantine")][-1:]
    assert latest.partition == DAY
    table = latest.metadata["newest"]
    assert isinstance(table, TableMetadataValue)
    numbers = {label: value.value for label, value in latest.metadata.items() if label != "newest"}
    return numbers | {"rows": [record.data for record in table.records]}


@pytest.fixture
def full(project: Project) -> Project:
    """A project with two malformed records in two files."""
    project.put("2026/11/23/a.gz", [b"secret nonsense", {"n": 1}])
    project.put("2026/11/23/b.gz", [{"n": 2}, b"more nonsense"])
    return project


def test_the_asset_shows_the_newest_records_without_their_content(full: Project) -> None:
    """Each file has a row with id, offset and reason; the bytes, which may be anybody's data, have none."""
    found = shown(full, full.run())
    assert {state: found[state] for state in ("kept", "retried", "dismissed", "resolved")} == {
        "kept": 2,
        "retried": 0,
        "dismissed": 0,
        "resolved": 0,
    }
    rows = {row["file"]: row for row in found["rows"]}
    assert (rows["2026/11/23/a.gz"]["offset"], rows["2026/11/23/b.gz"]["offset"]) == (0, 9)
    assert rows["2026/11/23/a.gz"]["state"] == "kept"
    assert "secret" not in repr(found)


def test_chosen_records_are_dismissed_from_the_launchpad(full: Project) -> None:
    """The job takes the ids of the table, records who and why, and nothing waits afterwards."""
    (entry,) = {row["id"] for row in shown(full, full.run())["rows"]}
    config = {"dismiss_records": {"config": {"ids": [entry], "why": "a test device", "by": "ann"}}}
    run = full.run("dismiss_quarantine", config=config)
    assert run.messages("info") == ["dismissed 2 records"]
    found = shown(full, run)
    assert (found["kept"], found["dismissed"]) == (0, 2)
    assert {row["changed"] for row in found["rows"]} == {"ann: a test device"}
    again = full.run("dismiss_quarantine", config=config)
    assert not again.success
    (told,) = again.messages("error")
    assert f"{entry} is not waiting in the quarantine of this deployment" in told


def test_a_day_is_retried_from_the_launchpad(full: Project) -> None:
    """The job retries what waits of a day; the next run reads it, and what is still malformed returns with its file."""
    full.run()
    run = full.run("retry_quarantine", config={"retry_records": {"config": {"day": DAY}}})
    assert run.messages("info") == ["the next run retries 2 malformed records; start it now: export-pipeline run"]
    assert shown(full, run)["retried"] == 2
    back = shown(full, full.run())
    assert (back["kept"], back["retried"]) == (2, 2)
    assert {row["file"] for row in back["rows"]} == {"2026/11/23/a.gz", "2026/11/23/b.gz"}


@pytest.mark.parametrize("config", [{"ids": []}, {"ids": ["2026-11-23/x"], "day": DAY}, {"day": "yesterday"}])
def test_a_choice_that_is_none_changes_nothing(full: Project, config: dict[str, Any]) -> None:
    """Neither ids nor a day, both, or a day that is none: the run fails and says what is allowed."""
    full.run()
    run = full.run("retry_quarantine", config={"retry_records": {"config": config}})
    assert not run.success
    assert "allowed: " in run.messages("error")[0]


def test_a_reason_that_repeats_an_event_is_not_shown(project: Project, received: Path) -> None:
    """Of an event that a subscriber refused, the table has file, number and reason, without the event's values."""
    project.config["subscribers"] = {
        "picky": {"type": "python", "function": "export_pipeline_tests.integration.receivers:echoing"}
    }
    project.put("2026/11/23/a.gz", [{"n": 1}, {"email": "ann@example.com"}])
    found = shown(project, project.run())
    (row,) = found["rows"]
    assert (row["file"], row["subscriber"], row["records"]) == ("2026/11/23/a.gz", "picky", 1)
    assert "[event data]" in row["reason"]
    assert "ann@example.com" not in repr(found)


def test_the_jobs_are_offered_with_a_config_to_fill_in(full: Project) -> None:
    """The Launchpad opens with the fields that somebody has to fill in."""
    assert full.job("retry_quarantine").run_config == {"ops": {"retry_records": {"config": {"ids": []}}}}
    expected = {"ops": {"dismiss_records": {"config": {"ids": [], "why": ""}}}}
    assert full.job("dismiss_quarantine").run_config == expected
    with DagsterInstance.from_config(str(full.home)) as instance:
        assert instance.get_runs() == []
