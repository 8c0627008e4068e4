"""When the source is listed beside its messages, and how far a listing gets in one run."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import event

from export_pipeline.source.file import SourceFile
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.notified.export import DAY, NOW, SETTINGS, Export


def test_the_first_run_lists(export: Export) -> None:
    """What was in the bucket before there was a queue is found by the first run, which lists; the next one does not."""
    export.put("2026/11/20/00/old", tell=False)
    first, second = export.run(), export.run()
    assert (first.why_listed, first.found.files) == ("it was never listed to its end", 1)
    assert (second.why_listed, second.found.files) == ("", 0)
    assert second.next_listing_at == NOW + DAY


def test_a_daily_listing_fills_gaps(listed: Export) -> None:
    """A file whose message never came is found by the listing of the next day, and by none before."""
    listed.put("2026/11/23/10/lost", tell=False)
    listed.put("2026/11/23/11/told")
    assert listed.run(now=NOW + DAY - timedelta(seconds=1)).found.files == 1
    noticed = listed.run(now=NOW + DAY)
    assert noticed.why_listed == "it was last listed at 2026-11-23 12:00 UTC"
    assert noticed.found.files == 1
    assert listed.planned() == ["2026/11/23/10/lost", "2026/11/23/11/told"]
    assert listed.run(now=NOW + DAY).why_listed == ""


def test_a_clock_that_was_ahead_puts_off_no_listing(listed: Export) -> None:
    """A run by a clock that is a year ahead lists; when the clock is right again, the next run does so, too."""
    listed.run(now=NOW + 365 * DAY)
    listed.put("2026/11/23/11/lost", tell=False)
    noticed = listed.run(now=NOW + timedelta(hours=1))
    assert (noticed.why_listed, noticed.found.files) == ("it was last listed at 2027-11-23 12:00 UTC", 1)
    assert listed.run(now=NOW + timedelta(hours=2)).why_listed == ""


@on_both_databases
def test_a_long_listing_goes_on_where_it_stopped(export: Export) -> None:
    """A listing that a run cannot end goes on in the next one, behind the last key, and lists no key twice."""
    keys = [f"2026/11/{day:02}/00/{n}" for day in (1, 10, 23) for n in range(4)]
    export.put(*keys, tell=False)
    lists: list[str] = []
    whole = export.source.list_files

    def watched(*, after: str = "", **more: Any) -> Iterator[SourceFile]:
        lists.append(after)
        return whole(after=after, **more)

    export.source.list_files = watched  # type: ignore[method-assign]
    runs = [export.run(max_files=5, now=NOW + timedelta(minutes=n)) for n in range(4)]
    assert [one.found.files for one in runs] == [5, 5, 2, 0]
    assert [one.is_listed_to_the_end for one in runs] == [False, False, True, True]
    assert lists == ["", keys[4], keys[9]]
    assert runs[1].why_listed == "the last listing continues where it stopped"
    assert runs[3].next_listing_at == NOW + DAY
    assert export.planned() == keys


def test_a_listing_of_many_known_keys_is_cut_too(export: Export) -> None:
    """A run lists a bounded number of keys, even if none is new or none has a date, and makes progress each time."""
    export.put(*[f"2026/11/23/00/{n:03}" for n in range(25)], tell=False)
    export.put(*[f"0-junk/{n}" for n in range(12)], tell=False)
    export.most_keys = 10
    runs = [export.run(max_files=1_000, now=NOW) for n in range(5)]
    assert [one.is_listed_to_the_end for one in runs] == [False, False, False, True, True]
    assert [one.found.files for one in runs] == [0, 8, 10, 7, 0]
    runs = [export.run(list_now=n == 0, now=NOW) for n in range(4)]
    assert [one.is_listed_to_the_end for one in runs] == [False, False, True, True]
    assert [one.found.more for one in runs] == [True, True, False, False]
    assert sum(one.found.files for one in runs) == 0


def test_a_listing_that_is_asked_for_drops_no_other(export: Export) -> None:
    """One asked for while a long one is under way begins no later than where that one has to go on."""
    export.settings = replace(SETTINGS, start_from="2026-11-23")
    past = [f"2026/10/01/00/{n}" for n in range(6)]
    export.put(*past, "2026/11/23/11/a", tell=False)
    export.run()
    export.subscribers = {"crm": None, "dwh": "beginning"}
    export.run(max_files=2)
    export.run(max_files=2, list_now=True)
    export.run()
    assert export.planned() == [*past, "2026/11/23/11/a"]
    assert export.run().why_listed == ""


def test_a_late_file_behind_a_long_listing_is_found_by_the_next_one(export: Export) -> None:
    """The lookback counts from the beginning of the last listing: what came late while it went on is not missed."""
    export.put("2026/11/23/11/a", "2026/11/23/11/b", tell=False)
    export.run(max_files=1)
    late = "2026/11/22/11/late"
    export.put(late, tell=False)
    export.put("2026/11/23/15/c", tell=False)
    export.run(now=NOW + timedelta(hours=5))
    assert export.frontier == "2026/11/23/15/c"
    assert late not in export.planned()
    export.run(now=NOW + DAY)
    assert late in export.planned()


def test_a_subscriber_that_begins_earlier_causes_a_listing(listed: Export) -> None:
    """Files that no subscriber was owed are listed again for one whose since reaches back to them."""
    listed.subscribers = {"crm": "2026-11-23"}
    listed.put("2026/11/01/00/a")
    listed.run()
    assert listed.planned() == []
    listed.subscribers = {"crm": "2026-11-23", "dwh": "beginning"}
    noticed = listed.run()
    assert noticed.why_listed == "a subscriber starts earlier than before"
    assert listed.planned() == ["2026/11/01/00/a"]


def test_the_past_that_one_subscriber_wants_does_not_keep_messages_waiting(listed: Export) -> None:
    """While a listing goes through many runs' worth of the past, messages get half of each run, and so do new files."""
    listed.subscribers = {"crm": "2026-11-23"}
    past = [f"2026/11/01/00/{n}" for n in range(6)]
    listed.put(*past)
    listed.run()
    listed.subscribers = {"crm": "2026-11-23", "dwh": "beginning"}
    fresh = [f"2026/11/23/11/{n}" for n in range(4)]
    listed.put(*fresh)
    runs = [listed.run(max_files=4) for _ in range(3)]
    assert [(one.found.files, one.taken.files) for one in runs] == [(4, 2), (4, 2), (2, 0)]
    assert listed.planned() == [*past, *fresh]


def test_a_run_with_nothing_new_writes_nothing(listed: Export) -> None:
    """Where the queue is empty and no listing due, the ledger is asked, and nothing is written to it."""
    asked: list[str] = []

    @event.listens_for(listed.ledger.engine, "before_cursor_execute")
    def _keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement.split(maxsplit=1)[0])

    noticed = listed.run()
    assert (noticed.found.files, noticed.taken.messages) == (0, 0)
    assert set(asked) <= {"SELECT", "BEGIN"}
    assert len(listed.queue.requests) == 2  # one in each run
