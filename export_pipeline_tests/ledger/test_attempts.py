"""Failed attempts to read a manifest, and what was read since. On SQLite and PostgreSQL."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from export_pipeline.ledger import attempts, readings
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline_tests.ledger.test_manifests import NOW, READING, deliver, delivery, get, plan, read

MINUTE = timedelta(minutes=1)


def others_read(ledger: Ledger, identity: str, *, began: datetime) -> bool:
    with ledger.read() as tx:
        return attempts.others_read(tx, identity, began=began)


def test_what_was_read_before_the_latest_attempt_proves_nothing(ledger: Ledger) -> None:
    """Only a manifest read since the latest noted attempt at another proves that the store could be reached."""
    first, _ = plan(ledger, "2026/11/23/a")
    second, _ = plan(ledger, "2026/11/23/b")
    read(ledger, second)
    assert not others_read(ledger, first, began=NOW + MINUTE)
    assert others_read(ledger, first, began=NOW - MINUTE)
    with ledger.write() as tx:
        attempts.note(tx, [first], began=NOW - MINUTE)
    assert others_read(ledger, first, began=NOW + MINUTE)
    with ledger.write() as tx:
        attempts.note(tx, [first], began=NOW + MINUTE)
    assert not others_read(ledger, first, began=NOW + 2 * MINUTE)


def test_a_manifest_is_no_proof_for_itself(ledger: Ledger) -> None:
    """That a manifest was read earlier does not tell that others can be read."""
    identity, _ = plan(ledger, "2026/11/23/a")
    read(ledger, identity)
    assert not others_read(ledger, identity, began=NOW - MINUTE)


@pytest.mark.parametrize("origin", [t.QUARANTINE, t.REFUSED])
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


def test_what_is_still_owed_is_given_up_and_owed_again(ledger: Ledger) -> None:
    """Only what is owed of a read manifest is given up; reopening it owes just that again, with all tries left."""
    identity, (crm, dwh) = plan(ledger, "2026/11/23/a", "2026/11/23/b", names=("crm", "dwh"))
    read(ledger, identity)
    deliver(ledger, identity, crm)
    with ledger.write() as tx:
        readings.count_failure(tx, identity, "gone")
        assert attempts.owed_to(tx, identity) == [dwh.id]
        attempts.give_up_owed(tx, identity, "gone")
        assert attempts.owed_to(tx, identity) == []
    assert [delivery(ledger, identity, one).state for one in (crm, dwh)] == [t.DELIVERED, t.GIVEN_UP]
    assert (get(ledger, identity).state, get(ledger, identity).read_attempts) == (t.READ, 0)
    with ledger.write() as tx:
        readings.reopen(tx, identity)
    assert [delivery(ledger, identity, one).state for one in (crm, dwh)] == [t.DELIVERED, t.OWED]
    read(ledger, identity, READING)
    assert get(ledger, identity).read_attempts == 0
