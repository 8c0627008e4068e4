"""Where the next listing begins: no cursor hides a file, and a cursor that a user moved back is followed, once."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from export_pipeline.ledger import database
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration.wording import found_odd
from export_pipeline.source.layout import Layout
from export_pipeline.steps.completeness import look
from export_pipeline.steps.discover import Found
from export_pipeline.steps.next_listing import Cursor
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW, SETTINGS, Export

DAYS = [f"2026/11/{day}/00/a.json" for day in range(10, 24)]
FOREIGN = "2026/11/23/11/theirs.json (ledger 0123abcd)"
IGNORED = {
    "nonsense": "does not match the layout",
    "2099/01/01": "is ahead of 2026/11/23/00/a.json",
    "2026/12/01/00/a.json": "is ahead of 2026/11/23/00/a.json",
    FOREIGN: "was written by another deployment",
    "2026/11/01 (ledger 0123abcd)": "was written by another deployment",
}


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Export]:
    made = Export(tmp_path, ledger_url)
    yield made
    made.ledger.close()


@pytest.mark.parametrize("cursor", [*IGNORED, "2026/11/23", "2026/11/23/00/a.json", "2026/11/30"])
def test_a_source_new_to_the_ledger_is_listed_whole_whatever_the_cursor_says(export: Export, cursor: str) -> None:
    """A cursor left by another deployment, or by a user, hides nothing of a source that was never listed."""
    export.put(*DAYS)
    export.cursor = cursor
    found = export.run()
    assert sorted(export.planned()) == DAYS
    assert found.why_ignored
    assert len(found_odd(found)) == 1
    assert export.run().why_ignored == ""


@pytest.mark.parametrize("cursor", ["", "2026/11/20", "2026/11/01/00/a.json", "1999/01/01", *IGNORED])
def test_no_cursor_repeats_or_hides_a_file(export: Export, cursor: str) -> None:
    """Whatever the cursor is, known files are not planned again, and new ones are found."""
    export.put(*DAYS)
    export.run()
    export.cursor = cursor
    export.put("2026/11/23/11/new.json")
    assert export.run().files == 1
    assert len(export.planned()) == 15
    assert export.frontier == "2026/11/23/11/new.json"


@pytest.mark.parametrize(("cursor", "reason"), IGNORED.items())
def test_what_was_ignored_is_said_in_one_warning(export: Export, cursor: str, reason: str) -> None:
    """A cursor that is malformed, foreign or ahead is named, with why, and with what to set in its stead; once."""
    export.put(*DAYS)
    export.run()
    export.cursor = cursor
    (warning,) = found_odd(export.run())
    assert Cursor.parse(cursor).key in warning
    assert reason in warning
    assert "`start_from`" in warning
    assert "`since`" in warning
    assert found_odd(export.run()) == []


def test_a_cursor_moved_back_lists_again_from_there_once(export: Export) -> None:
    """A file that came later than the lookback allows is found when a user moves the cursor back; the cursor then shows
    again how far the source is listed, and later listings are as short as before.
    """
    export.put(*DAYS)
    export.run()
    export.put("2026/11/15/00/late.json")
    assert export.run().files == 0
    export.cursor = "2026/11/15"
    found = export.run()
    assert (found.files, found.since, found.why_ignored) == (1, "2026/11/13", "")
    assert Cursor.parse(found.cursor).key == "2026/11/23/00/a.json"
    export.put("2026/11/14/00/later.json")
    assert (export.run().files, export.run().since) == (0, "2026/11/21")


@on_both_databases
def test_a_run_that_cannot_take_all_of_an_earlier_cursor_goes_on_with_it(export: Export) -> None:
    """What a cursor moved back asks for may take several runs, though the first of them sets the cursor forward; new
    files do not wait for it.
    """
    export.put(*DAYS)
    export.run()
    late = [f"2026/11/11/00/late-{n}.json" for n in range(5)]
    export.put(*late)
    export.cursor = "2026/11/11"
    for n in range(5):
        export.put(f"2026/11/23/01/{n}.json")
        found = export.run(max_files=2)
        assert f"2026/11/23/01/{n}.json" in export.planned()
        assert Cursor.parse(export.cursor).key == f"2026/11/23/01/{n}.json"
        assert found.more is (n < 4)
    assert sorted(late) == [key for key in sorted(export.planned()) if "late" in key]


def test_a_mark_that_was_left_in_an_edit_does_no_harm(export: Export) -> None:
    """A user may change the day and keep the mark after it; the daemon may write back an older cursor of ours."""
    export.put(*DAYS)
    export.run()
    export.put("2026/11/15/00/late.json")
    export.cursor = export.cursor.replace("2026/11/23", "2026/11/15")
    assert export.run().files == 1


def test_a_whole_key_may_be_pasted_as_cursor(export: Export) -> None:
    """A cursor that holds the source's prefix too, as the S3 console shows keys, means the same key."""
    export.settings = replace(SETTINGS, prefix="events/")
    export.put(*DAYS)
    export.run()
    export.put("2026/11/12/00/late.json")
    export.cursor = "events/2026/11/13/00/a.json"
    found = export.run()
    assert (found.files, found.why_ignored) == (1, "")


def test_an_earlier_start_date_is_looked_back_to(export: Export) -> None:
    """If source.start_date moves to an earlier day, the next run lists what is between."""
    export.settings = replace(SETTINGS, start_date=date(2026, 11, 20))
    export.put(*DAYS)
    assert export.run().files == 4
    export.settings = replace(SETTINGS, start_date=date(2026, 11, 15))
    assert export.run().files == 5
    assert export.run().files == 0


def test_another_layout_lists_from_the_start(export: Export) -> None:
    """A frontier that does not match a new layout says nothing about its keys: they are listed from the first on."""
    export.put(*DAYS)
    export.run()
    export.settings = replace(SETTINGS, layout=Layout("dt=%Y-%m-%d/"))
    export.put("dt=2026-11-01/a.json", "dt=2026-11-23/b.json")
    assert export.run().files == 2
    assert export.frontier == "dt=2026-11-23/b.json"


def test_what_was_not_reached_is_never_called_done(export: Export) -> None:
    """While a listing stopped at its limit, more is waiting, whatever happens to the cursor meanwhile."""
    export.put(*DAYS)
    for cursor in ("2026/11/23", "2099/01/01", "", "nonsense", FOREIGN):
        assert export.run(max_files=2).more is True
        export.cursor = cursor
    assert export.run(max_files=4).more is False
    assert sorted(export.planned()) == DAYS


def test_freshness_lists_what_the_next_run_does(export: Export) -> None:
    """The check of freshness counts what a later subscriber wants of the past, and what a cursor moved back asks for;
    not what a forward cursor would skip.
    """
    export.settings = replace(SETTINGS, start_from="2026-11-20")
    export.put(*DAYS)
    export.run()
    export.put("2026/11/23/11/new.json")
    for cursor in ("2099/01/01", FOREIGN, "nonsense", export.cursor):
        found = look(export.source, export.ledger, export.settings, cursor=cursor, now=NOW)
        assert (found.unlisted, found.since) == (1, "2026/11/21")
    export.subscribers = {"crm": None, "dwh": "2026-11-15"}
    export.run(max_files=2)
    found = look(export.source, export.ledger, export.settings, cursor=export.cursor, now=NOW)
    assert (found.unlisted, found.first_unlisted_key, found.since) == (
        4,
        "2026/11/16/00/a.json",
        "2026/11/15/00/a.json",
    )


def test_two_ledgers_have_two_marks(export: Export, tmp_path: Path) -> None:
    """A ledger keeps its identity, another one has another, and the mark tells sources of one ledger apart."""
    url = export.source.url
    with export.ledger.read() as tx:
        first = database.source_mark(tx, url)
        assert database.identity(tx) == database.identity(tx)
        assert database.source_mark(tx, url + "/sub") != first
    other = Ledger(str(tmp_path / "other.db"))
    with other.read() as tx:
        assert database.source_mark(tx, url) != first
    other.close()
    export.put(*DAYS)
    assert export.run().cursor == f"2026/11/23/00/a.json (ledger {first})"


@on_both_databases
def test_two_deployments_that_share_a_cursor_hide_nothing_from_each_other(
    tmp_path: Path, export: Export, ledger_url: str
) -> None:
    """Each run finds the other's cursor, says so, and lists no more than it had to without it."""
    (tmp_path / "second").mkdir()
    other = Export(tmp_path / "second", str(tmp_path / "second.db"))
    export.put(*DAYS)
    other.put(*DAYS[:7])
    cursor = ""
    found: list[Found] = []
    for n in range(6):
        one = (export, other)[n % 2]
        one.cursor = cursor
        one.put(f"2026/11/{('23', '16')[n % 2]}/01/{n}.json")
        found.append(one.run(now=NOW + timedelta(minutes=n)))
        cursor = one.cursor
    other.ledger.close()
    assert [one.files for one in found] == [15, 8, 1, 1, 1, 1]
    assert [one.why_ignored for one in found] == ["", *["was written by another deployment"] * 5]
    assert [one.since for one in found] == ["", "", "2026/11/21", "2026/11/14", "2026/11/21", "2026/11/14"]
