"""Deliveries: which batches a subscriber has accepted, and the moment when a manifest is done."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, insert, literal, or_, select, update

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.owing import hold_still, owe_missing
from export_pipeline.ledger.subscriptions import Subscription


@dataclass(frozen=True, slots=True)
class Delivery:
    """One manifest on its way to one subscriber.

    Attributes:
        state: owed, delivered, waived or given_up.
        round: 1, and one more for each replay.
        accepted_batches: numbers of the batches that were accepted in this round.
        attempts: how often a run has tried.
    """

    manifest_id: str
    subscription_id: int
    state: str
    round: int
    accepted_batches: frozenset[int]
    attempts: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Events of one delivery: their sum is the number of events in the manifest's batches."""

    accepted: int
    refused: int
    filtered: int


def delivery(tx: Connection, manifest: str, subscription: Subscription) -> Delivery | None:
    """The delivery of a manifest to a subscription; None where it was never owed."""
    d, a = t.deliveries.c, t.acceptances.c
    row = tx.execute(
        select(d.state, d.round, d.attempts).where(d.manifest_id == manifest, d.subscription_id == subscription.id)
    ).first()
    if row is None:
        return None
    accepted = tx.execute(
        select(a.n).where(a.manifest_id == manifest, a.subscription_id == subscription.id, a.round == row.round)
    ).scalars()
    return Delivery(manifest, subscription.id, row.state, row.round, frozenset(accepted), row.attempts)


def accept(tx: Connection, found: Delivery, n: int, totals: Totals, *, now: datetime) -> None:
    """Keep that batch *n* was accepted. Only the holder of the delivery's claim calls this."""
    tx.execute(
        insert(t.acceptances),
        {
            "manifest_id": found.manifest_id,
            "subscription_id": found.subscription_id,
            "round": found.round,
            "n": n,
            "accepted": totals.accepted,
            "refused": totals.refused,
            "filtered": totals.filtered,
            "accepted_at": now,
        },
    )


def commit(tx: Connection, found: Delivery, *, run_id: str, now: datetime) -> tuple[Totals, bool]:
    """Close the round of a delivery whose batches were all accepted, and only that one.

    Returns:
        What the round came to, and whether the delivery is closed: it is not where a replay that was asked for in the
        meantime began another round, which stays owed.

    Raises:
        LedgerError: events accepted, refused and filtered do not add up to the events in the manifest's batches.
    """
    a, d, m, s = t.acceptances.c, t.deliveries.c, t.manifests.c, t.subscriptions.c
    row = tx.execute(
        select(
            func.coalesce(func.sum(a.accepted), 0),
            func.coalesce(func.sum(a.refused), 0),
            func.coalesce(func.sum(a.filtered), 0),
        ).where(a.manifest_id == found.manifest_id, a.subscription_id == found.subscription_id, a.round == found.round)
    ).one()
    totals = Totals(int(row[0]), int(row[1]), int(row[2]))
    batched = tx.execute(select(m.events_batched).where(m.id == found.manifest_id)).scalar_one()
    if totals.accepted + totals.refused + totals.filtered != batched:
        raise LedgerError(
            f"manifest {found.manifest_id}: {batched} events are in its batches, but {totals.accepted} were accepted, "
            f"{totals.refused} refused and {totals.filtered} filtered"
        )
    closed = tx.execute(
        update(t.deliveries)
        .where(_this_round(found))
        .values(
            state=t.DELIVERED,
            delivered_at=now,
            last_run_id=run_id,
            last_error=None,
            attempts=d.attempts + 1,
            accepted=totals.accepted,
            refused=totals.refused,
            filtered=totals.filtered,
        )
    ).rowcount
    tx.execute(
        update(t.subscriptions)
        .where(s.id == found.subscription_id)
        .values(last_success_at=now, last_error=None, last_error_at=None, last_error_run_id=None, is_blocked=False)
    )
    return totals, bool(closed)


def fail(tx: Connection, found: Delivery, *, reason: str, run_id: str, now: datetime, is_blocked: bool = False) -> None:
    """Keep why an attempt at this round failed; the delivery stays owed.

    Args:
        is_blocked: later runs will fail too, until a person changes something.
    """
    d, s = t.deliveries.c, t.subscriptions.c
    tx.execute(
        update(t.deliveries)
        .where(_this_round(found))
        .values(last_run_id=run_id, last_error=reason, attempts=d.attempts + 1)
    )
    tx.execute(
        update(t.subscriptions)
        .where(s.id == found.subscription_id)
        .values(last_error=reason, last_error_at=now, last_error_run_id=run_id, is_blocked=is_blocked)
    )


def _this_round(found: Delivery) -> ColumnElement[bool]:
    """The delivery, as long as nobody has begun another round of it."""
    d = t.deliveries.c
    return and_(
        d.manifest_id == found.manifest_id,
        d.subscription_id == found.subscription_id,
        d.round == found.round,
    )


def failed_in_run(tx: Connection, subscription: Subscription, run_id: str) -> str | None:
    """Why this subscriber failed earlier in the same run; None where it did not."""
    s = t.subscriptions.c
    return tx.execute(select(s.last_error).where(s.id == subscription.id, s.last_error_run_id == run_id)).scalar()


def subscribers_of(tx: Connection, manifest: str) -> list[tuple[int, str]]:
    """Number and name of everybody whom a manifest is, or was, owed to."""
    d, s = t.deliveries.c, t.subscriptions.c
    rows = tx.execute(
        select(s.id, s.name).join(t.deliveries, d.subscription_id == s.id).where(d.manifest_id == manifest)
    )
    return [(row.id, row.name) for row in rows]


def nobody_waits(tx: Connection, manifest: str) -> bool:
    """Whether a manifest is owed to nobody that receives now, so that its staged batches can go.

    For a subscriber that was removed, nothing is kept staged: should it come back, the manifest is read again.
    """
    d, s = t.deliveries.c, t.subscriptions.c
    owed = (
        select(literal(1))
        .join_from(t.deliveries, t.subscriptions, s.id == d.subscription_id)
        .where(d.manifest_id == manifest, d.state == t.OWED, s.inactive_since.is_(None))
    )
    return tx.execute(owed.limit(1)).first() is None


def owe_day(
    tx: Connection, source: int, subscriptions: Iterable[Subscription], *, day: date, again: bool, now: datetime
) -> tuple[int, int]:
    """Owe a day's manifests to subscriptions, whatever their start: what a backfill asks for.

    Also what was given up since others had got the rest of its manifest, or as files of a folded manifest were gone:
    they may be back. Other files that lie in the quarantine wait for a retry from there.

    Args:
        again: also those which were delivered before, if only in part; they get a new round, with the same batch ids.

    Returns:
        How many deliveries were added, and how many are repeated.
    """
    hold_still(tx, source)
    m, d, a = t.manifests.c, t.deliveries.c, t.acceptances.c
    given_up_parts = (m.source_id == source, m.day == day, m.part_of.is_not(None), m.state == t.GIVEN_UP)
    opened = {"state": case((m.read_at.is_not(None), t.READ), else_=t.PLANNED), "read_attempts": 0, "last_error": None}
    tx.execute(update(t.manifests).where(*given_up_parts).values(opened))
    accepted = and_(a.manifest_id == d.manifest_id, a.subscription_id == d.subscription_id, a.round == d.round)
    # What was refused lies in the manifest that it came from as well, and is repeated with that.
    is_refused = exists().where(m.id == d.manifest_id, m.origin == t.REFUSED)
    begun = and_(or_(d.state == t.DELIVERED, exists().where(accepted)), ~is_refused, d.state != t.SPLIT)
    added = repeated = 0
    for subscription in subscriptions:
        added += owe_missing(tx, subscription.id, m.source_id == source, m.day == day, now=now)
        of_the_day = and_(
            d.subscription_id == subscription.id,
            d.day == day,
            exists().where(m.id == d.manifest_id, m.source_id == source, m.state.in_((t.PLANNED, t.READ))),
        )
        wanted = d.state.in_((t.WAIVED, t.GIVEN_UP))
        repeated += tx.execute(
            update(t.deliveries)
            .where(of_the_day, or_(wanted, begun) if again else wanted)
            .values(
                state=t.OWED,
                owed_at=now,
                delivered_at=None,
                accepted=None,
                refused=None,
                filtered=None,
                round=case((begun, d.round + 1), else_=d.round) if again else d.round,
            )
        ).rowcount
    return added, repeated


def imbalances(tx: Connection, source: int, *, day: date | None = None) -> Sequence[str]:
    """Every place where a conservation equation does not hold, as a sentence; none in a sound ledger."""
    return [*reading_imbalances(tx, source, day=day), *delivery_imbalances(tx, source, day=day)]


def reading_imbalances(tx: Connection, source: int, *, day: date | None = None) -> list[str]:
    """Manifests where events framed are not events in batches and in the quarantine."""
    m = t.manifests.c
    rows = tx.execute(
        select(m.id, m.events_framed, m.events_batched, m.events_quarantined).where(
            m.source_id == source,
            m.state == t.READ,
            m.events_framed != m.events_batched + m.events_quarantined,
            *([m.day == day] if day else []),
        )
    )
    return [
        f"manifest {row.id}: {row.events_framed} events framed, but {row.events_batched} in batches and "
        f"{row.events_quarantined} quarantined"
        for row in rows
    ]


def delivery_imbalances(
    tx: Connection, source: int, *, day: date | None = None, subscription: int | None = None
) -> list[str]:
    """Deliveries, of one subscription or of all, where events in batches are not accepted, refused and filtered."""
    m, d, s = t.manifests.c, t.deliveries.c, t.subscriptions.c
    rows = tx.execute(
        select(m.id, s.name, m.events_batched, d.accepted, d.refused, d.filtered)
        .join(t.deliveries, d.manifest_id == m.id)
        .join(t.subscriptions, s.id == d.subscription_id)
        .where(
            m.source_id == source,
            d.state == t.DELIVERED,
            m.events_batched != d.accepted + d.refused + d.filtered,
            *([m.day == day] if day else []),
            *([s.id == subscription] if subscription else []),
        )
    )
    return [
        f"manifest {row.id} to {row.name}: {row.events_batched} events in batches, but {row.accepted} accepted, "
        f"{row.refused} refused and {row.filtered} filtered"
        for row in rows
    ]
