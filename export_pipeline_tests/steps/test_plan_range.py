"""Planning a range of days: stretch by stretch, each durable, until there is a reason to stop."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import backfills
from export_pipeline.ledger.backfills import Asked
from export_pipeline.steps import backfill
from export_pipeline.steps.backfill import Backfill, PlannedRange, plan_range
from export_pipeline_tests.steps.exporting import NOW, Export

FIRST = date(2026, 8, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(100)]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """A file on each of a hundred days, before the subscriber's start."""
    one = Export(tmp_path, str(tmp_path / "ledger.db"))
    one.subscribers = {"crm": "2026-11-23", "dwh": "2026-11-23"}
    one.put(*(f"{day:%Y/%m/%d}/a" for day in DAYS))
    return one


def watched(monkeypatch: pytest.MonkeyPatch) -> list[list[date]]:
    """The days of each stretch, as they are planned from now on."""
    stretches: list[list[date]] = []
    plan_days = backfill.plan_days

    def plan_and_note(*args: Any, **given: Any) -> Backfill:
        stretches.append(given["days"])
        return plan_days(*args, **given)

    monkeypatch.setattr(backfill, "plan_days", plan_and_note)
    return stretches


def plan(export: Export, days: list[date], *, stretches: int = 1_000) -> PlannedRange:
    looks = 0

    def stop() -> str:
        nonlocal looks
        looks += 1
        return "its time is over" if looks == stretches else ""

    return plan_range(
        export.source,
        export.ledger,
        export.settings,
        days=days,
        wanted=export.subscribers,
        chosen=["crm"],
        again=False,
        run_id="run-1",
        backfill_id="asked",
        stop=stop,
    )


def test_a_range_is_planned_in_stretches_that_grow(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred days with little in them take a few listings, are all owed to the chosen, and never across a gap."""
    stretches = watched(monkeypatch)
    asked = [day for day in DAYS if day != DAYS[50]]
    done = plan(export, asked)
    assert [len(days) for days in stretches] == [1, 2, 4, 8, 16, 19, 49]
    assert (done.found.files, done.added, done.unplanned) == (99, 99, [])
    assert export.owed("crm") == [f"{day:%Y/%m/%d}/a" for day in asked]
    assert export.owed("dwh") == []


def test_days_with_many_files_are_planned_fewer_at_a_time(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stretch holds in memory is bounded: beyond so many files the next one has half as many days."""
    monkeypatch.setattr(backfill, "_FEW_FILES", 3)
    monkeypatch.setattr(backfill, "_MANY_FILES", 3)
    export.put(*(f"{day:%Y/%m/%d}/{n}" for day in DAYS[6:8] for n in range(4)))
    stretches = watched(monkeypatch)
    plan(export, DAYS[:12])
    assert [len(days) for days in stretches] == [1, 2, 4, 2, 1, 2]


def test_what_was_not_reached_stays_asked_for(export: Export) -> None:
    """At least one stretch is planned; the days behind it stay open in the ledger, and are named with the reason."""
    with export.ledger.write() as tx:
        backfills.ask(tx, export.source.url, "asked", DAYS, Asked(("crm",), again=False), now=NOW)
    done = plan(export, DAYS, stretches=2)
    assert (done.unplanned, done.reason) == (DAYS[3:], "its time is over")
    with export.ledger.read() as tx:
        assert [one.day for one in backfills.unsettled(tx, export.source.url, "asked")] == DAYS[3:]
        assert backfills.unsettled(tx, export.source.url, "another") == []
    assert export.owed("crm") == [f"{day:%Y/%m/%d}/a" for day in DAYS[:3]]


def test_an_unknown_subscriber_is_named(export: Export) -> None:
    """A subscriber that is not configured is refused before anything is listed."""
    export.subscribers = {"dwh": None}
    with pytest.raises(ConfigurationError, match="found crm; configured are dwh"):
        plan(export, DAYS)
