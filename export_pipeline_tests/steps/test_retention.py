"""A folded day whose files are unreadable or gone for a while: what was delivered stays, what is owed comes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Connection

from export_pipeline.errors import FileError, LedgerError
from export_pipeline.ledger import balance, history, owed, subscriptions
from export_pipeline.ledger.records import Run
from export_pipeline.steps.deliver import deliver
from export_pipeline.steps.retention import fold_old_days
from export_pipeline.steps.retry import retry_quarantined
from export_pipeline.steps.unreadable import OwedFileLost
from export_pipeline.testing.doubles import RecordingSubscriber
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW, Export

A, B = "2026/10/01/a.json", "2026/10/01/b.json"
DAY = date(2026, 10, 1)


class Folded(Export):
    """Two files of one manifest, delivered to crm and folded."""

    def __init__(self, folder: Path, ledger_url: str) -> None:
        super().__init__(folder, ledger_url)
        self.max_attempts = 2
        self.receivers = {"crm": RecordingSubscriber(), "dwh": RecordingSubscriber()}
        self.put(A, text='{"n":1}\n')
        self.put(B, text='{"n":2}\n')
        self.run()
        self.deliver()
        assert fold_old_days(self.source, self.ledger, keep_days=10, now=NOW) == 1
        assert len(self.ids("crm")) == 1

    def deliver(self) -> None:
        """Everything that is owed, to all subscribers."""
        with self.ledger.read() as tx:
            active = {one.name: one for one in subscriptions.active(tx, 1)}
            chosen = owed.choose(tx, list(active.values()), max_files=10, max_retries=10)
        for manifest in chosen:
            for name in manifest.subscribers:
                deliver(self.place, manifest.id, active[name], self.receivers[name], run_id=f"run-{self.runs}")

    def replay(self, *, again: bool) -> tuple[int, int]:
        """How many deliveries ``backfill_job`` adds and repeats."""
        backfill = self.ask_for(DAY, again=again)
        return backfill.added, backfill.repeated

    @contextmanager
    def broken(self, key: str) -> Iterator[None]:
        """Inside the block a file has content that turns out not to be gzip; nothing else about it shows that."""
        path = self.bucket / key
        good, there = path.read_bytes(), path.stat()

        def write(data: bytes) -> None:
            path.write_bytes(data)
            os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))

        write(b"\x1f\x8b" + b"0" * (len(good) - 2))
        yield
        write(good)

    def ids(self, name: str) -> list[str]:
        return [batch.id for batch in self.receivers[name].calls]


@pytest.fixture
def folded(tmp_path: Path, ledger_url: str) -> Iterator[Folded]:
    made = Folded(tmp_path, ledger_url)
    yield made
    made.ledger.close()


def test_who_has_a_folded_manifest_keeps_it(folded: Folded) -> None:
    """A file that is unreadable when a new subscriber needs it takes a delivery from nobody who has it."""
    folded.subscribers = {"crm": None, "dwh": "beginning"}
    folded.run()
    with folded.broken(B), pytest.raises(FileError):
        folded.deliver()
    assert folded.replay(again=False) == (0, 0)
    folded.deliver()
    assert len(folded.ids("crm")) == 1
    assert folded.ids("dwh") == folded.ids("crm")


def test_a_replay_of_a_folded_manifest_keeps_its_ids(folded: Folded) -> None:
    """A replay that met an unreadable file comes under the ids of before once the file can be read."""
    assert folded.replay(again=True) == (0, 1)
    with folded.broken(B), pytest.raises(FileError):
        folded.deliver()
    folded.deliver()
    assert folded.ids("crm") == [folded.ids("crm")[0]] * 2


@on_both_databases
def test_files_that_come_back_are_delivered_by_a_backfill(folded: Folded) -> None:
    """Of a folded manifest what is gone is given up aloud and by itself; the rest comes, and it too once it is back."""
    away = folded.bucket.parent / "away"
    folded.subscribers = {"crm": None, "dwh": "beginning"}
    folded.run()
    (folded.bucket / A).rename(away)
    with pytest.raises(LedgerError, match=r"no longer in the source .* attempt 1 of 2"):
        folded.deliver()
    with pytest.raises(
        OwedFileLost, match=r"given up for dwh after 2 of 2 attempts.*; its other files are delivered .* manifest "
    ):
        folded.deliver()
    folded.deliver()
    assert folded.receivers["dwh"].lines == [b'{"n":2}']
    for _ in range(2):
        ((_, record),) = folded.quarantine.records()
        assert (record.kind, record.key) == ("file", "")
        assert "1 of its 2 files, between 2026/10/01/a.json and 2026/10/01/b.json" in record.reason or "1 of its 1" in (
            record.reason
        )
        assert folded.replay(again=False) == (0, 1)
        with pytest.raises(LedgerError, match=r"no longer in the source .* attempt 1 of 2"):
            folded.deliver()
        with pytest.raises(OwedFileLost, match="given up after 2 attempts"):
            folded.deliver()
    folded.deliver()
    away.rename(folded.bucket / A)
    names = [name for name, _ in folded.quarantine.records()]
    assert retry_quarantined(folded.place, names, run=Run("retry", NOW)).files == [""]
    folded.deliver()
    assert sorted(folded.receivers["dwh"].lines) == [b'{"n":1}', b'{"n":2}']
    assert len(folded.ids("crm")) == 1
    with folded.ledger.read() as tx:
        assert balance.imbalances(tx, 1) == []
        states = [one.state for key in (A, B) for one in told_of(tx, folded, key) if one.subscriber == "dwh"]
    assert states == ["delivered", "delivered"]


def told_of(tx: Connection, folded: Folded, key: str) -> tuple[history.DeliveryLife, ...]:
    """What `why` tells of the deliveries of a folded file."""
    file = folded.source.find_file(key)
    assert file is not None
    life = history.life_by_fingerprint(tx, 1, file)
    assert life is not None
    return life.deliveries


def test_a_replay_of_a_folded_manifest_that_lost_a_file_is_given_up_aloud(folded: Folded) -> None:
    """A subscriber that has received all of a folded manifest gets none of it again if a replay is impossible, and the
    error says so.
    """
    assert folded.replay(again=True) == (0, 1)
    (folded.bucket / A).unlink()
    with pytest.raises(LedgerError, match=r"no longer in the source .* attempt 1 of 2"):
        folded.deliver()
    with pytest.raises(OwedFileLost, match="given up for crm after 2 of 2 attempts"):
        folded.deliver()
    folded.deliver()
    assert len(folded.ids("crm")) == 1
    assert [record.kind for _, record in folded.quarantine.records()] == ["file"]
