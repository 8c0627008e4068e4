"""The asset checks, as check_job runs them: what they find, what they say, and what repair does."""

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from dagster import AssetCheckSeverity, DagsterInstance
from sqlalchemy import update

from export_pipeline.deployment import load_deployment
from export_pipeline.ledger import tables as t
from export_pipeline.orchestration.build import definitions_of
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.checks import check, evaluations
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
DWH = {"type": "python", "function": "export_pipeline_tests.integration.receivers:dwh", "retry_for_seconds": 0}
KINDS = ("every_event_accounted_for", "completeness", "freshness")
YESTERDAY = datetime.now(timezone.utc).date() - timedelta(days=1)
OLD, ERROR, WARN = 86_400, AssetCheckSeverity.ERROR.value, AssetCheckSeverity.WARN.value


@pytest.fixture
def two(project: Project, received: Path) -> Project:
    """Two subscribers, and an hour that a file may take."""
    project.config.update(subscribers={"crm": CRM, "dwh": DWH}, max_lag_minutes=60)
    return project


def put(project: Project, name: str, *, arrived_seconds_ago: int = OLD, days_ago: int = 1) -> bytes:
    """A file of one event, of yesterday or an earlier day; returns the event's line."""
    day = YESTERDAY - timedelta(days=days_ago - 1)
    key = f"{day:%Y/%m/%d}/00/{name}.gz"
    (line,) = project.put(key, [{"key": key}])
    then = time.time() - arrived_seconds_ago
    os.utime(project.bucket / key, (then, then))
    return line


def test_all_is_well_after_a_run(two: Project) -> None:
    """Where everything was delivered, every check of every asset passes and gives the numbers."""
    for name in ("a", "b"):
        put(two, name)
    two.run()
    found = check(two)
    assert sorted(found) == sorted((asset, kind) for asset in ("crm", "dwh", "raw_events") for kind in KINDS)
    assert [one for one in found.values() if not one.passed] == []
    assert found["raw_events", "every_event_accounted_for"].text == (
        "2 events framed in 1 manifest = 2 in batches + 0 quarantined"
    )
    assert found["crm", "every_event_accounted_for"].metadata["accepted"] == 2
    assert found["crm", "completeness"].text.endswith(": crm has received 2 of 2 objects")
    assert found["dwh", "freshness"].text == "nothing is owed to dwh"
    assert found["dwh", "freshness"].metadata["lag_seconds"] == 0


def test_an_event_that_is_not_accounted_for(two: Project) -> None:
    """A ledger that was changed behind its back fails the check of what it concerns, and names the manifest."""
    put(two, "a")
    two.run()
    with two.ledger() as ledger, ledger.write() as tx:
        tx.execute(update(t.deliveries).where(t.deliveries.c.subscription_id == 1).values(accepted=0))
    found = check(two)
    wrong = found["crm", "every_event_accounted_for"]
    assert (wrong.passed, wrong.severity, wrong.metadata["imbalances"]) == (False, ERROR, 1)
    assert "1 events in batches, but 0 accepted" in wrong.text
    assert found["dwh", "every_event_accounted_for"].passed
    assert found["raw_events", "every_event_accounted_for"].passed


def test_a_file_that_came_later_than_the_lookback_is_found_and_repaired(two: Project, received: Path) -> None:
    """A file that no run can find any more is missing; with `repair` it is planned, and the next run delivers it."""
    put(two, "a")
    two.run()
    late = put(two, "late", days_ago=5)
    two.run()
    assert late not in receivers.events("crm", received)
    found = check(two)
    missing = found["raw_events", "completeness"]
    assert (missing.passed, missing.severity) == (False, ERROR)
    assert (missing.metadata["objects"], missing.metadata["planned"], missing.metadata["missing"]) == (2, 1, 1)
    assert "late.gz" in missing.metadata["missing_keys"]
    assert found["crm", "completeness"].text.endswith("crm has received 1 of 2 objects, 1 missing")
    repaired = check(two, repair=True)["raw_events", "completeness"]
    assert (repaired.passed, repaired.severity) == (False, WARN)
    assert repaired.text.endswith("1 file planned now; the next run delivers them")
    assert two.run().success
    assert receivers.events("crm", received).count(late) == 1
    assert receivers.events("dwh", received).count(late) == 1
    assert [one for one in check(two, repair=True).values() if not one.passed] == []
    assert two.imbalances() == []


def test_what_a_failing_subscriber_is_owed(two: Project, received: Path) -> None:
    """What a subscriber is owed for longer than allowed fails its completeness and freshness, and nobody else's."""
    put(two, "a")
    (received / "crm.fails").touch()
    assert not two.run().success
    found = check(two)
    owed = found["crm", "completeness"]
    assert (owed.passed, owed.severity, owed.metadata["overdue"]) == (False, ERROR, 1)
    assert "a.gz" in owed.metadata["overdue_keys"]
    lag = found["crm", "freshness"]
    assert not lag.passed
    assert lag.metadata["lag_seconds"] == pytest.approx(OLD, abs=300)
    assert "1 file owed to crm; the oldest arrived 1 d ago; the latest attempt failed (allowed: 1 h)" in lag.text
    assert found["dwh", "completeness"].passed
    assert found["dwh", "freshness"].passed
    assert found["raw_events", "completeness"].passed


def test_a_day_that_is_none(two: Project) -> None:
    """A day that is none fails the run with what is allowed."""
    run = two.run("check_job", config={"check_completeness": {"config": {"first_day": "yesterday"}}})
    assert not run.success
    assert run.failures["check_completeness"] == "first_day: found 'yesterday'; allowed: YYYY-MM-DD"


def test_a_source_that_cannot_be_listed_fails_the_run(two: Project) -> None:
    """A check that could not run does not pass: the run fails, and no asset is marked."""
    two.bucket.rename(two.root / "elsewhere")
    run = two.run("check_job")
    assert not run.success
    assert {kind for _, kind in evaluations(run)} == {"every_event_accounted_for"}


def test_one_check_alone(two: Project) -> None:
    """A single check of a single asset can be run, as the button on its page does."""
    put(two, "a")
    two.run()
    definitions = definitions_of(load_deployment(str(two.deployment_path)))
    (spec,) = [
        spec
        for checks in definitions.asset_checks or []
        for spec in checks.check_specs
        if spec.key.to_user_string() == "crm:freshness"
    ]
    with DagsterInstance.from_config(str(two.home)) as instance:
        job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={spec.key})
        result = job.execute_in_process(instance=instance)
    assert [one.asset_check_key.to_user_string() for one in result.get_asset_check_evaluations()] == ["crm:freshness"]


def test_the_schedule_is_off_unless_it_is_asked_for(two: Project) -> None:
    """check_schedule runs check_job daily, and is off until `checks: {enabled: true}` or the toggle says otherwise."""
    for enabled, expected in ((False, "STOPPED"), (True, "RUNNING")):
        two.config["checks"] = {"enabled": enabled, "frequency": "30 5 * * *"}
        found = definitions_of(load_deployment(str(two.deployment_path))).resolve_schedule_def("check_schedule")
        assert (found.default_status.value, found.cron_schedule, found.job_name) == (
            expected,
            "30 5 * * *",
            "check_job",
        )


@pytest.mark.parametrize(
    ("frequency", "minutes"),
    [("ten_minutes", 60), ("hourly", 120), ("daily", 2 * 24 * 60), ("*/10 8-18 * * 1-5", 2 * (3 * 24 - 10) * 60 - 100)],
)
def test_how_old_a_file_may_become(two: Project, frequency: str, minutes: int) -> None:
    """By default twice the longest pause between two ticks, at least an hour; max_lag_minutes has the last word."""
    two.config["frequency"] = frequency
    now = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
    assert load_deployment(str(two.deployment_path)).allowed_lag(now) == timedelta(minutes=60)
    del two.config["max_lag_minutes"]
    assert load_deployment(str(two.deployment_path)).allowed_lag(now) == timedelta(minutes=minutes)
