"""The life of a manifest in the ledger: planned, read, delivered; or set apart and given up."""

from datetime import date, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, update

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import (
    balance,
    deliveries,
    known,
    manifests,
    owed,
    planning,
    sources,
    subscriptions,
    unreadable,
)
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.records import DatedFile, LedgerBatch, PlanLimits, ReadingResult, Run, Subscription, Totals
from export_pipeline.source.file import SourceFile

URL = "file:///bucket"
NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
DAY = date(2026, 11, 23)
LIMITS = PlanLimits(max_events=10, max_bytes=1_000, manifest_max_files=100, manifest_max_bytes=1 << 20)
READING = ReadingResult(
    batches=(LedgerBatch(0, 3, 30, 1, (0, 1)), LedgerBatch(1, 2, 20, 2, (1,))),
    bytes_unpacked=60,
    events_framed=6,
    events_quarantined=1,
)


def file(key: str, etag: str = "e1") -> SourceFile:
    return SourceFile(key=key, etag=etag, size_bytes=10, last_modified=NOW - timedelta(minutes=5))


def plan(ledger: Ledger, *keys: str, names: tuple[str, ...] = ("crm",)) -> tuple[str, tuple[Subscription, ...]]:
    """One manifest of *keys*, owed to *names*."""
    with ledger.write(durable=True) as tx:
        source = sources.add_source(tx, URL)
        found = subscriptions.register(tx, source, dict.fromkeys(names), start_from="beginning", now=NOW).subscriptions
        ids = planning.plan(
            tx,
            source_id=source,
            url=URL,
            files=[DatedFile(file(key), DAY) for key in keys],
            subscriptions=found,
            limits=LIMITS,
            run=Run("run-1", NOW),
        )
    return ids[0], found


def get(ledger: Ledger, manifest_id: str) -> Manifest:
    with ledger.read() as tx:
        return manifests.get(tx, manifest_id)


def read(ledger: Ledger, manifest_id: str, reading: ReadingResult = READING) -> None:
    with ledger.write() as tx:
        manifests.record_reading(tx, manifests.get(tx, manifest_id), reading, now=NOW)


def delivery(ledger: Ledger, manifest_id: str, subscription: Subscription) -> deliveries.Delivery:
    with ledger.read() as tx:
        found = deliveries.delivery(tx, manifest_id, subscription)
    assert found is not None
    return found


def deliver(ledger: Ledger, manifest_id: str, subscription: Subscription, *, run_id: str = "run-1") -> Totals:
    with ledger.write() as tx:
        found = deliveries.delivery(tx, manifest_id, subscription)
        assert found is not None
        deliveries.accept(tx, found, 0, Totals(2, 1, 0), now=NOW)
        deliveries.accept(tx, found, 1, Totals(1, 0, 1), now=NOW)
        return deliveries.commit(tx, found, run_id=run_id, now=NOW)[0]


def test_the_same_files_and_limits_give_the_same_id() -> None:
    """A manifest's id depends on source, keys, etags and cutting limits, and on nothing else."""
    first = manifests.manifest_id_of(URL, [file("a"), file("b")], max_events=1, max_bytes=2)
    assert first == manifests.manifest_id_of(URL, [file("a"), file("b")], max_events=1, max_bytes=2)
    others = [
        manifests.manifest_id_of("file:///other", [file("a"), file("b")], max_events=1, max_bytes=2),
        manifests.manifest_id_of(URL, [file("b"), file("a")], max_events=1, max_bytes=2),
        manifests.manifest_id_of(URL, [file("a"), file("b", "e2")], max_events=1, max_bytes=2),
        manifests.manifest_id_of(URL, [file("a"), file("b")], max_events=2, max_bytes=2),
        manifests.manifest_id_of(URL, [file("a"), file("b")], max_events=1, max_bytes=3),
    ]
    assert len({first, *others}) == 6
    assert len(first) == 24


def test_files_come_back_as_they_were_planned(ledger: Ledger) -> None:
    """A manifest's files come back in UTF-8 byte order of their keys, whatever the database's own order is."""
    keys = ["2026/11/23/B", "2026/11/23/a", "2026/11/23/é", "2026/11/23/😀", "2026/11/23/￿"]
    manifest_id, _ = plan(ledger, *keys)
    expected = sorted(keys, key=lambda key: key.encode())
    assert [found.key for found in get(ledger, manifest_id).files] == expected
    with ledger.read() as tx:
        some = [DatedFile(file(key), date(2026, 11, 23)) for key in expected[1:4]]
        seen = known.between(tx, 1, some)
    assert seen.manifests == dict.fromkeys(((key, file(key).etag) for key in expected[1:4]), manifest_id)
    assert get(ledger, manifest_id).files[0] == file(expected[0])


def test_a_file_cannot_be_planned_twice(ledger: Ledger) -> None:
    """Planning a file version that is known already fails as a whole and leaves the ledger as it was."""
    manifest_id, _ = plan(ledger, "2026/11/23/a")
    with pytest.raises(Exception, match=r"(?i)unique"):
        plan(ledger, "2026/11/23/a")
    assert get(ledger, manifest_id).state == manifests.PLANNED


def test_numbers_that_do_not_add_up_are_refused(ledger: Ledger) -> None:
    """A reading whose events framed differ from those batched and quarantined is not kept."""
    manifest_id, _ = plan(ledger, "2026/11/23/a")
    with pytest.raises(LedgerError, match="7 events were framed, but 5 are in batches and 1 in the quarantine"):
        read(ledger, manifest_id, ReadingResult(READING.batches, 60, 7, 1))
    assert get(ledger, manifest_id).state == manifests.PLANNED


def test_a_reading_of_what_was_divided_meanwhile_is_not_kept(ledger: Ledger) -> None:
    """Who lost its claim, and reads on, brings no manifest back to life in whose place others have come."""
    manifest_id, _ = plan(ledger, "2026/11/23/a", "2026/11/23/b")
    found = get(ledger, manifest_id)
    with ledger.write() as tx:
        unreadable.divide(tx, found, [[one] for one in found.files], url=URL, run=Run("run-2", NOW))
    with pytest.raises(LedgerError, match="was planned when it was read, but no longer is"), ledger.write() as tx:
        manifests.record_reading(tx, found, READING, now=NOW)
    assert get(ledger, manifest_id).state == manifests.SUPERSEDED


def test_a_second_reading_must_be_the_same(ledger: Ledger) -> None:
    """Reading again what was read before is fine with the same bytes, and an error with others."""
    manifest_id, _ = plan(ledger, "2026/11/23/a", "2026/11/23/b")
    read(ledger, manifest_id)
    read(ledger, manifest_id)
    other = (READING.batches[0], LedgerBatch(1, 2, 20, 99, (1,)))
    with pytest.raises(LedgerError, match="from batch 1 on"):
        read(ledger, manifest_id, ReadingResult(other, 60, 6, 1))


def test_a_delivery_is_closed_with_its_sums(ledger: Ledger) -> None:
    """Accepted, refused and filtered events of all batches are summed up, and must be the events batched."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a", "2026/11/23/b")
    read(ledger, manifest_id)
    assert deliver(ledger, manifest_id, crm) == Totals(3, 1, 1)
    assert delivery(ledger, manifest_id, crm).state == deliveries.DELIVERED
    with ledger.read() as tx:
        assert owed.nobody_waits(tx, manifest_id)
        assert balance.imbalances(tx, 1) == []


def test_a_commit_closes_only_the_round_that_it_delivered(ledger: Ledger) -> None:
    """A replay that is asked for while a delivery is under way stays owed when that delivery ends, or fails."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a", "2026/11/23/b")
    read(ledger, manifest_id)
    under_way = delivery(ledger, manifest_id, crm)
    with ledger.write() as tx:
        deliveries.accept(tx, under_way, 0, Totals(2, 1, 0), now=NOW)
        assert deliveries.owe_day(tx, 1, [crm], day=date(2026, 11, 23), again=True, now=NOW) == (0, 1)
        deliveries.fail(tx, under_way, reason="503", run_id="run-1", now=NOW)
        deliveries.accept(tx, under_way, 1, Totals(1, 0, 1), now=NOW)
        totals, is_closed = deliveries.commit(tx, under_way, run_id="run-1", now=NOW)
    assert (totals, is_closed) == (Totals(3, 1, 1), False)
    replay = delivery(ledger, manifest_id, crm)
    assert (replay.state, replay.round) == (deliveries.OWED, 2)
    assert (replay.attempts, replay.accepted_batches) == (0, frozenset())
    assert deliver(ledger, manifest_id, crm) == Totals(3, 1, 1)
    assert delivery(ledger, manifest_id, crm).state == deliveries.DELIVERED


def test_a_delivery_that_does_not_add_up_stays_owed(ledger: Ledger) -> None:
    """A delivery of which a batch is missing is not closed."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a", "2026/11/23/b")
    read(ledger, manifest_id)

    def half() -> None:
        with ledger.write() as tx:
            found = deliveries.delivery(tx, manifest_id, crm)
            assert found is not None
            deliveries.accept(tx, found, 0, Totals(3, 0, 0), now=NOW)
            deliveries.commit(tx, found, run_id="run-1", now=NOW)

    with pytest.raises(LedgerError, match="5 events are in its batches, but 3 were accepted"):
        half()
    assert delivery(ledger, manifest_id, crm).state == deliveries.OWED


def test_a_batch_is_recorded_once(ledger: Ledger) -> None:
    """The acceptance of a batch cannot be recorded twice in one round."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a")
    read(ledger, manifest_id)
    found = delivery(ledger, manifest_id, crm)
    with ledger.write() as tx:
        deliveries.accept(tx, found, 0, Totals(3, 0, 0), now=NOW)

    def again() -> None:
        with ledger.write() as tx:
            deliveries.accept(tx, found, 0, Totals(3, 0, 0), now=NOW)

    with pytest.raises(Exception, match=r"(?i)unique"):
        again()
    assert delivery(ledger, manifest_id, crm).accepted_batches == {0}


def test_imbalances_are_found_wherever_they_come_from(ledger: Ledger) -> None:
    """Numbers that were changed behind the ledger's back are named by manifest and subscriber."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a")
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm)
    with ledger.write() as tx:
        tx.execute(update(t.manifests).values(events_quarantined=5))
        tx.execute(update(t.deliveries).values(accepted=0))
    with ledger.read() as tx:
        sentences = balance.imbalances(tx, 1, day=DAY)
        assert balance.imbalances(tx, 1, day=DAY - timedelta(days=1)) == []
    assert len(sentences) == 2
    assert all(manifest_id in sentence for sentence in sentences)
    assert "to crm" in sentences[1]


def test_a_failure_is_remembered_until_the_next_success(ledger: Ledger) -> None:
    """A failed attempt leaves its reason with the delivery and the subscriber, for the run in which it failed."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a")
    read(ledger, manifest_id)
    with ledger.write() as tx:
        deliveries.fail(tx, delivery(ledger, manifest_id, crm), reason="503", run_id="run-7", now=NOW)
    with ledger.read() as tx:
        assert subscriptions.failed_in_run(tx, crm, "run-7") == "503"
        assert subscriptions.failed_in_run(tx, crm, "run-8") is None
        assert owed.waiting(tx, 1, [crm])[0].failing
    deliver(ledger, manifest_id, crm)
    with ledger.read() as tx:
        assert subscriptions.failed_in_run(tx, crm, "run-7") is None
        waiting = owed.waiting(tx, 1, [crm])[0]
    assert (waiting.failing, waiting.files, waiting.oldest_arrival) == (False, 0, None)


def test_waiting_tells_files_and_age(ledger: Ledger) -> None:
    """What waits for a subscriber is counted in files, with the arrival of the oldest."""
    _, (crm,) = plan(ledger, "2026/11/23/a", "2026/11/23/b")
    with ledger.read() as tx:
        waiting = owed.waiting(tx, 1, [crm])[0]
    assert (waiting.manifests, waiting.files, waiting.oldest_arrival) == (1, 2, NOW - timedelta(minutes=5))


def test_unreadable_files_are_set_apart(ledger: Ledger) -> None:
    """Without its unreadable file a manifest continues under a new id; the file waits in a separate manifest."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a", "2026/11/23/b", "2026/11/23/c")
    with ledger.write() as tx:
        chosen = owed.choose(tx, [crm], max_files=10, max_retries=1)
        owed.assign(tx, chosen, [crm], "run-1")
        rest = unreadable.isolate(
            tx, manifests.get(tx, manifest_id), {"2026/11/23/b": "truncated"}, url=URL, run=Run("run-1", NOW)
        )
    assert rest is not None
    assert [found.key for found in get(ledger, manifest_id).files] == ["2026/11/23/a", "2026/11/23/c"]
    assert get(ledger, manifest_id).id == rest
    with ledger.read() as tx:
        assert owed.assigned(tx, rest, ["run-1"]) == ["crm"]
        healthy = owed.choose(tx, [crm], max_files=10, max_retries=0)
        with_retries = owed.choose(tx, [crm], max_files=10, max_retries=5)
    assert [one.first_key for one in healthy] == ["2026/11/23/a"]
    assert [one.first_key for one in with_retries] == ["2026/11/23/a", "2026/11/23/b"]
    assert get(ledger, with_retries[1].id).read_attempts == 1


def test_a_manifest_of_which_a_batch_was_accepted_may_not_change(ledger: Ledger) -> None:
    """Once a subscriber has accepted a batch, no file can be set apart any more."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a", "2026/11/23/b")
    read(ledger, manifest_id)
    with ledger.write() as tx:
        assert deliveries.is_untouched(tx, manifest_id)
        deliveries.accept(tx, delivery(ledger, manifest_id, crm), 0, Totals(3, 0, 0), now=NOW)
        assert not deliveries.is_untouched(tx, manifest_id)


def test_a_given_up_file_is_owed_to_nobody_until_it_is_reopened(ledger: Ledger) -> None:
    """A file that was given up is no longer chosen; reopening owes it again, with its tries forgotten."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a")
    with ledger.write() as tx:
        assert manifests.count_failure(tx, manifest_id, "truncated") == 1
        unreadable.give_up(tx, manifest_id, "truncated")
        assert owed.choose(tx, [crm], max_files=10, max_retries=10) == []
        unreadable.reopen(tx, manifest_id)
        assert [one.id for one in owed.choose(tx, [crm], max_files=10, max_retries=0)] == [manifest_id]


def test_a_replay_is_a_new_round(ledger: Ledger) -> None:
    """A day asked for again is owed again, with no batch accepted yet; the earlier acceptances are kept."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a")
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm)
    with ledger.write() as tx:
        assert deliveries.owe_day(tx, 1, [crm], day=DAY, again=False, now=NOW) == (0, 0)
        assert deliveries.owe_day(tx, 1, [crm], day=DAY, again=True, now=NOW) == (0, 1)
        assert [one.id for one in owed.choose_among(tx, [crm], source_id=1, day=DAY)] == [manifest_id]
    found = delivery(ledger, manifest_id, crm)
    assert (found.state, found.round, found.accepted_batches) == (deliveries.OWED, 2, frozenset())
    deliver(ledger, manifest_id, crm)
    with ledger.read() as tx:
        assert len(tx.execute(select(t.acceptances)).all()) == 4


def test_a_backfill_owes_what_a_subscriber_was_never_owed(ledger: Ledger) -> None:
    """A day can be owed to a subscriber that started after it."""
    manifest_id, _ = plan(ledger, "2026/11/23/a")
    with ledger.write() as tx:
        later = subscriptions.register(tx, 1, {"crm": None, "dwh": None}, start_from="beginning", now=NOW)
        dwh = later.subscriptions[1]
        assert deliveries.delivery(tx, manifest_id, dwh) is None
        assert deliveries.owe_day(tx, 1, [dwh], day=DAY, again=False, now=NOW) == (1, 0)
        assert [one.subscribers for one in owed.choose_among(tx, [dwh], source_id=1, day=DAY)] == [("dwh",)]


def test_the_oldest_arrival_is_not_that_of_the_first_key(ledger: Ledger) -> None:
    """A file that came late to an early day does not hide one that has been waiting for longer."""
    plan(ledger, "2026/11/23/b")
    later = NOW + timedelta(hours=16)
    with ledger.write(durable=True) as tx:
        subs = subscriptions.active(tx, 1)
        late = file("2026/11/22/late")._replace(last_modified=later)
        planning.plan(
            tx,
            source_id=1,
            url=URL,
            files=[DatedFile(late, date(2026, 11, 22))],
            subscriptions=subs,
            limits=LIMITS,
            run=Run("run-2", later),
        )
    with ledger.read() as tx:
        waiting = owed.waiting(tx, 1, subs)[0]
    assert (waiting.files, waiting.oldest_arrival) == (2, NOW - timedelta(minutes=5))
