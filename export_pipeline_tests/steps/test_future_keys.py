"""Keys and cursors dated in the future: what arrives until then is found, however long nobody lists."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from export_pipeline.source.layout import Layout
from export_pipeline_tests.steps.conftest import on_both_databases
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
    assert export.frontier == "2026/11/23/10/a.json"
    export.put("2026/11/24/10/b.json", "2026/11/27/10/c.json")
    export.run(now=NOW + 4 * DAY)
    assert set(export.planned()) == {"2026/11/23/10/a.json", ODD, "2026/11/24/10/b.json", "2026/11/27/10/c.json"}


@on_both_databases
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
    assert {one.frontier for one in runs} == {"2026/11/23/a.json"}
    assert sorted(export.planned()) == ["2026/11/23/a.json", *odd]


def test_a_bucket_that_holds_nothing_but_the_future(export: Export) -> None:
    """Without any key of the present the cursor stays empty, and every run still gets on."""
    odd = [f"2027/12/31/{n:02}.json" for n in range(5)]
    export.put(*odd)
    runs = [export.run(max_files=2) for _ in range(4)]
    assert [(one.files, one.more, one.frontier) for one in runs] == [
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
        told = export.settings.layout.moment_of(export.frontier)
        assert told is None or told <= now
    assert sorted(export.planned()) == sorted(keys)
    assert export.frontier >= f"{NOW + timedelta(hours=203):%Y/%m/%d}"
