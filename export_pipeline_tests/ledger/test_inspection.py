"""Looking at the ledger: how far subscribers and runs are, and the life of a file. On SQLite and PostgreSQL."""

from datetime import timedelta

from export_pipeline.ledger import (
    deliveries,
    history,
    inspection,
    manifests,
    owed,
    planning,
    records,
    sources,
    unreadable,
)
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.inspection import Account, RunStanding, Standing, run_standings
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.records import Run, Totals
from export_pipeline_tests.ledger.test_manifests import DAY, NOW, deliver, delivery, file, plan, read

FIRST, SECOND = ("2026/11/23/a", "2026/11/23/b"), ("2026/11/23/c", "2026/11/23/d")


def standing(ledger: Ledger, name: str = "crm") -> Standing:
    with ledger.read() as tx:
        return next(one for one in inspection.standings(tx, 1) if one.subscriber == name)


def account(ledger: Ledger) -> Account:
    with ledger.read() as tx:
        return inspection.account(tx, 1)


def test_delivered_up_to_is_the_last_file_before_the_first_owed(ledger: Ledger) -> None:
    """A subscriber has everything up to a key only where nothing before it is owed, whatever came behind it."""
    first, (crm,) = plan(ledger, *FIRST)
    second, _ = plan(ledger, *SECOND)
    for manifest_id in (first, second):
        read(ledger, manifest_id)
    assert standing(ledger).delivered_key is None
    deliver(ledger, second, crm)
    assert (standing(ledger).delivered_day, standing(ledger).delivered_key) == (None, None)
    assert standing(ledger).owed_files == 2
    deliver(ledger, first, crm)
    assert (standing(ledger).delivered_day, standing(ledger).delivered_key) == (DAY, "2026/11/23/d")
    assert (standing(ledger).owed_files, standing(ledger).oldest_arrival) == (0, None)
    with ledger.write() as tx:
        deliveries.owe_day(tx, 1, [crm], day=DAY, again=True, now=NOW)
    assert standing(ledger).delivered_key is None


def test_an_earlier_day_comes_first_whatever_its_keys(ledger: Ledger) -> None:
    """Days go before keys: a file of an earlier day that sorts later does not hide what was delivered of it."""
    manifest_id, (crm,) = plan(ledger, "zzz")
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm)
    with ledger.write(durable=True) as tx:
        later = [records.DatedFile(file("aaa"), DAY + timedelta(days=1))]
        planning.plan(
            tx,
            source_id=1,
            url="file:///bucket",
            files=later,
            subscriptions=[crm],
            limits=records.PlanLimits(10, 1_000, 100, 1 << 20),
            run=Run("run-2", NOW),
        )
    assert standing(ledger).delivered_key == "zzz"
    assert standing(ledger).owed_files == 1


def test_what_is_driven_again_is_no_file_of_the_source(ledger: Ledger) -> None:
    """Files in the quarantine that are driven again move neither the count of files nor how far a subscriber is."""
    first, (crm,) = plan(ledger, *FIRST)
    read(ledger, first)
    deliver(ledger, first, crm)
    again = file("retries/2026-11-23/x.ndjson")
    with ledger.write(durable=True) as tx:
        manifests.add(
            tx,
            "again",
            [again],
            source_id=1,
            day=DAY,
            max_events=10,
            max_bytes=1_000,
            run=Run("retry", NOW),
            origin=manifests.QUARANTINE,
        )
        planning.add_files(tx, "again", [again], source_id=1, day=DAY, now=NOW)
        deliveries.owe(tx, "again", [crm.id], day=DAY, first_key=again.key, now=NOW)
    assert standing(ledger).delivered_key == "2026/11/23/b"
    assert (standing(ledger).owed_files, account(ledger).files) == (1, 2)


def test_the_account_of_a_source(ledger: Ledger) -> None:
    """Files and events are counted by what happened to them; another source's are not."""
    manifest_id, (crm,) = plan(ledger, *FIRST)
    waiting, _ = plan(ledger, *SECOND)
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm)
    with ledger.write(durable=True) as tx:
        manifests.count_failure(tx, waiting, "truncated")
        ignored = [records.DatedFile(file("2026/11/23/a", "e2"), DAY)]
        planning.note_ignored(tx, source_id=1, files=ignored, note="ignored", now=NOW)
        sources.set_more_to_list(tx, 1, True)
    assert account(ledger) == Account(
        files=5,
        ignored_files=1,
        unread_files=2,
        unreadable_files=2,
        given_up_files=0,
        events_framed=6,
        events_batched=5,
        events_quarantined=1,
        refused_events=1,
        more_to_list=True,
    )
    with ledger.write(durable=True) as tx:
        unreadable.give_up(tx, waiting, "truncated")
        assert inspection.account(tx, 2) == inspection.NOTHING
    assert (account(ledger).unread_files, account(ledger).given_up_files) == (0, 2)
    assert standing(ledger).given_up_files == 2


def test_removed_subscribers_are_shown_while_they_are_owed_something(ledger: Ledger) -> None:
    """A subscriber that is no longer configured stays in the report until nothing is owed to it."""
    manifest_id, (crm, dwh) = plan(ledger, *FIRST, names=("crm", "dwh"))
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm)
    plan(ledger, "2026/11/23/z", names=("other",))
    with ledger.read() as tx:
        found = {one.subscriber: one.is_active for one in inspection.standings(tx, 1)}
    assert found == {"dwh": False, "other": True}
    assert dwh.name == "dwh"


def test_progress_follows_accepted_batches(ledger: Ledger) -> None:
    """A run's progress counts bytes by accepted batches, and files of manifests that are done, for each subscriber."""
    manifest_id, subscribers = plan(ledger, *FIRST, names=("crm", "dwh"))
    crm, dwh = subscribers
    with ledger.write() as tx:
        owed.assign(tx, [OwedManifest(manifest_id, DAY, FIRST[0], 2, 20, ("crm", "dwh"))], subscribers, "run-9")
    nothing = RunStanding(0, 20, 0, 2, 0)
    with ledger.read() as tx:
        assert run_standings(tx, "run-9") == {"crm": nothing, "dwh": nothing}
        assert run_standings(tx, "another") == {}
    read(ledger, manifest_id)
    with ledger.write() as tx:
        deliveries.accept(tx, delivery(ledger, manifest_id, crm), 0, Totals(2, 1, 0), now=NOW)
    deliver(ledger, manifest_id, dwh, run_id="run-9")
    with ledger.read() as tx:
        found = run_standings(tx, "run-9")
    assert found == {"crm": RunStanding(10, 20, 0, 2, 3), "dwh": RunStanding(20, 20, 2, 2, 5)}
    assert sum(found.values(), RunStanding()) == RunStanding(30, 40, 2, 4, 8)


def test_the_life_of_a_file(ledger: Ledger) -> None:
    """A file's life names its manifest, the batches that hold its events, and every delivery with its run."""
    manifest_id, (crm, _) = plan(ledger, *FIRST, names=("crm", "dwh"))
    read(ledger, manifest_id)
    deliver(ledger, manifest_id, crm, run_id="run-5")
    with ledger.read() as tx:
        (one,) = history.lives(tx, 1, [FIRST[0]])
        (other,) = history.lives(tx, 1, ["nowhere", FIRST[1]])
        assert history.lives(tx, 2, [FIRST[0]]) == []
    assert one.manifest is not None
    assert other.manifest is not None
    assert one.manifest.batches_with_file == (0,)
    assert other.manifest.batches_with_file == (0, 1)
    assert (one.manifest.id, one.manifest.planned_by_run, one.manifest.state) == (manifest_id, "run-1", manifests.READ)
    delivered, waiting = one.deliveries
    assert (delivered.subscriber, delivered.state, delivered.run_id, delivered.accepted_batches) == (
        "crm",
        deliveries.DELIVERED,
        "run-5",
        2,
    )
    assert (waiting.subscriber, waiting.state, waiting.delivered_at, waiting.accepted_batches) == (
        "dwh",
        deliveries.OWED,
        None,
        0,
    )


def test_a_key_with_two_contents_has_two_lives(ledger: Ledger) -> None:
    """Each content of a key has a separate history, the latest last."""
    plan(ledger, *FIRST)
    with ledger.write(durable=True) as tx:
        again = [records.DatedFile(file(FIRST[0], "e2"), DAY)]
        planning.note_ignored(tx, source_id=1, files=again, note="known key", now=NOW + timedelta(hours=1))
        lives = history.lives(tx, 1, [FIRST[0]])
    assert [(life.file.etag, life.note, life.manifest is None) for life in lives] == [
        ("e1", None, False),
        ("e2", "known key", True),
    ]
