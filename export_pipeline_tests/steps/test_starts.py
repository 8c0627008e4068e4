"""Where a subscriber starts, when that changes, and what a replay owed it meanwhile."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW, Export


class Starts(Export):
    """An export whose files arrive when a test says."""

    def arrive(self, key: str, at: datetime = NOW) -> None:
        self.put(key)
        os.utime(self.bucket / key, (at.timestamp(), at.timestamp()))


@pytest.fixture
def starts(tmp_path: Path, ledger_url: str) -> Iterator[Starts]:
    made = Starts(tmp_path, ledger_url)
    yield made
    made.ledger.close()


def test_what_was_waived_is_owed_again(starts: Starts) -> None:
    """A since that moves back owes what a later one had waived, and the log says how much."""
    starts.put("2026/11/21/a.json", "2026/11/22/a.json")
    starts.run()
    starts.subscribers = {"crm": "2026-11-22"}
    starts.run()
    assert starts.owed("crm") == ["2026/11/22/a.json"]
    starts.subscribers = {"crm": "beginning"}
    found = starts.run()
    assert starts.owed("crm") == ["2026/11/21/a.json", "2026/11/22/a.json"]
    assert found.notes == ("subscriber crm now starts at: beginning", "1 earlier manifest is now owed to crm")


@pytest.mark.parametrize("later", ["2026-11-20", "2026-11-22", "2026-11-23"])
def test_a_replay_from_before_the_start_stays_owed(starts: Starts, later: str) -> None:
    """What a replay owed explicitly is owed until it is delivered, wherever the start is or moves."""
    starts.subscribers = {"crm": None, "dwh": "2026-11-22"}
    starts.arrive("2026/11/01/a.json")
    starts.run()
    starts.ask_for(date(2026, 11, 1), chosen=("dwh",))
    assert starts.owed("dwh") == ["2026/11/01/a.json"]
    starts.subscribers = {"crm": None}
    starts.run(now=NOW + timedelta(hours=1))
    starts.subscribers = {"crm": None, "dwh": later}
    starts.run(now=NOW + timedelta(hours=2))
    assert starts.owed("dwh") == ["2026/11/01/a.json"]


@on_both_databases
def test_files_on_both_sides_of_an_absent_subscribers_start(starts: Starts) -> None:
    """What arrives while a subscriber is out is owed to it when it is back, also if planned beside older files."""
    old = [f"2026/11/23/0{n}.json" for n in range(3)]
    for key in old:
        starts.arrive(key, NOW - timedelta(hours=1))
    starts.run(max_files=1)
    starts.subscribers = {"crm": None, "dwh": "now"}
    starts.run(max_files=1)
    starts.subscribers = {"crm": None}
    starts.arrive("2026/11/23/new.json", NOW + timedelta(minutes=5))
    starts.run(now=NOW + timedelta(minutes=10))
    starts.subscribers = {"crm": None, "dwh": "now"}
    starts.run(now=NOW + timedelta(minutes=20))
    assert starts.owed("crm") == [*old, "2026/11/23/new.json"]
    assert starts.owed("dwh") == ["2026/11/23/new.json"]


def test_a_bucket_that_moved_is_listed_from_its_start(starts: Starts, tmp_path: Path) -> None:
    """With another url of the source the old one's cursor hides nothing: listing begins where subscribers start."""
    starts.put("2026/11/23/a.json")
    starts.run()
    starts.bucket = tmp_path / "moved"
    starts.put("2026/10/01/a.json", "2026/11/10/a.json", "2026/11/23/b.json")
    starts.subscribers = {"crm": "2026-11-01"}
    starts.run()
    assert starts.owed("crm") == ["2026/11/10/a.json", "2026/11/23/a.json", "2026/11/23/b.json"]


def test_a_day_as_start_from_wins_over_the_cursor_in_a_new_ledger(starts: Starts) -> None:
    """A cursor says where a new ledger takes over, unless start_from names another day."""
    starts.put("2026/11/19/a.json", "2026/11/20/a.json", "2026/11/23/a.json")
    starts.cursor = "2026/11/23/a.json"
    starts.settings = replace(starts.settings, start_from="2026-11-20")
    starts.run()
    assert starts.owed("crm") == ["2026/11/20/a.json", "2026/11/23/a.json"]
