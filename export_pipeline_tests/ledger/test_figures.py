"""The figures of an export: what is owed, what was counted, and what the quarantine holds."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from export_pipeline.ledger import counters, sources
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.figures import ExportFigures, export_figures
from export_pipeline_tests.steps.exporting import NOW
from export_pipeline_tests.steps.running import Runs

KEYS = tuple(f"2026/11/21/{n}.json" for n in range(3))


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Runs]:
    made = Runs(tmp_path, ledger_url)
    yield made
    made.ledger.close()


def figures(export: Runs, later: timedelta = timedelta()) -> ExportFigures:
    with export.ledger.read() as tx:
        return export_figures(tx, sources.source_id(tx, export.source.url) or 0, now=utc_now() + later)


def test_a_subscriber_that_fails_beside_one_that_does_not(export: Runs) -> None:
    """Events, bytes, batches and calls are counted for who gets them; who fails is owed files and bytes, and lags."""
    export.put_events(*KEYS)
    export.receivers["dwh"].is_down = True
    export.work()
    size = sum((export.bucket / key).stat().st_size for key in KEYS)
    crm, dwh = figures(export, timedelta(hours=1)).subscribers
    assert (crm.name, crm.owed_files, crm.owed_bytes, crm.lag_seconds, crm.is_failing) == ("crm", 0, 0, 0, False)
    assert (crm.counters.delivered_events, crm.counters.delivered_bytes) == (3, size)
    assert (crm.counters.delivered_batches, crm.counters.calls, crm.counters.failed_attempts) == (1, 1, 0)
    assert crm.counters.call_seconds > 0
    assert crm.succeeded_at is not None
    assert (dwh.name, dwh.owed_files, dwh.owed_bytes, dwh.is_failing) == ("dwh", 3, size, True)
    assert 3_600 <= dwh.lag_seconds < 3_700
    assert (dwh.counters.delivered_events, dwh.counters.calls, dwh.counters.failed_attempts) == (0, 1, 1)
    export.receivers["dwh"].is_down = False
    export.work()
    _, dwh = figures(export).subscribers
    assert (dwh.owed_files, dwh.lag_seconds, dwh.is_failing) == (0, 0, False)
    assert (dwh.counters.delivered_events, dwh.counters.calls, dwh.counters.failed_attempts) == (3, 2, 1)


def test_a_removed_subscriber_has_no_figures(export: Runs) -> None:
    """What a subscriber that is configured no longer is owed stays in the ledger, and raises no alarm for ever."""
    export.put_events(*KEYS)
    export.receivers["dwh"].is_down = True
    export.work()
    export.subscribers = {"crm": None}
    export.work()
    found = figures(export)
    assert [one.name for one in found.subscribers] == ["crm"]
    assert {name for _, name, _ in found.records} == {"", "crm"}


def test_records_of_the_quarantine_are_counted_by_kind_and_state(export: Runs) -> None:
    """A malformed record is kept, then retried or dismissed; what there is none of is 0."""
    export.put(KEYS[0], text='{"a":1}\n{broken\n')
    export.work()
    found = figures(export).records
    assert {state: number for (kind, _, state), number in found.items() if kind == "stretch"} == {
        "kept": 1,
        "retried": 0,
        "dismissed": 0,
        "resolved": 0,
    }
    assert found["refused", "crm", "kept"] == 0


def test_the_end_of_the_last_run_is_kept(export: Runs) -> None:
    """A run that failed ends later than the last one that succeeded."""
    export.work()
    assert figures(export).run_ended_at is None
    with export.ledger.write() as tx:
        counters.run_ended(tx, 1, succeeded=True, now=NOW)
        counters.run_ended(tx, 1, succeeded=False, now=NOW + timedelta(minutes=10))
    found = figures(export)
    assert (found.run_succeeded_at, found.run_ended_at) == (NOW, NOW + timedelta(minutes=10))
    assert found.listed_at is not None
