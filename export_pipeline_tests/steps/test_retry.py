"""Retrying what is in the quarantine: who gets it, how often, and what it means for the others."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from export_pipeline.batching.batch import Batch
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.errors import Refused
from export_pipeline.ledger import owed
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.records import Run
from export_pipeline.source.file import ReadLimits
from export_pipeline.steps.deliver import deliver
from export_pipeline.steps.read import ensure_staged
from export_pipeline.steps.retention import fold_old_days
from export_pipeline.steps.retry import Retried, retry_quarantined
from export_pipeline.testing.doubles import RecordingSubscriber
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW, Export

A, B = "2026/11/22/a.json", "2026/11/22/b.json"
DAY = date(2026, 11, 22)
BAD, DEEP = b'{"bad":1}', b'{"a":{"b":{}}}'
ONE_GOOD_ONE_BAD = '{"n":1}\n{"bad":1}\n'
ONE_FLAT_ONE_DEEP = '{"n":1}\n{"a":{"b":{}}}\n'


class Picky(RecordingSubscriber):
    """Refuses events that say they are bad, until it is fixed."""

    is_mended = False

    def deliver(self, batch: Batch) -> None:
        """Accept the others."""
        refused = {} if self.is_mended else {n: "bad" for n, line in enumerate(batch.lines()) if b"bad" in line}
        super().deliver(batch)
        if refused:
            raise Refused(events=refused)


class Retries(Export):
    """An export with all that a run of it needs, and subscribers that keep what they got."""

    def __init__(self, folder: Path, ledger_url: str) -> None:
        super().__init__(folder, ledger_url)
        self.receivers: dict[str, RecordingSubscriber] = {}

    def work(self, *, now: datetime = NOW, max_files: int = 100) -> None:
        """One run: find, read and deliver."""
        found = self.run(now=now, max_files=max_files)
        with self.ledger.read() as tx:
            chosen = owed.choose(tx, found.subscriptions, max_files=100, max_retries=1)
        for manifest in chosen:
            assert ensure_staged(self.place, manifest.id, run_id="read").staged
            for one in found.subscriptions:
                if one.name in manifest.subscribers:
                    deliver(self.place, manifest.id, one, self.receiver(one.name), run_id=f"run-{self.runs}")

    def receiver(self, name: str) -> RecordingSubscriber:
        return self.receivers.setdefault(name, Picky(retry_for_seconds=0))

    def mend(self, *names: str) -> None:
        """Let these refuse nothing from now on, and forget what they were handed."""
        for name in names:
            self.receivers[name] = RecordingSubscriber(retry_for_seconds=0)

    def waiting(self) -> list[str]:
        """Names of the objects in the quarantine, each once."""
        return list(dict.fromkeys(name for name, _ in self.quarantine.records()))

    def retry(self) -> Retried:
        return retry_quarantined(self.place, self.waiting(), run=Run("retry", NOW))

    def replay_all(self) -> None:
        """``backfill_job`` with ``only: all``, and a run that delivers."""
        self.ask_for_the_day(again=True)
        self.work()

    def owe_missing_of_the_day(self) -> tuple[int, int]:
        """``backfill_job`` with ``only: missing``: how many deliveries it added and repeated."""
        return self.ask_for_the_day(again=False)

    def ask_for_the_day(self, *, again: bool) -> tuple[int, int]:
        asked = self.ask_for(DAY, again=again)
        return asked.added, asked.repeated

    def origins(self) -> list[str]:
        """The files of each manifest, sorted."""
        with self.ledger.read() as tx:
            return sorted(tx.execute(select(t.manifests.c.origin)).scalars())


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Retries]:
    made = Retries(tmp_path, ledger_url)
    yield made
    made.ledger.close()


def test_an_event_that_two_refused_goes_again_to_both(export: Retries) -> None:
    """Two subscribers that refused one event both get it after a retry, and each gets it once."""
    export.subscribers = {"crm": None, "dwh": None}
    export.put(A, text=ONE_GOOD_ONE_BAD)
    export.work()
    export.mend("crm", "dwh")
    assert export.retry().refused == 2
    export.work()
    assert [export.receiver(name).lines for name in ("crm", "dwh")] == [[BAD], [BAD]]
    assert export.waiting() == []


def test_an_event_that_is_refused_again_can_be_retried_again(export: Retries) -> None:
    """What a retry did not fix comes back under another name, and the next retry sends it."""
    export.put(A, text=ONE_GOOD_ONE_BAD)
    export.work()
    first = export.waiting()
    export.retry()
    export.work()
    second = export.waiting()
    assert len(first) == len(second) == 1
    assert first != second
    export.mend("crm")
    export.retry()
    export.work()
    assert export.receiver("crm").lines == [BAD]
    assert export.waiting() == []


def test_a_replay_leaves_refused_events_to_a_retry(export: Retries) -> None:
    """A replay of the day repeats what was accepted, as it came; what was refused then waits for a retry."""
    export.put(A, text='{"n":1}\n{"bad":1}\n')
    export.work()
    assert len(export.waiting()) == 1
    export.mend("crm")
    export.replay_all()
    assert export.receiver("crm").lines == [b'{"n":1}']
    assert len(export.waiting()) == 1
    export.retry()
    export.work()
    assert export.receiver("crm").lines == [b'{"n":1}', b'{"bad":1}']
    assert export.waiting() == []


@on_both_databases
def test_a_replay_repeats_a_retried_event_once(export: Retries) -> None:
    """A replay of the day brings an event that was refused, retried and taken under the id by which it was taken."""
    export.put(A, text='{"n":1}\n{"bad":1}\n')
    export.work()
    export.mend("crm")
    export.retry()
    export.work()
    export.mend("crm")
    export.replay_all()
    assert export.receiver("crm").lines == [b'{"n":1}', b'{"bad":1}']


def test_equal_events_of_two_files_are_two_events(export: Retries) -> None:
    """The same event refused out of two files of a day is sent twice, retried together or one after the other."""
    export.put(A, text=ONE_GOOD_ONE_BAD)
    export.work()
    export.retry()
    export.put(B, text=ONE_GOOD_ONE_BAD)
    export.work()
    export.mend("crm")
    assert export.retry().refused == 2
    export.work()
    assert export.receiver("crm").lines == [BAD, BAD]


@pytest.mark.parametrize("text", [ONE_GOOD_ONE_BAD, ONE_FLAT_ONE_DEEP])
def test_a_retry_that_died_plans_nothing_twice(export: Retries, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between planning and archiving, a retry that is asked for again only archives, and so does a run."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    export.limits = ReadLimits(max_depth=2)
    export.put(A, text=text)
    export.work()
    waiting = export.waiting()
    export.mend("crm")
    export.limits = ReadLimits()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Quarantine, "move", die)
            with pytest.raises(KeyboardInterrupt):
                export.retry()
        assert export.waiting() == waiting
    export.work()
    assert export.waiting() == []
    export.retry()
    export.work()
    assert len(export.receiver("crm").calls) == 1
    assert (len(export.origins()), export.waiting()) == (2, [])


def test_what_one_refused_is_missing_to_nobody_else(export: Retries) -> None:
    """Neither a replay of what is missing, nor an early start, nor a return gives others the refused events twice."""
    export.subscribers = {"crm": None, "dwh": None, "gone": None}
    export.put(A, text=ONE_GOOD_ONE_BAD)
    export.mend("dwh", "gone", "late")
    export.work()
    export.subscribers = {"crm": None, "dwh": None}
    export.work()
    export.mend("crm")
    export.retry()
    assert export.origins() == ["refused", "source"]
    assert export.owe_missing_of_the_day() == (0, 0)
    export.subscribers = {"crm": None, "dwh": None, "gone": None, "late": "beginning"}
    export.work()
    assert export.receiver("crm").lines == [BAD]
    for name in ("dwh", "gone", "late"):
        assert export.receiver(name).lines == [b'{"n":1}', BAD]


def test_what_cannot_be_read_of_refused_events_is_nobody_elses_either(export: Retries) -> None:
    """A refused event that is malformed by a present limit is retried only for the subscriber that refused it."""
    export.subscribers = {"crm": None, "dwh": None}
    export.put(A, text='{"bad":{"b":{}}}\n')
    export.receivers["dwh"] = RecordingSubscriber(retry_for_seconds=0)
    export.work()
    export.mend("crm")
    export.retry()
    export.limits = ReadLimits(max_depth=2)
    export.work()
    export.limits = ReadLimits()
    assert export.retry() == Retried(stretches=1)
    assert export.origins() == ["refused", "refused", "source"]
    assert export.owe_missing_of_the_day() == (0, 0)
    export.work()
    assert [export.receiver(name).lines for name in ("crm", "dwh")] == [[b'{"bad":{"b":{}}}']] * 2


def test_bad_stretches_are_not_joined(export: Retries) -> None:
    """The record after a truncated one does not continue it: nothing is made up, and what was fixed beside it is
    delivered.
    """
    export.limits = ReadLimits(max_depth=1)
    export.put(A, text='{"ok":1}\n{"broken":')
    export.put(B, text='7}\n{"ok":2}\n{"deep":{}}\n')
    export.work()
    export.limits = ReadLimits()
    assert export.retry().stretches == 3
    export.work()
    assert sorted(export.receiver("crm").lines) == [b'{"deep":{}}', b'{"ok":1}', b'{"ok":2}']
    broken = sorted(record.data for _, record in export.quarantine.records())
    assert broken == [b"7}", b'{"broken":']


@on_both_databases
def test_what_was_cut_off_waits_on_alone(export: Retries) -> None:
    """Beside a stretch that was too long to be kept whole, the others of its manifest are retried once."""
    export.limits = ReadLimits(max_depth=1, max_event_bytes=1_000)
    export.put(A, text='{"deep":{}}\n{"long":"' + "x" * 2_000_000 + '"}\n{"ok":1}\n')
    export.work()
    export.limits = ReadLimits()
    assert (first := export.retry()).stretches == 1
    assert first.cut_off == 1
    export.work()
    assert sorted(export.receiver("crm").lines) == [b'{"deep":{}}', b'{"ok":1}']
    assert [record.is_whole for _, record in export.quarantine.records()] == [False]
    assert (again := export.retry()).stretches == 0
    assert again.cut_off == 1


@pytest.fixture
def with_a_stretch(export: Retries) -> Retries:
    """An export whose quarantine has a malformed record of a file that arrived two days ago, fixed since."""
    export.limits = ReadLimits(max_depth=2)
    export.put(A, text=ONE_FLAT_ONE_DEEP)
    os.utime(export.bucket / A, ((NOW - timedelta(days=2)).timestamp(),) * 2)
    export.work(now=NOW - timedelta(days=1))
    export.limits = ReadLimits()
    return export


def test_a_bad_stretch_is_missing_to_who_never_got_it(with_a_stretch: Retries) -> None:
    """A retried malformed record, which is in no batch, goes to a subscriber that starts at the beginning later."""
    with_a_stretch.retry()
    with_a_stretch.subscribers = {"crm": None, "late": "beginning"}
    with_a_stretch.run()
    assert with_a_stretch.origins() == ["quarantine", "source"]
    assert len(with_a_stretch.owed("late")) == 2


def test_a_bad_stretch_of_what_was_waived_is_not_owed(export: Retries) -> None:
    """A subscriber that does not get a manifest, because its start moved, is owed its retried record once the start
    moves back.
    """
    export.subscribers = {"crm": None, "dwh": None}
    export.limits = ReadLimits(max_depth=2)
    export.put(A, text=ONE_FLAT_ONE_DEEP)
    with export.ledger.read() as tx:
        assert owed.choose(tx, export.run().subscriptions, max_files=1, max_retries=0)
        (manifest_id,) = tx.execute(select(t.manifests.c.id)).scalars()
    ensure_staged(export.place, manifest_id, run_id="read")
    export.subscribers["dwh"] = "2026-11-23"
    export.run()
    export.retry()
    assert (len(export.owed("crm")), export.owed("dwh")) == (2, [])
    export.subscribers["dwh"] = "beginning"
    export.run()
    assert len(export.owed("dwh")) == 2


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_bad_stretch_is_as_old_as_its_file(with_a_stretch: Retries, *, is_folded: bool) -> None:
    """A subscriber that started after a file arrived, and is put back, is not owed what was retried of it since."""
    export = with_a_stretch
    export.settings = replace(export.settings, lookback=timedelta(0))
    if is_folded:
        later = NOW + timedelta(days=9)
        assert fold_old_days(export.source, export.ledger, keep_days=1, now=later) == 1
    export.subscribers = {"crm": None, "dwh": "now"}
    export.work(now=NOW - timedelta(hours=2))
    export.subscribers = {"crm": None}
    export.work(now=NOW - timedelta(hours=1))
    export.retry()
    export.subscribers = {"crm": None, "dwh": "now"}
    export.work(now=NOW)
    assert export.receiver("dwh").calls == []
    assert export.receiver("crm").lines == [b'{"n":1}', DEEP]
