"""Keys and cursors dated in the future: what arrives until then is found, however long nobody lists."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from export_pipeline.orchestration.wording import found_odd
from export_pipeline.source.layout import Layout
from export_pipeline.steps.freshness import look
from export_pipeline_tests.steps.exporting import NOW, Export
from export_pipeline_tests.steps.search import search_settings

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ODD = "2027/12/31/23/odd.json"


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Export]:
    made = Export(tmp_path, ledger_url)
    yield made
    made.ledger.close()


def test_a_pause_longer_than_the_lookback_loses_nothing(export: Export) -> None:
    """After four days without a run the listing goes on at the last one, also beside a file dated in the future."""
    export.put("2026/11/23/10/a.json", ODD)
    export.run()
    assert export.cursor == "2026/11/23/10/a.json"
    export.put("2026/11/24/10/b.json", "2026/11/27/10/c.json")
    export.run(now=NOW + 4 * DAY)
    assert set(export.planned()) == {"2026/11/23/10/a.json", ODD, "2026/11/24/10/b.json", "2026/11/27/10/c.json"}


def test_a_backlog_longer_than_the_lookback_loses_nothing(export: Export) -> None:
    """Where more comes than a run takes, for longer than the lookback, all of it is found in the end."""
    export.put(ODD)
    export.run()
    keys = [f"2026/11/{20 + hour // 24}/{hour % 24:02}/a.json" for hour in range(80)]
    export.put(*keys)
    for n in range(5):
        export.run(max_files=20, now=NOW + n * DAY)
    assert sorted(export.planned()) == [*keys, ODD]


def test_more_future_files_than_a_run_takes(export: Export) -> None:
    """They are planned over several runs, each once, and the runs come to an end; the cursor stays in the present."""
    odd = [f"2027/12/31/{n:02}.json" for n in range(5)]
    export.put("2026/11/23/a.json", *odd)
    runs = [export.run(max_files=2) for _ in range(4)]
    assert [(one.files, one.more) for one in runs] == [(2, True), (2, True), (2, False), (0, False)]
    assert {one.cursor for one in runs} == {"2026/11/23/a.json"}
    assert sorted(export.planned()) == ["2026/11/23/a.json", *odd]


def test_a_bucket_that_holds_nothing_but_the_future(export: Export) -> None:
    """Without any key of the present the cursor stays empty, and every run still gets on."""
    odd = [f"2027/12/31/{n:02}.json" for n in range(5)]
    export.put(*odd)
    runs = [export.run(max_files=2) for _ in range(4)]
    assert [(one.files, one.more, one.cursor) for one in runs] == [
        (2, True, ""),
        (2, True, ""),
        (1, False, ""),
        (0, False, ""),
    ]


@pytest.mark.parametrize("pattern", ["%Y/%m/%d/", "%Y/%m/%d/%H/"])
def test_keys_by_a_local_date_ahead_of_utc(export: Export, pattern: str) -> None:
    """Keys that tell the time of UTC+14 are all found, as they come and after pauses; the cursor follows the clock."""
    export.settings = search_settings(Layout(pattern))
    keys = []
    for hours in [*range(0, 40, 3), 200, 203, 400]:
        now = NOW + timedelta(hours=hours)
        local = now + 14 * HOUR
        keys.append(f"{local:%Y/%m/%d/%H}/{hours}.json")
        export.put(keys[-1])
        assert export.run(now=now).files == 1
        told = export.settings.layout.moment_of(export.cursor)
        assert told is None or told <= now
    assert sorted(export.planned()) == sorted(keys)
    assert export.cursor >= f"{NOW + timedelta(hours=203):%Y/%m/%d}"


def test_a_cursor_of_the_future_is_replaced_by_what_the_ledger_knows(export: Export) -> None:
    """One that an earlier version left behind a file of the future: the listing goes on at the last day that was
    planned, the log says so, once, and the check of freshness lists from there, too.
    """
    export.put("2026/11/20/10/a.json", ODD)
    export.run(now=NOW - 3 * DAY)
    export.put("2026/11/21/10/b.json", "2026/11/27/10/c.json")
    now = NOW + 4 * DAY
    freshness = look(export.source, export.ledger, export.settings, cursor=ODD, now=now)
    assert (freshness.unlisted, freshness.first_unlisted_key) == (2, "2026/11/21/10/b.json")
    export.cursor = ODD
    found = export.run(now=now)
    assert (found.files, found.future_cursor, found.cursor) == (2, ODD, "2026/11/27/10/c.json")
    assert found_odd(found) == [
        f"the cursor {ODD} lies in the future and does not tell what was listed, so the listing started at 2026/11/18, "
        "by what the ledger knows; nothing is planned twice"
    ]
    assert export.run(now=now).future_cursor == ""


def test_a_cursor_of_the_future_where_the_ledger_knows_the_future_only(export: Export) -> None:
    """Nothing tells what was listed of the present, so the listing starts at the beginning."""
    export.put(ODD)
    export.run()
    export.put("2026/01/01/a.json")
    export.cursor = ODD
    found = export.run()
    assert (found.files, found.cursor) == (1, "2026/01/01/a.json")


def test_a_cursor_of_the_future_in_a_new_ledger_leaves_out_the_past(export: Export) -> None:
    """A person has set it: what is older than now less the lookback is not wanted, and what comes later is found."""
    export.put("2026/11/01/a.json")
    export.cursor = "2026/11/24"
    assert (export.run().files, export.cursor) == (0, "2026/11/23")
    export.put("2026/11/24/b.json", "2026/11/27/c.json")
    export.run(now=datetime(2026, 11, 27, tzinfo=timezone.utc))
    assert sorted(export.planned()) == ["2026/11/24/b.json", "2026/11/27/c.json"]
