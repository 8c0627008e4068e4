"""Failed attempts to read a manifest, and what was read since. On SQLite and PostgreSQL."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from export_pipeline.ledger import manifests, unreadable
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline_tests.ledger.test_manifests import NOW, plan, read

MINUTE = timedelta(minutes=1)


def others_read(ledger: Ledger, manifest_id: str, *, began: datetime) -> bool:
    with ledger.read() as tx:
        return unreadable.others_read(tx, manifest_id, began=began)


def test_what_was_read_before_the_latest_attempt_proves_nothing(ledger: Ledger) -> None:
    """Only a manifest read since the latest noted attempt at another proves that the store could be reached."""
    first, _ = plan(ledger, "2026/11/23/a")
    second, _ = plan(ledger, "2026/11/23/b")
    read(ledger, second)
    assert not others_read(ledger, first, began=NOW + MINUTE)
    assert others_read(ledger, first, began=NOW - MINUTE)
    with ledger.write() as tx:
        unreadable.note_attempts(tx, [first], began=NOW - MINUTE)
    assert others_read(ledger, first, began=NOW + MINUTE)
    with ledger.write() as tx:
        unreadable.note_attempts(tx, [first], began=NOW + MINUTE)
    assert not others_read(ledger, first, began=NOW + 2 * MINUTE)


def test_a_manifest_is_no_proof_for_itself(ledger: Ledger) -> None:
    """That a manifest was read earlier does not tell that others can be read."""
    manifest_id, _ = plan(ledger, "2026/11/23/a")
    read(ledger, manifest_id)
    assert not others_read(ledger, manifest_id, began=NOW - MINUTE)


@pytest.mark.parametrize("origin", [manifests.QUARANTINE, manifests.REFUSED])
def test_the_quarantine_is_no_proof_for_the_source(ledger: Ledger, origin: str) -> None:
    """What is driven again is read from the quarantine, and tells nothing of the source, nor the other way round."""
    first, _ = plan(ledger, "2026/11/23/a")
    second, _ = plan(ledger, "2026/11/23/b")
    with ledger.write() as tx:
        tx.execute(update(t.manifests).where(t.manifests.c.id == second).values(origin=origin))
    read(ledger, first)
    read(ledger, second)
    assert not others_read(ledger, first, began=NOW - MINUTE)
    assert not others_read(ledger, second, began=NOW - MINUTE)
