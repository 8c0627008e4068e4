"""A manifest's state never changes while a subscriber can be added to it, whatever other transactions see."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from export_pipeline.ledger import deliveries, manifests, parts, subscriptions, unreadable
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Run
from export_pipeline_tests.ledger.test_manifests import DAY, NOW, URL, deliver, get, plan, read

KEYS = ("2026/11/23/a", "2026/11/23/b")


def isolate(tx: Connection, manifest_id: str) -> None:
    found = manifests.get(tx, manifest_id)
    unreadable.isolate(tx, found, {KEYS[1]: "truncated"}, url=URL, run=Run("run-1", NOW))


def divide(tx: Connection, manifest_id: str) -> None:
    found = manifests.get(tx, manifest_id)
    unreadable.divide(tx, found, [[file] for file in found.files], url=URL, run=Run("run-1", NOW))


def give_up(tx: Connection, manifest_id: str) -> None:
    unreadable.give_up(tx, manifest_id, "truncated")


def register(tx: Connection) -> None:
    subscriptions.register(tx, 1, {"crm": None, "late": "beginning"}, start_from="beginning", now=NOW)


def backfill(tx: Connection) -> None:
    late = next(one for one in subscriptions.active(tx, 1) if one.name == "late")
    deliveries.owe_day(tx, 1, [late], day=DAY, again=False, now=NOW)


def waits_for_a_lock(ledger: Ledger) -> bool:
    with ledger.read() as tx:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(tx.execute(text(waiting)).scalar())


@pytest.mark.parametrize("end", [isolate, divide, give_up])
@pytest.mark.parametrize("add", [register, backfill])
def test_who_comes_while_a_manifest_ends_is_owed_what_takes_its_place(
    new_postgres: str, end: Callable[[Connection, str], None], add: Callable[[Connection], None]
) -> None:
    """On PostgreSQL a newcomer waits for a transaction that ends a manifest, and is then owed living ones alone."""
    ledger = Ledger(new_postgres)
    manifest_id, _ = plan(ledger, *KEYS)
    if add is backfill:
        with ledger.write() as tx:
            wanted: dict[str, str | None] = {"crm": None, "late": "2027-01-01"}
            subscriptions.register(tx, 1, wanted, start_from="beginning", now=NOW)

    def other() -> None:
        with ledger.write() as tx:
            add(tx)

    newcomer = threading.Thread(target=other)
    with ledger.write() as tx:
        end(tx, manifest_id)
        newcomer.start()
        while newcomer.is_alive() and not waits_for_a_lock(ledger):
            pass
        assert newcomer.is_alive()
    newcomer.join()
    with ledger.read() as tx:
        rows = tx.execute(
            text(
                "SELECT m.state, count(*) FROM deliveries d JOIN manifests m ON m.id = d.manifest_id "
                "JOIN subscriptions s ON s.id = d.subscription_id WHERE s.name = 'late' GROUP BY m.state"
            )
        )
        owed = {row[0]: row[1] for row in rows}
    assert owed == ({} if end is give_up else {"planned": 2})
    ledger.close()


def test_a_part_is_owed_to_nobody_else(ledger: Ledger) -> None:
    """No newcomer is owed a part, but the whole; a backfill owes again what was given up of it."""
    manifest_id, (crm, dwh) = plan(ledger, *KEYS, names=("crm", "dwh"))
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm)
    with ledger.write() as tx:
        found = manifests.get(tx, manifest_id)
        given = unreadable.shares(tx, found, {KEYS[1]}, [dwh.id])
        (sound,) = unreadable.split(tx, found, given, {KEYS[1]: "gone"}, reason="gone", run=Run("run-2", NOW))
        (lost,) = unreadable.lost_parts(found, given)
    assert (get(ledger, sound).state, get(ledger, lost).state) == (manifests.PLANNED, manifests.GIVEN_UP)
    assert [file.key for file in get(ledger, sound).files] == [KEYS[0]]
    with ledger.write() as tx:
        wanted: dict[str, str | None] = {"crm": None, "dwh": None, "late": "beginning"}
        late = subscriptions.register(tx, 1, wanted, start_from="beginning", now=NOW).subscriptions[2]
        for one in (sound, lost):
            assert deliveries.delivery(tx, one, late) is None
            assert deliveries.delivery(tx, one, crm) is None
        assert deliveries.owe_day(tx, 1, [crm, dwh, late], day=DAY, again=False, now=NOW) == (0, 1)
        states = {name: deliveries.delivery(tx, lost, one) for name, one in (("dwh", dwh), ("late", late))}
        assert states["late"] is None
        assert states["dwh"] is not None
        assert states["dwh"].state == deliveries.OWED
        # All of the day once more: dwh gets its parts again, and never the whole under other ids.
        assert deliveries.owe_day(tx, 1, [dwh], day=DAY, again=True, now=NOW) == (0, 0)
        whole = deliveries.delivery(tx, manifest_id, dwh)
        assert whole is not None
        assert whole.state == deliveries.SPLIT
    assert get(ledger, lost).state == manifests.PLANNED
    with ledger.read() as tx:
        assert parts.delivery_states(tx, manifest_id, KEYS[1]) == {dwh.id: deliveries.OWED}
