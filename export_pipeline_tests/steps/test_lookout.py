"""What the sensor new_files and `export-pipeline follow` see, look by look."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from export_pipeline.deployment import Deployment
from export_pipeline.ledger import sources
from export_pipeline.ledger.sources import ListingState
from export_pipeline.source.file import SourceFile
from export_pipeline.source.settings import NotificationSettings, SourceSettings
from export_pipeline.source.store import Source
from export_pipeline.steps import lookout
from export_pipeline.steps.lookout import Lookout, Seen, gets_on, owes_nothing, sweep_of
from export_pipeline_tests.steps.exporting import NOW, Export
from export_pipeline_tests.steps.notified.memory_queue import MemoryQueue


@pytest.fixture
def export(tmp_path: Path) -> Iterator[Export]:
    one = Export(tmp_path, str(tmp_path / "ledger.db"))
    yield one
    one.staging.close()
    one.ledger.close()


def look(export: Export, watcher: Lookout | None = None) -> str:
    return (watcher or Lookout()).look(export.source, export.ledger, export.settings, now=NOW).key


def test_a_new_file_is_seen_until_a_run_has_planned_it(export: Export) -> None:
    """A look sees what a run would plan, also in a ledger that no run has used, and nothing once it is planned."""
    assert look(export) == ""
    export.put("2026/11/23/10/a")
    assert look(export) == "2026/11/23/10/a"
    export.run()
    assert look(export) == ""
    export.put("2026/11/23/11/b")
    assert look(export) == "2026/11/23/11/b"


def test_a_late_file_is_seen(export: Export) -> None:
    """A file that sorts before the frontier is seen as long as it is within the lookback."""
    export.put("2026/11/23/10/b")
    export.run()
    export.put("2026/11/23/10/a")
    assert look(export) == "2026/11/23/10/a"


def test_what_nobody_gets_is_not_seen(export: Export) -> None:
    """Files without a date, before start_date, or ignored as overwrites are not seen."""
    export.settings = replace(export.settings, start_date=date(2026, 11, 22), on_overwrite="ignore")
    export.put("2026/11/23/10/a")
    export.run()
    export.put("2026/11/21/10/early", "processing-failed/x")
    export.put("2026/11/23/10/a", text='{"other": 1}\n')
    assert look(export) == ""


def test_looks_go_through_the_lookback_piece_by_piece(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look lists two pages, however many keys the lookback has; later looks come to a late file."""
    monkeypatch.setattr(lookout, "MOST_KEYS", 10)
    export.put(*[f"2026/11/23/10/{n:03}" for n in range(100)])
    export.run()
    export.put("2026/11/23/10/055-late")
    listed: list[str] = []

    class Counting:
        def __init__(self, source: Source) -> None:
            self._source = source

        def __getattr__(self, name: str) -> object:
            return getattr(self._source, name)

        def list_files(self, **bounds: str) -> Iterator[SourceFile]:
            for file in self._source.list_files(**bounds):
                listed.append(file.key)
                yield file

    watcher = Lookout()
    seen = []
    for _ in range(12):
        listed.clear()
        source: Source = Counting(export.source)  # type: ignore[assignment]  # counts what is listed of it
        seen.append(watcher.look(source, export.ledger, export.settings, now=NOW).key)
        assert len(listed) <= 2 * (10 + 1)
    assert "2026/11/23/10/055-late" in seen


def test_with_a_queue_only_the_queue_is_asked(export: Export) -> None:
    """Where notifications tell of new files, messages that wait are what a look sees."""
    queue = MemoryQueue()
    export.put("2026/11/23/10/a")

    def ask() -> Seen:
        return Lookout().look(export.source, export.ledger, export.settings, queue=queue, now=NOW)

    assert not ask()
    queue.send("one", "two")
    assert ask() == Seen(messages=2)


def test_what_is_owed_or_left_speaks_for_a_run(export: Export) -> None:
    """What was planned and not delivered is work for the next run, and so is what a run's limit left behind."""
    assert owes_nothing(export.ledger, export.source.url) is False
    export.put("2026/11/23/10/a", "2026/11/23/10/b")
    export.run(max_files=1)
    assert gets_on(export.ledger, export.source.url)
    assert not owes_nothing(export.ledger, export.source.url)


def test_a_file_of_the_future_is_planned_once(export: Export) -> None:
    """A file dated tomorrow is seen once, and not again and again once it is planned."""
    tomorrow = NOW + timedelta(days=1)
    export.put(f"{tomorrow:%Y/%m/%d}/00/a")
    assert look(export)
    export.run()
    assert look(export) == ""


@pytest.mark.parametrize(
    ("notifications", "state", "every", "setting"),
    [
        (None, ListingState(complete_at=NOW), timedelta(hours=1), "sweep_minutes"),
        (
            NotificationSettings(queue_url="https://sqs.eu-west-1.amazonaws.com/1/q", listing_every_seconds=7_200),
            ListingState(listed_at=NOW, complete_at=NOW - timedelta(days=9)),
            timedelta(hours=2),
            "source.notifications.listing_every_seconds",
        ),
    ],
)
def test_a_sweep_is_due_as_often_as_a_run_would_list(
    export: Export, notifications: NotificationSettings | None, state: ListingState, every: timedelta, setting: str
) -> None:
    """Without notifications it is due each hour; with them when their listing is, since a run lists no sooner."""
    source = SourceSettings.model_construct(url=export.source.url, notifications=notifications)
    deployment = Deployment.model_construct(sweep_minutes=60, source=source)
    assert sweep_of(deployment, export.ledger).reason(NOW) == "a complete listing is due"
    with export.ledger.write() as tx:
        sources.set_listing_state(tx, sources.add_source(tx, export.source.url), state)
    sweep = sweep_of(deployment, export.ledger)
    assert (sweep.listed_at, sweep.setting) == (NOW, setting)
    assert sweep.reason(NOW + every - timedelta(seconds=1)) == ""
    assert sweep.reason(NOW + every) == "a complete listing is due"
