"""Which manifests a run takes where some of them could not be read. On SQLite and PostgreSQL."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from export_pipeline.ledger import manifests, owed
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Subscription
from export_pipeline_tests.ledger.test_manifests import NOW, plan


def planned(ledger: Ledger, manifests: int) -> tuple[list[str], Subscription]:
    """So many manifests of two files, the oldest first."""
    found = [plan(ledger, f"2026/11/23/{n:02}a", f"2026/11/23/{n:02}b") for n in range(manifests)]
    return [manifest_id for manifest_id, _ in found], found[0][1][0]


def chosen(ledger: Ledger, crm: Subscription, *, max_files: int, max_retries: int = 1) -> list[str]:
    with ledger.read() as tx:
        return [one.id for one in owed.choose(tx, [crm], max_files=max_files, max_retries=max_retries, now=NOW)]


def refused(ledger: Ledger, *manifest_ids: str) -> None:
    """A reading of each failed, and no file was to blame."""
    with ledger.write() as tx:
        for manifest_id in manifest_ids:
            manifests.note_failure(tx, manifest_id, "403")


def failed(ledger: Ledger, manifest_id: str, *, tries: int, minutes_ago: float) -> None:
    """Its file could not be read this many times, the last time this long ago."""
    with ledger.write() as tx:
        for _ in range(tries):
            manifests.count_failure(tx, manifest_id, "truncated")
        tried = update(t.manifests).where(t.manifests.c.id == manifest_id)
        tx.execute(tried.values(tried_at=NOW - timedelta(minutes=minutes_ago)))


def test_what_failed_takes_half_of_a_run_where_others_wait(ledger: Ledger) -> None:
    """Refused manifests keep their place and half of a run; what was never tried has the rest."""
    ids, crm = planned(ledger, 12)
    refused(ledger, *ids[:6])
    assert chosen(ledger, crm, max_files=8) == [ids[0], ids[1], ids[6], ids[7]]
    assert chosen(ledger, crm, max_files=2) == [ids[0], ids[6]]
    assert chosen(ledger, crm, max_files=24) == ids
    refused(ledger, *ids[6:11])
    assert chosen(ledger, crm, max_files=8) == [ids[0], ids[1], ids[2], ids[11]]
    refused(ledger, ids[11])
    assert chosen(ledger, crm, max_files=8) == ids[:4]


def test_what_ended_its_process_comes_last(ledger: Ledger) -> None:
    """A manifest whose reader died is read after all others; of several, the one first that was tried longest ago."""
    ids, crm = planned(ledger, 4)
    with ledger.write() as tx:
        for manifest_id in ids[:2]:
            manifests.begin_reading(tx, manifest_id, "run-1")
        tx.execute(update(t.manifests).where(t.manifests.c.id == ids[0]).values(tried_at=NOW))
    assert chosen(ledger, crm, max_files=100) == [ids[2], ids[3], ids[1], ids[0]]


@pytest.mark.parametrize(("tries", "pause_minutes"), [(1, 2), (2, 4), (3, 8), (4, 16), (9, 16)])
def test_a_file_that_failed_by_itself_has_a_pause(ledger: Ledger, tries: int, pause_minutes: int) -> None:
    """Files that failed fill what a run has left, each after a pause that doubles; a few are tried in every run."""
    ids, crm = planned(ledger, 4)
    for manifest_id in ids[:3]:
        failed(ledger, manifest_id, tries=tries, minutes_ago=pause_minutes - 0.1)
    assert chosen(ledger, crm, max_files=100) == [ids[0], ids[3]]
    failed(ledger, ids[2], tries=0, minutes_ago=pause_minutes)
    assert chosen(ledger, crm, max_files=100, max_retries=1) == [ids[2], ids[3]]
    failed(ledger, ids[1], tries=0, minutes_ago=pause_minutes)
    assert chosen(ledger, crm, max_files=100, max_retries=1) == ids[1:]
    assert chosen(ledger, crm, max_files=2, max_retries=1) == [ids[1], ids[3]]
