"""Comparing a listing with the ledger, and planning what is missing."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select, update

from export_pipeline.ledger import deliveries
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Run
from export_pipeline.orchestration.check_results import completeness
from export_pipeline.source.layout import Layout
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import open_source
from export_pipeline.steps.completeness import (
    Comparison,
    Freshness,
    Repaired,
    compare,
    days_up_to_yesterday,
    look,
    plan_missing,
)
from export_pipeline.steps.discover import discover
from export_pipeline.steps.retention import fold_old_days
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.search import search_settings

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
SETTINGS = search_settings(Layout("%Y/%m/%d"))


class Export:
    """A source in a folder, a ledger, and a cursor."""

    def __init__(self, folder: Path, ledger_url: str) -> None:
        self.bucket = folder / "bucket"
        self.bucket.mkdir()
        self.source = open_source(SourceSettings(url=str(self.bucket)))
        self.ledger = Ledger(ledger_url)
        self.settings = SETTINGS
        self.subscribers: dict[str, str | None] = {"crm": None}
        self.cursor = ""
        self.frontier = ""

    def put(self, key: str, *, age: timedelta = timedelta(days=1), text: str = "{}\n") -> str:
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        then = (NOW - age).timestamp()
        os.utime(path, (then, then))
        return key

    def run(self, *, deliver: bool = True) -> None:
        """Find and plan what is new; *deliver* it to every subscriber."""
        found = discover(
            self.source,
            self.ledger,
            self.settings,
            cursor=self.cursor,
            wanted=self.subscribers,
            max_files=100,
            run=Run("run", NOW),
        )
        self.cursor = found.cursor
        self.frontier = found.frontier
        if deliver:
            self.set_states(deliveries.DELIVERED)

    def set_states(self, state: str) -> None:
        with self.ledger.write() as tx:
            tx.execute(update(t.deliveries).where(t.deliveries.c.state == deliveries.OWED).values(state=state))

    def compare(self, first_day: str = "2026-11-16", last_day: str = "2026-11-22") -> Comparison:
        return compare(
            self.source,
            self.ledger,
            self.settings,
            first_day=date.fromisoformat(first_day),
            last_day=date.fromisoformat(last_day),
            wanted=list(self.subscribers),
            due_before=NOW - HOUR,
        )

    def repair(self, comparison: Comparison) -> Repaired:
        return plan_missing(
            self.source,
            self.ledger,
            self.settings,
            comparison.missing,
            wanted=self.subscribers,
            run=Run("repair", NOW),
        )

    def look(self) -> Freshness:
        return look(self.source, self.ledger, self.settings, cursor=self.cursor, now=NOW)

    def owed(self, name: str) -> list[str]:
        """First keys of the manifests that are owed to a subscriber."""
        with self.ledger.read() as tx:
            return list(
                tx.execute(
                    select(t.deliveries.c.first_key)
                    .join(t.subscriptions, t.subscriptions.c.id == t.deliveries.c.subscription_id)
                    .where(t.subscriptions.c.name == name, t.deliveries.c.state == deliveries.OWED)
                ).scalars()
            )


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Export]:
    made = Export(tmp_path, ledger_url)
    yield made
    made.ledger.close()
    made.source.close()


def missing(comparison: Comparison) -> list[str]:
    return [one.file.key for one in comparison.missing]


def test_only_the_days_of_the_range_count(export: Export) -> None:
    """Objects of the first and the last day count, those of the days around them do not."""
    for day in ("15", "16", "22", "23"):
        export.put(f"2026/11/{day}/a")
    export.run()
    found = export.compare()
    assert (found.objects, found.planned, found.subscribers["crm"].delivered) == (2, 2, 2)
    assert export.compare("2026-11-15", "2026-11-15").objects == 1


def test_days_before_the_start_date_are_not_compared(export: Export) -> None:
    """What the export never takes is not missing."""
    export.put("2026/11/17/a")
    export.put("2026/11/20/a")
    export.settings = replace(SETTINGS, start_date=date(2026, 11, 18))
    export.run()
    assert export.compare().objects == 1


def test_a_file_that_no_run_finds_is_missing_to_those_who_get_it(export: Export) -> None:
    """A file behind the lookback is missing to the subscriber from the beginning, and not to one that began later."""
    export.subscribers = {"crm": None, "dwh": "2026-11-20"}
    export.put("2026/11/22/a")
    export.run()
    late = export.put("2026/11/17/late")
    export.run()
    found = export.compare()
    assert missing(found) == [late]
    assert (found.subscribers["crm"].wanted, found.subscribers["dwh"].wanted) == (2, 1)
    assert export.repair(found) == Repaired(files=1, manifests=1)
    assert export.owed("crm") == [late]
    assert export.owed("dwh") == []
    again = export.compare()
    assert missing(again) == []
    assert again.subscribers["crm"].overdue_keys == [late]
    assert again.subscribers["dwh"].wanted == 1


def test_what_another_run_planned_meanwhile_is_planned_once(export: Export) -> None:
    """Two repairs of the same gap, one after the other, plan its files once."""
    export.put("2026/11/22/a")
    export.run()
    export.put("2026/11/17/late")
    found = export.compare()
    assert export.repair(found).files == 1
    assert export.repair(found) == Repaired(files=0, manifests=0)
    assert export.owed("crm") == ["2026/11/17/late"]


def test_a_file_that_nobody_gets_is_not_missing(export: Export) -> None:
    """A file of before every subscriber's start is counted as unwanted, whether the ledger knows it or not."""
    export.subscribers = {"crm": "2026-11-20"}
    export.put("2026/11/17/a")
    export.put("2026/11/21/a")
    export.run()
    found = export.compare()
    assert (found.objects, found.planned, found.unwanted, missing(found)) == (2, 1, 1, [])


def test_files_that_just_arrived_are_not_missing(export: Export) -> None:
    """A file that arrived a minute ago counts neither as missing nor as overdue."""
    export.put("2026/11/22/a", age=timedelta(minutes=1))
    export.run(deliver=False)
    export.put("2026/11/22/b", age=timedelta(minutes=1))
    found = export.compare()
    assert (found.recent, missing(found)) == (1, [])
    assert (found.subscribers["crm"].waiting, found.subscribers["crm"].overdue) == (1, 0)


@pytest.mark.parametrize(("on_overwrite", "expected"), [("read", ["2026/11/18/a"]), ("ignore", [])])
def test_new_content_under_a_known_key(export: Export, on_overwrite: str, expected: list[str]) -> None:
    """New content under a known key is missing if it is read, and unwanted if it is ignored."""
    export.settings = replace(SETTINGS, on_overwrite=on_overwrite)
    export.put("2026/11/18/a")
    export.put("2026/11/22/a")
    export.run()
    export.put("2026/11/18/a", text='{"new": "content"}\n')
    found = export.compare()
    assert missing(found) == expected
    assert found.unwanted == (0 if expected else 1)


def test_a_file_that_was_given_up(export: Export) -> None:
    """A file in the quarantine as a whole is counted separately."""
    key = export.put("2026/11/22/a")
    export.run(deliver=False)
    export.set_states(deliveries.GIVEN_UP)
    tally = export.compare().subscribers["crm"]
    assert (tally.given_up, tally.given_up_keys, tally.delivered, tally.overdue) == (1, [key], 0, 0)


def test_before_the_first_run_everything_is_missing(export: Export) -> None:
    """In a ledger that no run has used, every old object is missing for everyone; a repair registers and plans."""
    key = export.put("2026/11/22/a")
    found = export.compare()
    assert missing(found) == [key]
    assert found.subscribers["crm"].wanted == 1
    assert export.look().oldest_unlisted == NOW - timedelta(days=1)
    assert export.repair(found).files == 1
    assert export.owed("crm") == [key]


def test_a_subscriber_that_was_removed_is_not_told(export: Export) -> None:
    """What is still owed to a subscriber that is no longer configured fails nothing."""
    export.subscribers = {"crm": None, "old": None}
    export.put("2026/11/22/a")
    export.run(deliver=False)
    export.subscribers = {"crm": None}
    export.run()
    assert export.compare().subscribers.keys() == {"crm"}


def test_an_export_that_stopped_is_not_fresh(export: Export) -> None:
    """Files that no run has listed count from their arrival on, also those that sort before the cursor."""
    export.put("2026/11/22/b")
    export.run()
    assert export.look().unlisted == 0
    export.put("2026/11/22/a", age=timedelta(hours=3))
    export.put("2026/11/23/a", age=timedelta(hours=2))
    found = export.look()
    assert (found.unlisted, found.first_unlisted_key) == (2, "2026/11/22/a")
    assert found.oldest_unlisted == NOW - timedelta(hours=3)
    assert [one.files for one in found.waiting] == [0]


def test_days_are_whole_days_before_today() -> None:
    """Seven days up to yesterday begin a week ago, in UTC."""
    assert days_up_to_yesterday(NOW, 7) == (date(2026, 11, 16), date(2026, 11, 22))


@on_both_databases
def test_folded_days_are_compared_as_before(export: Export) -> None:
    """Of a folded day every object is known and delivered; one that came since is missing, and repaired once."""
    for n in range(3):
        export.put(f"2026/11/20/{n}")
    export.put("2026/11/22/a")
    export.run()
    before = export.compare()
    assert fold_old_days(export.source, export.ledger, keep_days=2, now=NOW) == 1
    assert export.compare() == before
    export.put("2026/11/20/late")
    found = export.compare()
    assert (found.objects, found.planned, missing(found)) == (5, 4, ["2026/11/20/late"])
    assert export.repair(found).files == 1
    export.set_states(deliveries.DELIVERED)
    assert export.compare().missing == []


def test_what_could_not_be_listed_was_not_compared(export: Export) -> None:
    """The comparison reports which names were ignored, and what it could not list, newly each time."""
    export.put("2026/11/20/00/a")
    export.put("2026/11/20/00/b.tmp")
    (export.bucket / "2026/11/20/00/broken").symlink_to("nowhere")
    export.run()
    assert completeness(export.compare(), None)[""].passed
    Path(os.fsdecode(os.fsencode(export.bucket / "2026/11/20/00/") + b"/\xff")).write_bytes(b"{}")
    for _ in range(2):
        result = export.compare()
        assert (result.objects, result.planned) == (1, 1)
        assert (result.left_out.ignored, list(result.left_out.ignored_keys)) == (1, ["2026/11/20/00/b.tmp"])
        assert set(result.left_out.troubled_keys) == {"2026/11/20/00/broken", "2026/11/20/00/\udcff"}
        assert result.left_out.unlisted == 1
    found = completeness(result, None)[""]
    assert (found.passed, found.is_grave) == (False, False)
    assert "ignored 1 temporary or hidden name" in found.text
    assert "the comparison is incomplete: the listing has 2 warnings: " in found.text
    assert r"2026/11/20/00/\udcff: the name is not UTF-8 and is left out" in found.text
