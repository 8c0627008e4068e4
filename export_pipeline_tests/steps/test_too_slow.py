"""A reading that is still running when the run's time is over: it ends, blocks nothing, and is retried."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from export_pipeline.ledger import owed
from export_pipeline.steps.read import ReadOutcome, ensure_staged
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import Export

FILES = ("2026/11/22/0.json", "2026/11/22/1.json", "2026/11/22/2.json")
SLOW = FILES[0]


def late() -> str:
    """The run's time is over, whenever it is checked."""
    return "the run has used its 60 s (max_run_seconds)"


class Runs(Export):
    """An export whose runs may be over while they read."""

    def read(self, *, is_late: bool, reading_seconds: float = 0.0, only: str = "") -> list[ReadOutcome]:
        """One run, which reads all that is owed; it is late for all manifests, or *only* for that of this file."""
        in_time = replace(self.place, reading_seconds=reading_seconds)
        over = replace(in_time, stop=late)
        found = self.run()
        with self.ledger.read() as tx:
            chosen = owed.choose(tx, found.subscriptions, max_files=100, max_retries=10)
        return [
            ensure_staged(
                over if is_late and only in ("", one.first_key) else in_time, one.id, run_id=f"run-{self.runs}"
            )
            for one in chosen
        ]


@pytest.fixture
def runs(tmp_path: Path, ledger_url: str) -> Runs:
    """Three files of one day."""
    export = Runs(tmp_path, ledger_url)
    export.put(*FILES)
    return export


@on_both_databases
def test_the_file_at_hand_is_set_apart_and_the_rest_waits_for_the_next_run(runs: Runs) -> None:
    """The file whose turn it was is tried alone from then on; what is left of its manifest is read by the next run."""
    (outcome,) = runs.read(is_late=True)
    assert outcome.staged is None
    assert list(outcome.unreadable) == [SLOW]
    assert late() in outcome.unreadable[SLOW]
    assert sorted(runs.owed("crm")) == sorted(FILES)
    staged = [one.staged for one in runs.read(is_late=False)]
    assert sorted(len(one.manifest.files) for one in staged if one) == [1, 2]


def test_a_reading_may_take_its_share_however_late_it_begins(runs: Runs) -> None:
    """A manifest whose turn comes at the end of each run is read anyway."""
    (outcome,) = runs.read(is_late=True, reading_seconds=math.inf)
    assert outcome.staged is not None
    assert not outcome.unreadable


def test_a_slow_store_costs_no_file(runs: Runs) -> None:
    """However often all files are too slow, none is given up."""
    runs.max_attempts = 2
    for _ in range(5):
        assert not any(outcome.quarantined for outcome in runs.read(is_late=True))
    assert sorted(runs.owed("crm")) == sorted(FILES)


def test_a_file_that_is_too_slow_beside_others_is_given_up(runs: Runs) -> None:
    """A file that needs longer than a run's time, each time, ends in the quarantine as a whole, with that reason."""
    runs.max_attempts = 2
    runs.read(is_late=True)
    given_up = []
    for number in range(3):
        runs.put(f"2026/11/23/{number}.json")
        given_up += [key for outcome in runs.read(is_late=True, only=SLOW) for key in outcome.quarantined]
    assert given_up == [SLOW]
    (record,) = [record for _, record in runs.quarantine.records() if record.kind == "file"]
    assert (record.key, late() in record.reason) == (SLOW, True)
