"""``make bench-ranges``: 1,095 days to a subscriber that has none of them, by materializing its asset in a browser."""

import argparse
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.rounds import say
from benchmarks.serving import ROOT
from export_pipeline_tests.browser import chromium, pages
from export_pipeline_tests.integration.dagster_dev import DagsterDev, dagster_dev
from export_pipeline_tests.integration.project import Project

PAGE = ROOT / "docs" / "benchmarks.md"
MOST_SECONDS = 300
"""What is promised for three years with little in them, from the click to the end of the run."""

_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
_EVENTS = 10
_FOUND = """query ($run: ID!) { runOrError(runId: $run) { ... on Run { startTime endTime } }
  assetNodeOrError(assetKey: {path: ["copy"]}) { ... on AssetNode { partitionStats { numMaterialized } } } }"""
_EVENTS_OF_RUN = """query ($run: ID!, $cursor: String) { logsForRun(runId: $run, afterCursor: $cursor, limit: 1000) {
  ... on EventConnection { cursor hasMore events { __typename } } } }"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One range.

    Attributes:
        seconds: from the click to the end of the run.
        run_seconds: of the run itself.
        dagster_events: in the log of the run.
    """

    days: int
    seconds: float
    run_seconds: float
    dagster_events: int


def main() -> None:
    """Measure, and write the page's section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=1_095)
    given = parser.parse_args()
    measured = measure(given.days)
    text = section(measured)
    rewrite(PAGE, "bench-ranges", text)
    print(text)


def measure(days: int) -> Measured:
    """Deliver so many days, each with one file, that lie before the start of the subscriber."""
    today = date.today()
    first = today - timedelta(days=days - 1)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        project = Project(root, start_from="now")
        shutil.copy(ROOT / "dagster.yaml", project.home)
        project.config.update(frequency="weekly")
        project.config["source"]["start_date"] = first.isoformat()
        sent = 0
        for number in range(days):
            day = first + timedelta(days=number)
            sent += len(project.put(f"{day:%Y/%m/%d}/00/a.gz", [{"day": f"{day}", "n": n} for n in range(_EVENTS)]))
        browser = stack.enter_context(chromium.running())
        dev = stack.enter_context(dagster_dev(project))
        page = chromium.new_person(browser, dev.url).new_page()
        say(f"{days} days are ready; launching")
        seconds, run = _launch(page, dev, days)
        assert len(project.copied()) == sent, f"{len(project.copied())} of {sent} events were delivered"
        assert project.imbalances() == []
        found = dev.ask(_FOUND, run=run["runId"])
        assert found["assetNodeOrError"]["partitionStats"]["numMaterialized"] >= days
        of_run = found["runOrError"]
        return Measured(days, seconds, of_run["endTime"] - of_run["startTime"], _events(dev, run["runId"]))


def _events(dev: DagsterDev, run_id: str) -> int:
    number, cursor = 0, None
    while True:
        page = dev.ask(_EVENTS_OF_RUN, run=run_id, cursor=cursor)["logsForRun"]
        number, cursor = number + len(page["events"]), page["cursor"]
        if not page["hasMore"]:
            return number


def _launch(page: Page, dev: DagsterDev, days: int) -> tuple[float, dict[str, Any]]:
    """Click, and wait for the end of the run; the seconds that took, and the run."""
    dialog = pages.open_materialize_dialog(page, "copy")
    # It begins with the last 90 days.
    dialog.get_by_text("Clear", exact=True).click()
    dialog.get_by_role("button", name="All", exact=True).click()
    # Today is a partition, too; whether it has begun since the files were made does not matter.
    dialog.get_by_text(f"{days:,} partitions").or_(dialog.get_by_text(f"{days + 1:,} partitions")).first.wait_for()
    started = time.monotonic()
    dialog.get_by_role("button", name="Launch backfill").click()
    (run,) = dev.wait_for(lambda: _ended(dev), seconds=4 * MOST_SECONDS)
    assert run["status"] == "SUCCESS", run
    return time.monotonic() - started, run


def _ended(dev: DagsterDev) -> list[dict[str, Any]]:
    runs = dev.runs()
    return runs if runs and all(run["status"] in _ENDED for run in runs) else []


def section(measured: Measured) -> str:
    """The table and what it was measured on."""
    head = ["days", "from the click to the end s", "the run alone s", "events in Dagster's log", "target"]
    met = "yes" if measured.seconds < MOST_SECONDS else "no"
    row = [f"{measured.days:,}", f"{measured.seconds:.0f}", f"{measured.run_seconds:.0f}"]
    row += [f"{measured.dagster_events:,}", f"under {MOST_SECONDS} s: {met}"]
    files = f"One file of {_EVENTS} events a day; SQLite for the ledger and for Dagster"
    return "\n".join([*table(head, [row]), "", f"{date.today():%Y-%m-%d}, {description()}. {files}."])


if __name__ == "__main__":
    main()
