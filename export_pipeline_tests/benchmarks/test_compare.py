"""The race, on a bucket of a few events, and the page that it is written into."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import markdown, millions_page, page
from benchmarks.compare import Race, Row, prepared
from benchmarks.task import Command, Way
from benchmarks.ways import CURL, DATA_PATH, EMPTY, EXPORT, PROTOTYPE, WAYS
from export_pipeline_tests.servers.programs import program


def shell(line: str) -> Command:
    """A command of the shell."""
    return Command(["bash", "-c", line])


@pytest.fixture
def race(tmp_path: Path) -> Race:
    """A race of a way that works, and of ways that do not."""
    program("curl", "apt-get install curl")
    data, expected = prepared(tmp_path, events=30, files=3)
    ways = (
        CURL,
        replace(CURL, name="loser", command=lambda task, _: shell(f"echo '{{}}' > '{task.output}'")),
        replace(CURL, name="crasher", command=lambda task, _: shell("echo out of memory; exit 1")),
        Way("absent", "Is not there.", CURL.command, requirements=("./not-there",)),
    )
    return Race(tmp_path, data, expected, ways, warm_up=False, rounds=2, tries=1, warm_bytes=0)


def results(rows: list[Row], *, events: int) -> dict[str, object]:
    """What is kept of a race for the page."""
    data = {"events": events, "files": 3, "stored_bytes": 1, "unpacked_bytes": 2}
    kept: dict[str, object] = json.loads(
        json.dumps({"data": data, "answers_per_second": 1.0, "rows": [asdict(row) for row in rows]})
    )
    return kept


@pytest.mark.thorough
def test_who_fails_is_named_with_the_reason(race: Race) -> None:
    """A way that loses events, ends with an error or cannot be installed is in the table, with the reason."""
    rows, speed = race.run([0])
    assert speed > 0
    curl, loser, crasher, absent = rows
    assert (curl.failure, curl.events, curl.is_exact, len(curl.costs[0])) == ("", 30, True, 2)
    assert loser.failure == "1 of 30 events came out"
    assert crasher.failure == "exit code 1: out of memory"
    assert absent.failure.startswith("could not be installed: ERROR: ")
    shown = page.comparison(results(rows, events=30))
    for row in (loser, crasher):
        assert f"| {row.name} |  | not measured: {row.failure} |" in shown
    assert "| absent |  | not measured: could not be installed: ERROR: " in shown


@pytest.mark.thorough
def test_the_project_takes_part(tmp_path: Path) -> None:
    """The export, an empty job and the data path run as measured, and every event comes out with its bytes."""
    data, expected = prepared(tmp_path, events=30, files=3)
    ways = (EXPORT, EMPTY, DATA_PATH)
    rows, _ = Race(tmp_path, data, expected, ways, warm_up=False, rounds=1, tries=1, warm_bytes=0).run([0])
    assert [row.failure for row in rows] == ["", "", ""]
    assert [(row.events, row.is_exact) for row in rows] == [(30, True), (0, False), (30, True)]
    shown = page.comparison(results(rows, events=30))
    assert "| read |" in shown
    assert "s more than the empty Dagster job" in shown


def test_every_peer_of_the_comparison_is_there() -> None:
    """The table has a line for each that the project wants to be compared with."""
    names = " ".join(way.name for way in WAYS)
    for peer in (
        "original",
        "dlt",
        "Airbyte",
        "Sling",
        "DuckDB",
        "Polars",
        "rclone",
        "curl",
        "empty Dagster job",
        "prototype",
    ):
        assert peer in names


def test_a_part_of_the_page_is_written_alone() -> None:
    """New figures replace those between the part's marks, and nothing else; a page without them is refused."""
    text = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\nkept\n<!-- /two -->\n"
    found = markdown.rewritten(text, "one", "new \\1")
    assert found == text.replace("old\n", "\nnew \\1\n\n")
    with pytest.raises(ValueError, match="has no markers"):
        markdown.rewritten(text, "three", "new")


def test_the_page_has_its_marks() -> None:
    """docs/benchmarks.md and docs/scale.md can be written by the targets of make."""
    marks = {"bench": page.PAGE, "bench-scale": page.PAGE, "bench-warehouse": page.PAGE, "millions": millions_page.PAGE}
    for mark, path in marks.items():
        assert markdown.rewritten(path.read_text(encoding="utf-8"), mark, "text")


def test_the_race_has_targets_of_its_own() -> None:
    """The data path is held against the prototype and curl by their medians; a way that failed makes no target."""
    walls = {DATA_PATH.name: [9, 1.3, 1.2], PROTOTYPE.name: [1.0, 0.8, 1], CURL.name: [1, 1.1, 0.2]}
    rows = [{"name": name, "costs": {"0": [{"wall_seconds": wall} for wall in found]}} for name, found in walls.items()]
    to_prototype, to_curl = page.race_targets({"rows": rows})
    assert (to_prototype["measured"], to_prototype["is_met"]) == ("1.30 (1.30 s and 1.00 s)", True)
    assert (to_curl["measured"], to_curl["is_met"]) == ("1.30 (1.30 s and 1.00 s)", False)
    rows[1]["costs"] = {}
    assert [one["target"] for one in page.race_targets({"rows": rows})] == ["at most 1.2"]


def test_scale_and_targets_are_shown() -> None:
    """A point that failed and a target that was missed are shown as such."""
    figure = {"wall_seconds": 2.0, "cpu_seconds": 1.0, "peak_bytes": 2**20, "foreign_cores": 0.0}
    points = [
        {"series": "files", "x": 1000, "events": 500, "figures": figure, "failure": ""},
        {"series": "files", "x": 2000, "events": 500, "figures": None, "failure": "too\nmany"},
    ]
    shown = page.scale(points)
    assert "| 1,000 | 2.00 | 1.00 | 1 | 250 |" in shown
    assert "| 2,000 | failed: too many |" in shown
    missed = page.targets([{"what": "a", "target": "at most 1", "measured": "2", "is_met": False}])
    assert "| a | at most 1 | 2 | **no** |" in missed
