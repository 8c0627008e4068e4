"""Finding and planning new files: which are found, once each, whatever happens to the cursor."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from export_pipeline.errors import ListingFailed
from export_pipeline.ledger import owed
from export_pipeline.ledger import tables as t
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW, SETTINGS, Export


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Export]:
    made = Export(tmp_path, ledger_url)
    yield made
    made.ledger.close()


def test_a_run_plans_at_most_max_files_and_goes_on_behind_them(export: Export) -> None:
    """250 files are planned by three runs of 100, in key order; the fourth finds nothing and changes nothing."""
    keys = [f"2026/11/23/00/{n:03}.json" for n in range(250)]
    export.put(*keys)
    found = [export.run() for _ in range(4)]
    assert [run.files for run in found] == [100, 100, 50, 0]
    assert [run.more for run in found] == [True, True, False, False]
    assert [run.frontier for run in found] == [keys[99], keys[199], keys[249], keys[249]]
    assert export.owed("crm") == keys


def test_a_late_file_before_the_cursor_is_found(export: Export) -> None:
    """A key that sorts before the cursor, within the lookback, is found by the next run; the cursor stays."""
    export.put("2026/11/23/10/b.json")
    export.run()
    export.put("2026/11/22/11/late.json")
    found = export.run()
    assert (found.files, found.frontier) == (1, "2026/11/23/10/b.json")
    assert sorted(export.planned()) == ["2026/11/22/11/late.json", "2026/11/23/10/b.json"]


def test_more_late_files_than_a_run_takes_are_all_found(export: Export) -> None:
    """When late files fill several runs the cursor never moves back, and none of them is missed."""
    export.put("2026/11/23/10/b.json")
    export.run()
    export.put(*[f"2026/11/23/09/late-{n}.json" for n in range(5)])
    assert [export.run(max_files=2).files for _ in range(4)] == [2, 2, 1, 0]
    assert export.frontier == "2026/11/23/10/b.json"


def test_a_file_dated_in_the_future_does_not_hide_later_ones(export: Export) -> None:
    """A key far in the future is planned, once, but the cursor stays behind it, at the last key of today."""
    export.put("2027/12/31/23/odd.json")
    assert export.run().files == 1
    assert export.frontier == ""
    export.put("2026/11/23/11/new.json")
    assert export.run().files == 1
    assert export.frontier == "2026/11/23/11/new.json"


def test_keys_without_a_date_do_not_stop_the_export(export: Export) -> None:
    """A thousand keys that match no layout, before and behind the files, are counted and left alone."""
    export.put(*[f"0-junk/{n:04}" for n in range(1_100)], "zzz/last", "2026/11/23/a.json")
    found = export.run(max_files=10)
    assert (found.files, found.undated) == (1, 1_100)
    assert found.undated_keys[0] == "0-junk/0000"
    assert export.frontier == "2026/11/23/a.json"
    export.put("2026/11/23/b.json")
    assert export.run(max_files=10).files == 1


@on_both_databases
def test_the_same_key_with_new_content_is_a_file_of_its_own(export: Export) -> None:
    """A known key with another etag is planned again and reported, once."""
    export.put("2026/11/23/a.json")
    export.run()
    export.put("2026/11/23/a.json", text='{"second": true}\n')
    found = export.run()
    assert (found.files, found.overwritten, found.overwritten_keys) == (1, 1, ["2026/11/23/a.json"])
    assert export.run().overwritten == 0


def test_ignored_overwrites_are_taken_once_overwrites_are_read(export: Export) -> None:
    """Content that was ignored under on_overwrite: ignore is planned by the first run with on_overwrite: read, once."""
    export.settings = replace(SETTINGS, on_overwrite="ignore")
    export.put("2026/11/23/00/a")
    export.run()
    export.put("2026/11/23/00/a", text="{}\n{}\n")
    assert export.run().files == 0
    export.settings = SETTINGS
    assert export.run().files == 1
    assert export.run().files == 0


def test_overwrites_can_be_ignored(export: Export) -> None:
    """With on_overwrite: ignore new content under a known key is reported once and not planned."""
    export.settings = replace(SETTINGS, on_overwrite="ignore")
    export.put("2026/11/23/a.json")
    export.run()
    export.put("2026/11/23/a.json", text='{"second": true}\n')
    found = export.run()
    assert (found.files, found.overwritten) == (0, 1)
    assert export.run().overwritten == 0


def test_files_before_start_date_are_counted_and_left_alone(export: Export) -> None:
    """What is older than start_date is never planned, and the first listing says how much that is."""
    export.settings = replace(SETTINGS, start_date=date(2026, 11, 1))
    export.put("2026/10/31/a.json", "2026/11/01/a.json")
    found = export.run()
    assert (found.files, found.too_old) == (1, 1)
    assert export.planned() == ["2026/11/01/a.json"]


def test_a_run_with_nothing_new_writes_nothing(export: Export) -> None:
    """Where nothing changed the ledger is asked, and nothing is written to it."""
    export.put("2026/11/23/a.json")
    export.run()
    asked: list[str] = []

    @event.listens_for(export.ledger.engine, "before_cursor_execute")
    def _keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement.split(maxsplit=1)[0])

    assert export.run().files == 0
    assert "SELECT" in asked
    assert set(asked) <= {"SELECT", "BEGIN"}


def test_a_missing_source_is_an_error_and_plans_nothing(export: Export) -> None:
    """A source that cannot be listed fails with its URL; the cursor stays."""
    export.put("2026/11/23/a.json")
    export.run()
    export.bucket.rename(export.bucket.with_name("elsewhere"))
    with pytest.raises(ListingFailed, match="bucket"):
        export.run()
    assert export.frontier == "2026/11/23/a.json"


def test_a_manifest_holds_files_of_one_day_and_bounded_size(export: Export) -> None:
    """Files are grouped by day, and a group is split at the limits of a manifest."""
    export.settings = replace(SETTINGS, limits=replace(SETTINGS.limits, manifest_max_files=2))
    export.put("2026/11/21/a", "2026/11/21/b", "2026/11/21/c", "2026/11/22/a")
    assert export.run().manifests == 3
    with export.ledger.read() as tx:
        rows = tx.execute(select(t.manifests.c.day, t.manifests.c.files).order_by(t.manifests.c.first_key)).all()
    assert [tuple(row) for row in rows] == [(date(2026, 11, 21), 2), (date(2026, 11, 21), 1), (date(2026, 11, 22), 1)]


def test_start_from_now_takes_only_what_arrives_afterwards(export: Export) -> None:
    """With start_from: now in a new ledger, what is already in the bucket is not owed; what arrives later is."""
    export.settings = replace(SETTINGS, start_from="now")
    _arrive(export, "2026/11/22/old.json", at=NOW - timedelta(seconds=1))
    assert export.run(now=NOW).files == 0
    _arrive(export, "2026/11/22/new.json", at=NOW + timedelta(seconds=1))
    assert export.run(now=NOW + timedelta(seconds=5)).files == 1
    assert export.owed("crm") == ["2026/11/22/new.json"]


def test_start_from_a_date_begins_at_that_day(export: Export) -> None:
    """With a date as start_from the files of that day and later ones are owed."""
    export.settings = replace(SETTINGS, start_from="2026-11-22")
    export.put("2026/11/21/a.json", "2026/11/22/a.json", "2026/11/23/a.json")
    export.run()
    assert export.owed("crm") == ["2026/11/22/a.json", "2026/11/23/a.json"]


def test_an_explicit_since_holds_in_a_new_ledger_too(export: Export) -> None:
    """A subscriber's own since wins over start_from, also where the ledger is new."""
    export.subscribers = {"crm": None, "dwh": "2026-11-23"}
    export.put("2026/11/22/a.json", "2026/11/23/a.json")
    export.run()
    assert export.owed("crm") == ["2026/11/22/a.json", "2026/11/23/a.json"]
    assert export.owed("dwh") == ["2026/11/23/a.json"]


def test_a_subscriber_added_later_starts_now(export: Export) -> None:
    """A subscriber that is added to a ledger in use gets what arrives from then on, not the past."""
    _arrive(export, "2026/11/22/a.json", at=NOW - timedelta(seconds=1))
    export.run()
    export.subscribers = {"crm": None, "dwh": None}
    found = export.run(now=NOW)
    assert found.notes == ("subscriber dwh is new and starts at: now",)
    _arrive(export, "2026/11/23/b.json", at=NOW + timedelta(seconds=1))
    export.run(now=NOW + timedelta(seconds=2))
    assert export.owed("dwh") == ["2026/11/23/b.json"]
    assert export.owed("crm") == ["2026/11/22/a.json", "2026/11/23/b.json"]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("beginning", ["2026/10/01/a.json", "2026/11/22/a.json", "2026/11/23/a.json"]),
        ("2026-11-22", ["2026/11/22/a.json", "2026/11/23/a.json"]),
    ],
)
def test_a_subscriber_added_later_can_start_in_the_past(export: Export, since: str, expected: list[str]) -> None:
    """A subscriber added with since: beginning, or a date, is owed all manifests planned before from there on."""
    export.put("2026/10/01/a.json", "2026/11/22/a.json", "2026/11/23/a.json")
    export.run()
    export.subscribers = {"crm": None, "dwh": since}
    export.run()
    assert export.owed("dwh") == expected


def test_a_later_subscriber_gets_the_past_that_nobody_was_owed(export: Export) -> None:
    """Files that no subscriber was owed are found again for one whose since reaches back to them."""
    export.settings = replace(SETTINGS, start_from="2026-11-23")
    export.put("2026/10/01/a.json", "2026/11/23/a.json")
    export.run()
    export.subscribers = {"crm": None, "dwh": "beginning"}
    export.run()
    assert export.owed("dwh") == ["2026/10/01/a.json", "2026/11/23/a.json"]
    assert export.owed("crm") == ["2026/11/23/a.json"]


@on_both_databases
def test_more_of_the_past_than_a_run_takes_is_all_found(export: Export) -> None:
    """Where a later subscriber reaches back to more files than one run takes, the next runs go on behind them."""
    export.settings = replace(SETTINGS, start_from="2026-11-23")
    past = [f"2026/10/01/{n}.json" for n in range(5)]
    export.put(*past, "2026/11/23/a.json")
    export.run()
    export.subscribers = {"crm": None, "dwh": "beginning"}
    runs = [export.run(max_files=2) for _ in range(4)]
    assert [one.files for one in runs] == [2, 2, 1, 0]
    assert [one.more for one in runs] == [True, True, False, False]
    assert export.owed("dwh") == [*past, "2026/11/23/a.json"]
    assert export.frontier == "2026/11/23/a.json"


def test_the_past_that_one_subscriber_wants_does_not_keep_new_files_waiting(export: Export) -> None:
    """What arrives is found in every run, beside a past of many runs that gets what is left of each, up to its end."""
    export.settings = replace(SETTINGS, start_from="2026-11-23")
    past = [f"2026/10/01/{n}.json" for n in range(5)]
    export.put(*past, "2026/11/23/a.json")
    export.run()
    export.subscribers = {"crm": None, "dwh": "beginning"}
    export.put("2026/11/23/b.json", "2026/11/23/c.json")
    found = export.run(max_files=2)
    assert (found.files, found.more, export.owed("crm")[1:]) == (2, True, ["2026/11/23/b.json", "2026/11/23/c.json"])
    for n in range(5):
        export.put(f"2026/11/23/d{n}.json")
        export.run(max_files=2)
        assert export.owed("crm")[-1] == f"2026/11/23/d{n}.json"
    assert export.owed("dwh")[:5] == past
    assert export.run(max_files=2).more is False


def test_the_past_is_found_though_the_first_run_that_wants_it_fails(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store fails in the very run that meets a subscriber with an earlier start, the next run goes back."""
    export.settings = replace(SETTINGS, start_from="2026-11-23")
    export.put("2026/10/01/a.json", "2026/11/23/a.json")
    export.run()
    export.subscribers = {"crm": None, "dwh": "beginning"}

    def fails(self: Source, **_: Any) -> Iterator[SourceFile]:
        raise ListingFailed(f"{self.url}: 503 Slow Down")

    with monkeypatch.context() as patch:
        patch.setattr(type(export.source), "list_files", fails)
        with pytest.raises(ListingFailed):
            export.run()
    export.run()
    assert export.owed("dwh") == ["2026/10/01/a.json", "2026/11/23/a.json"]


def test_the_past_is_found_though_a_backfill_met_its_subscriber_first(export: Export) -> None:
    """A backfill of one day may be what a new subscriber begins with; the next run still lists its past."""
    export.settings = replace(SETTINGS, start_from="2026-11-23")
    export.put("2026/10/01/a.json", "2026/10/02/b.json", "2026/11/23/a.json")
    export.run()
    export.subscribers = {"crm": None, "dwh": "beginning"}
    export.ask_for(date(2026, 10, 2))
    export.run()
    assert export.owed("dwh") == ["2026/10/01/a.json", "2026/10/02/b.json", "2026/11/23/a.json"]


@pytest.mark.parametrize("since", [None, "now", "2026-11-21"])
def test_a_subscriber_that_was_removed_and_comes_back_has_no_gap(export: Export, since: str | None) -> None:
    """A subscriber taken out of the file and put back as it was is owed what it was owed, and what was planned in
    between; the log says since when it was out, and what else may have taken it out.
    """
    export.subscribers = {"crm": None, "dwh": since}
    export.run(now=NOW)
    _arrive(export, "2026/11/21/a.json", at=NOW + timedelta(seconds=1))
    export.run(now=NOW + timedelta(minutes=1))
    export.subscribers = {"crm": None}
    _arrive(export, "2026/11/22/a.json", at=NOW + timedelta(minutes=1))
    export.run(now=NOW + timedelta(minutes=2))
    assert export.owed("dwh") == ["2026/11/21/a.json"]
    export.subscribers = {"crm": None, "dwh": since}
    found = export.run(now=NOW + timedelta(minutes=3))
    assert export.owed("dwh") == ["2026/11/21/a.json", "2026/11/22/a.json"]
    assert found.notes == (
        "subscriber dwh is back and continues from its removal, at 2026-11-23 12:02 UTC; if another export uses "
        "this ledger for the same source, give each its own ledger",
        "1 earlier manifest is now owed to dwh",
    )


def test_a_subscriber_that_comes_back_with_another_since_starts_there(export: Export) -> None:
    """Whoever wants no part of the gap says so, by another since."""
    export.subscribers = {"crm": None, "dwh": "now"}
    export.run(now=NOW)
    _arrive(export, "2026/11/21/a.json", at=NOW + timedelta(seconds=1))
    export.run(now=NOW + timedelta(minutes=1))
    export.subscribers = {"crm": None}
    export.run(now=NOW + timedelta(minutes=2))
    export.subscribers = {"crm": None, "dwh": "2026-11-22"}
    found = export.run(now=NOW + timedelta(minutes=3))
    assert export.owed("dwh") == []
    assert found.notes == (
        "subscriber dwh now starts at: 2026-11-22",
        "1 manifest before its start is no longer owed to dwh",
    )


def test_a_changed_since_moves_the_start(export: Export) -> None:
    """A later since waives what was owed before it; an earlier one owes it again."""
    export.put("2026/11/21/a.json", "2026/11/22/a.json")
    export.run()
    export.subscribers = {"crm": "2026-11-22"}
    assert "1 manifest before its start is no longer owed to crm" in export.run().notes
    assert export.owed("crm") == ["2026/11/22/a.json"]


def test_a_run_serves_each_subscriber_its_oldest_files(export: Export) -> None:
    """Chosen are the oldest manifests owed, at most max_files for each subscriber, but at least one manifest."""
    export.settings = replace(SETTINGS, limits=replace(SETTINGS.limits, manifest_max_files=2))
    export.subscribers = {"crm": None, "dwh": "2026-11-22"}
    export.put(*[f"2026/11/21/{n}" for n in range(4)], *[f"2026/11/22/{n}" for n in range(4)])
    found = export.run()
    with export.ledger.read() as tx:
        chosen = owed.choose(tx, found.subscriptions, max_files=2, max_retries=1)
        at_least_one = owed.choose(tx, found.subscriptions, max_files=1, max_retries=1)
    assert [(one.first_key, one.subscribers) for one in chosen] == [
        ("2026/11/21/0", ("crm",)),
        ("2026/11/22/0", ("dwh",)),
    ]
    assert at_least_one == chosen


def _arrive(export: Export, key: str, *, at: datetime) -> None:
    """A file that arrived at a given moment, so that the test does not depend on a clock."""
    export.put(key)
    os.utime(export.bucket / key, (at.timestamp(), at.timestamp()))
