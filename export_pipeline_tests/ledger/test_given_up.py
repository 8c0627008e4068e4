"""What was given up and comes back, and what may no longer change. On SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import balance, deliveries, folding, manifests, subscriptions, unreadable
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import ReadingResult, Subscription, Totals
from export_pipeline_tests.ledger.test_manifests import (
    DAY,
    NOW,
    READING,
    URL,
    deliver,
    delivery,
    file,
    get,
    plan,
    read,
)

KEY = "2026/11/23/a"


def register(ledger: Ledger, **wanted: str | None) -> dict[str, Subscription]:
    with ledger.write() as tx:
        found = subscriptions.register(tx, 1, wanted, start_from="beginning", now=NOW)
    return {one.name: one for one in found.subscriptions}


def give_up(ledger: Ledger, manifest_id: str) -> None:
    with ledger.write() as tx:
        unreadable.give_up(tx, manifest_id, "truncated")


def reopen(ledger: Ledger, manifest_id: str) -> None:
    with ledger.write() as tx:
        unreadable.reopen(tx, manifest_id)


def state(ledger: Ledger, manifest_id: str, subscription: Subscription) -> str | None:
    with ledger.read() as tx:
        found = deliveries.delivery(tx, manifest_id, subscription)
    return found.state if found else None


def may_change(ledger: Ledger, manifest_id: str) -> bool:
    with ledger.read() as tx:
        return deliveries.is_untouched(tx, manifest_id)


def fold_and_unfold(ledger: Ledger, manifest_id: str) -> None:
    """What a replay of a folded day does before it reads."""
    with ledger.write() as tx:
        assert folding.fold(tx, 1, before=DAY + timedelta(days=1), most=10, now=NOW) == 1
        folding.unfold(tx, manifest_id, [file(KEY)], url=URL, now=NOW)


def test_a_reopened_file_is_owed_to_who_was_added_meanwhile(ledger: Ledger) -> None:
    """A file that is retried is owed to a subscriber added since it was given up, if its start includes it."""
    manifest_id, _ = plan(ledger, KEY)
    give_up(ledger, manifest_id)
    known = register(ledger, crm=None, dwh="beginning", late="now", later="2026-11-24")
    assert [state(ledger, manifest_id, one) for one in known.values()] == [deliveries.GIVEN_UP, None, None, None]
    reopen(ledger, manifest_id)
    assert [state(ledger, manifest_id, one) for one in known.values()] == [deliveries.OWED, deliveries.OWED, None, None]


def test_a_reopened_file_is_owed_to_who_was_put_back(ledger: Ledger) -> None:
    """A subscriber that was removed when a file came and was given up is owed it when the file is retried."""
    plan(ledger, "2026/11/23/0", names=("crm", "dwh"))
    register(ledger, crm=None)
    manifest_id, _ = plan(ledger, KEY)
    give_up(ledger, manifest_id)
    dwh = register(ledger, crm=None, dwh=None)["dwh"]
    reopen(ledger, manifest_id)
    assert state(ledger, manifest_id, dwh) == deliveries.OWED


def test_reopening_what_was_not_given_up_changes_nothing(ledger: Ledger) -> None:
    """What is asked for twice keeps the tries that it has had since."""
    manifest_id, _ = plan(ledger, KEY)
    give_up(ledger, manifest_id)
    reopen(ledger, manifest_id)
    with ledger.write() as tx:
        manifests.count_failure(tx, manifest_id, "truncated")
    reopen(ledger, manifest_id)
    assert (get(ledger, manifest_id).state, get(ledger, manifest_id).read_attempts) == (manifests.PLANNED, 1)


def test_what_was_read_before_it_was_given_up_can_be_read_again(ledger: Ledger) -> None:
    """A file that was delivered, then given up for another subscriber, comes to that one in the batches of before."""
    manifest_id, (crm,) = plan(ledger, KEY)
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm)
    dwh = register(ledger, crm=None, dwh="beginning")["dwh"]
    give_up(ledger, manifest_id)
    reopen(ledger, manifest_id)
    assert (get(ledger, manifest_id).state, state(ledger, manifest_id, crm)) == (manifests.READ, deliveries.DELIVERED)
    other = replace(READING, batches=(READING.batches[1], READING.batches[0]))
    with pytest.raises(LedgerError, match="second reading differs"):
        read(ledger, manifest_id, other)
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, dwh)
    with ledger.read() as tx:
        assert balance.imbalances(tx, 1) == []


def test_a_second_reading_that_succeeds_forgets_those_that_failed(ledger: Ledger) -> None:
    """A manifest that was read long ago and could not be for a while is no longer told as unreadable."""
    manifest_id, _ = plan(ledger, KEY)
    read(ledger, manifest_id)
    with ledger.write() as tx:
        manifests.count_failure(tx, manifest_id, "403")
    read(ledger, manifest_id)
    assert get(ledger, manifest_id).read_attempts == 0


def test_a_folded_manifest_that_was_delivered_may_not_change(ledger: Ledger) -> None:
    """Folding takes a delivered manifest's acceptances, not the promise that its batches stay as they are."""
    manifest_id, (crm,) = plan(ledger, KEY)
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm)
    fold_and_unfold(ledger, manifest_id)
    assert not may_change(ledger, manifest_id)
    with ledger.write() as tx:
        assert deliveries.owe_day(tx, 1, [crm], day=DAY, again=True, now=NOW) == (0, 1)
    assert (delivery(ledger, manifest_id, crm).state, delivery(ledger, manifest_id, crm).round) == (deliveries.OWED, 2)
    assert not may_change(ledger, manifest_id)


def test_a_folded_manifest_that_nobody_got_may_change(ledger: Ledger) -> None:
    """Of a manifest that was folded because it is before every start, unreadable files can still be isolated."""
    manifest_id, (crm,) = plan(ledger, KEY)
    register(ledger, crm="2026-11-24")
    assert state(ledger, manifest_id, crm) == deliveries.WAIVED
    fold_and_unfold(ledger, manifest_id)
    assert may_change(ledger, manifest_id)


def test_a_manifest_without_events_may_not_change_once_it_is_done(ledger: Ledger) -> None:
    """Who was done with a manifest of no batches stays done with it."""
    manifest_id, (crm,) = plan(ledger, KEY)
    read(ledger, manifest_id, ReadingResult(batches=(), bytes_unpacked=0, events_framed=0, events_quarantined=0))
    assert may_change(ledger, manifest_id)
    with ledger.write() as tx:
        assert deliveries.commit(tx, delivery(ledger, manifest_id, crm), run_id="run-1", now=NOW) == (
            Totals(0, 0, 0),
            True,
        )
    assert not may_change(ledger, manifest_id)


@pytest.mark.parametrize("again", [False, True])
def test_a_backfill_owes_what_was_given_up_of_a_living_manifest(ledger: Ledger, again: bool) -> None:
    """What was given up, since a folded manifest's files were gone, is owed again; a file in the quarantine is not."""
    folded, (crm,) = plan(ledger, KEY)
    quarantined, _ = plan(ledger, "2026/11/23/b")
    give_up(ledger, quarantined)
    with ledger.write() as tx:
        tx.execute(update(t.deliveries).values(state=deliveries.GIVEN_UP))
        assert deliveries.owe_day(tx, 1, [crm], day=DAY, again=again, now=NOW) == (0, 1)
    assert (state(ledger, folded, crm), delivery(ledger, folded, crm).round) == (deliveries.OWED, 1)
    assert state(ledger, quarantined, crm) == deliveries.GIVEN_UP


def test_everything_once_more_is_everything(ledger: Ledger) -> None:
    """`only: all` owes also those batches again that a delivery under way has behind it; `only: missing` goes on."""
    manifest_id, (crm,) = plan(ledger, KEY)
    read(ledger, manifest_id)
    with ledger.write() as tx:
        deliveries.accept(tx, delivery(ledger, manifest_id, crm), 0, Totals(2, 1, 0), now=NOW)
    for again, expected in ((False, 1), (True, 2), (True, 2)):
        with ledger.write() as tx:
            deliveries.owe_day(tx, 1, [crm], day=DAY, again=again, now=NOW)
        found = delivery(ledger, manifest_id, crm)
        assert (found.state, found.round) == ("owed", expected)
    deliver(ledger, manifest_id, crm)
    assert delivery(ledger, manifest_id, crm).state == "delivered"
