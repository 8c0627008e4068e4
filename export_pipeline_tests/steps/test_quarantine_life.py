"""The life of a record in the quarantine: kept, retried, dismissed or resolved, and where it comes from throughout."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import delete

from export_pipeline.batching.quarantine import DISMISSED_FOLDER, RETRIED_FOLDER, Quarantine
from export_pipeline.batching.record import FILE, REFUSED, Record
from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import inspection, quarantined
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.quarantined import DISMISSED, KEPT, RESOLVED, RETRIED
from export_pipeline.ledger.records import Run
from export_pipeline.source.file import ReadLimits
from export_pipeline.steps.quarantine import dismiss, waiting_names
from export_pipeline.steps.retry import retry_quarantined
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW
from export_pipeline_tests.steps.running import Runs
from export_pipeline_tests.steps.test_retry import Picky

A, B = "2026/11/22/a.json", "2026/11/22/b.json"
DAY = date(2026, 11, 22)
GOOD = '{"key":"good"}\n'
ONE_BAD = GOOD + '{"key":nonsense}\n' + GOOD
ONE_TO_REFUSE = GOOD + '{"key":"bad"}\n'


class Lives(Runs):
    """An export with one subscriber, which refuses what says that it is bad."""

    def __init__(self, folder: Path, ledger_url: str) -> None:
        super().__init__(folder, ledger_url)
        self.subscribers = {"crm": None}
        self.receivers = {"crm": Picky(retry_for_seconds=0)}  # type: ignore[dict-item]

    def add(self, name: str) -> None:
        """A subscriber that wants everything from the beginning."""
        self.subscribers[name] = "beginning"
        self.receivers[name] = Picky(retry_for_seconds=0)  # type: ignore[assignment]

    def counts(self) -> dict[str, int]:
        """State → records, without states that no record is in."""
        with self.ledger.read() as tx:
            return {state: number for state, number in quarantined.counts(tx, 1).items() if number}

    def waiting(self) -> list[str]:
        return waiting_names(self.place, everything=True)

    def retry_all(self) -> None:
        retry_quarantined(self.place, self.waiting(), run=Run("retry by ann", NOW))

    def folder_records(self, folder: str) -> list[Record]:
        objects = self.quarantine.objects
        return [record for name in objects.list(folder) for record in self.quarantine.records_in(name)]

    def given_up(self) -> int:
        with self.ledger.read() as tx:
            return inspection.account(tx, 1).given_up_files + len(inspection.given_up(tx, 1, most=10))


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Lives]:
    made = Lives(tmp_path, ledger_url)
    yield made
    made.ledger.close()


def where(record: Record) -> tuple[str, int, int | None]:
    return record.key, record.offset, record.event


@pytest.mark.parametrize("retries", [1, 2])
def test_a_malformed_record_that_comes_back_says_where_it_came_from(export: Lives, retries: int) -> None:
    """Retried in vain, however often, it has the file, etag and offset of the source, and says how often it was."""
    export.put(A, text=ONE_BAD)
    export.work()
    (first,) = export.records()
    for n in range(1, retries + 1):
        export.retry_all()
        assert export.counts() == {RETRIED: n}
        export.work()
        (back,) = export.records()
        assert where(back) == where(first) == (A, len(GOOD), None)
        assert (back.etag, back.text, back.retries) == (first.etag, first.text, n)
        assert export.counts() == {KEPT: 1, RETRIED: n}
    assert [one.life[-1]["by"] for one in export.folder_records(RETRIED_FOLDER)] == ["ann"] * retries


def test_an_event_in_a_malformed_record_has_its_offset_in_the_source(export: Lives) -> None:
    """Of a stretch that a retry can read in part, what is still malformed has its own place in the source's file."""
    deep, tail = '{"a":{"b":{}}}', '{"key":nonsense}\n'
    export.limits = ReadLimits(max_depth=2)
    export.put(A, text=GOOD + deep + tail)
    export.work()
    before = {record.offset for record in export.records()}
    export.limits = ReadLimits()
    export.retry_all()
    export.work()
    assert before <= {len(GOOD), len(GOOD + deep)}
    assert {(record.key, record.offset) for record in export.records()} == {(A, len(GOOD + deep))}


def test_a_refused_event_says_which_event_of_which_file_it_is(export: Lives) -> None:
    """Of a batch of several files each refused event has its file and its number in it, also once it came back."""
    export.put(A, text=GOOD * 3)
    export.put(B, text=GOOD + '{"key":"bad 1"}\n' + GOOD + '{"key":"bad 2"}\n')
    export.work()
    assert {where(record) for record in export.records()} == {(B, 4, 1), (B, 6, 3)}
    export.retry_all()
    export.work()
    assert {(record.key, record.event, record.retries) for record in export.records()} == {(B, 1, 1), (B, 3, 1)}
    assert {record.kind for record in export.records()} == {REFUSED}


def test_a_newer_file_resolves_what_is_kept_of_the_older_one(export: Lives) -> None:
    """Once the mended file under the same key is read, nothing of the old one waits; its neighbours' records do."""
    export.put(A, B, text=ONE_BAD)
    export.work()
    export.put(A, text=GOOD * 4)
    export.work()
    assert export.counts() == {KEPT: 1, RESOLVED: 1}
    assert [record.key for record in export.records()] == [B]
    (resolved,) = export.folder_records("resolved")
    assert where(resolved) == (A, len(GOOD), None)
    assert resolved.life[-1]["why"] == "a newer file with this key was read"


def test_a_record_that_comes_back_after_the_newer_file_does_not_wait(export: Lives) -> None:
    """A record that is still malformed when retried, after its file was replaced, is resolved like all others of it."""
    export.put(A, text=ONE_BAD)
    export.work()
    export.retry_all()
    export.put(A, text=GOOD * 4)
    assert [export.work() for _ in range(2)] == [[], []]
    assert KEPT not in export.counts()
    assert (export.records(), export.imbalances()) == ([], [])


def test_a_day_with_a_mended_file_reaches_a_new_subscriber(export: Lives) -> None:
    """It gets the newer file and the others; the old content is resolved, no run fails, and nothing is given up."""
    export.put(A, text=ONE_BAD)
    export.put(B, text='{"key":"b"}\n')
    export.work()
    export.put(A, text=GOOD * 4)
    export.work()
    export.add("new")
    failures = [failure for _ in range(4) for failure in export.work()]
    assert failures == []
    assert sorted(export.got("new")) == ["b", *["good"] * 4]
    assert (export.given_up(), export.records(), export.imbalances()) == (0, [], [])
    assert export.counts()[RESOLVED] == 2


def test_a_replaced_file_that_nobody_else_has_is_still_given_up_aloud(export: Lives) -> None:
    """If the file in its place is not in the ledger, the run fails for the old one, which waits in the quarantine."""
    export.put(A, B, text=GOOD)
    export.work()
    export.settings = replace(export.settings, on_overwrite="ignore")
    export.put(A, text=GOOD * 4)
    export.add("new")
    failures = [failure for _ in range(3) for failure in export.work()]
    assert any("another object" in one or "replaced" in one or "etag" in one for one in failures)
    assert [record.kind for record in export.records()] == [FILE]
    assert export.given_up() > 0


def test_a_dismissed_record_says_who_and_why_and_does_not_come_back(export: Lives) -> None:
    """It waits no longer; a new subscriber for whom its file is read again does not bring it back."""
    export.put(A, text=ONE_BAD)
    export.put(B, text=ONE_TO_REFUSE)
    export.work()
    assert dismiss(export.place, export.waiting(), by="ann", why="a test device") == 2
    assert (export.records(), export.counts()) == ([], {DISMISSED: 2})
    lives = [dict(record.life[-1]) for record in export.folder_records(DISMISSED_FOLDER)]
    assert {(one["by"], one["why"], one["state"]) for one in lives} == {("ann", "a test device", DISMISSED)}
    export.add("new")
    export.work()
    assert "good" in export.got("new")
    assert [record.subscriber for record in export.records()] == ["new"]
    assert export.counts() == {KEPT: 1, DISMISSED: 2}


@on_both_databases
def test_a_dismissed_file_is_no_longer_given_up(export: Lives) -> None:
    """Status has no reason to complain about it any more; a retry of it is still possible once it is back."""
    export.put(A, B, text=GOOD)
    export.run()
    (export.bucket / A).unlink()
    for _ in range(3):
        export.work()
    assert [record.kind for record in export.records()] == [FILE]
    assert export.given_up() > 0
    dismiss(export.place, export.waiting(), by="ann", why="it was empty anyway")
    assert (export.given_up(), export.records()) == (0, [])


def test_two_deployments_in_one_folder_do_not_see_each_others_records(tmp_path: Path, ledger_url: str) -> None:
    """Each lists, retries and dismisses its own, although both have records of the same day in the same quarantine."""
    ours = Lives(tmp_path, ledger_url)
    other = Lives(tmp_path, str(tmp_path / "other.db"))
    other.bucket = tmp_path / "other"
    other.bucket.mkdir()
    for export, text in ((ours, ONE_BAD), (other, ONE_BAD * 2)):
        export.put(A, text=text)
        export.work()
    assert (len(ours.waiting()), len(other.waiting())) == (1, 1)
    assert ours.waiting() != other.waiting()
    assert dismiss(other.place, other.waiting(), by="ann", why="ours") == 2
    assert (ours.counts(), other.counts()) == ({KEPT: 1}, {DISMISSED: 2})
    with pytest.raises(ConfigurationError, match="not waiting in the quarantine of this deployment"):
        waiting_names(other.place, ours.waiting())
    ours.ledger.close()
    other.ledger.close()


def test_what_an_earlier_version_kept_is_adopted(export: Lives) -> None:
    """Records of which the ledger has no entry, as an earlier version left them, can be dismissed like others."""
    export.put(A, text=ONE_BAD)
    export.put(B, text=ONE_TO_REFUSE)
    export.work()
    with export.ledger.write() as tx:
        tx.execute(delete(t.quarantined))
    assert export.counts() == {}
    assert len(export.waiting()) == 2
    assert export.counts() == {KEPT: 2}
    assert dismiss(export.place, export.waiting(), by="ann", why="old") == 2


@on_both_databases
def test_a_dismissal_that_died_is_finished_by_the_next_command(export: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the ledger and the objects, nothing waits by the ledger, and the objects follow later."""
    export.put(A, text=ONE_BAD)
    export.work()

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Quarantine, "move", die)
        with pytest.raises(KeyboardInterrupt):
            dismiss(export.place, export.waiting(), by="ann", why="noise")
    assert (export.counts(), len(export.records())) == ({DISMISSED: 1}, 1)
    assert export.waiting() == []
    assert (export.counts(), export.records()) == ({DISMISSED: 1}, [])
    (record,) = export.folder_records(DISMISSED_FOLDER)
    assert record.life[-1]["by"] == "ann"
