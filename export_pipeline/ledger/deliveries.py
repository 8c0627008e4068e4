"""Deliveries: who is owed which manifest, which batches were accepted, and when a manifest is done.

The states of a delivery and their transitions:

    – ── owe, owe_missing ─▶ owed ── commit ─▶ delivered ── owe_day (again) ─▶ owed, one round more
    owed ── waive (a subscriber's start moved, or it has it after a rebuild) ─▶ waived ── owe_day ─▶ owed
    owed ── give_up ─▶ given_up ── reopen, owe_day ─▶ owed
    owed ── split ─▶ split (the rest of it is owed in parts; final)
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, func, insert, literal, or_, select, update

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import manifests
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.records import Subscription, Totals
from export_pipeline.ledger.sources import hold_still

# The states as stored in the ledger; outside this module they are only for display and for tests.
OWED, DELIVERED, WAIVED, GIVEN_UP, SPLIT = "owed", "delivered", "waived", "given_up", "split"


class DeliveryState(str):
    """The state of one manifest for one subscriber, named as in the ledger."""

    __slots__ = ()

    @property
    def is_owed(self) -> bool:
        """Whether the subscriber is still to receive it."""
        return self == OWED

    @property
    def is_delivered(self) -> bool:
        """Whether the subscriber has accepted all batches."""
        return self == DELIVERED

    @property
    def is_waived(self) -> bool:
        """Whether it is no longer owed, since it is before the subscriber's start."""
        return self == WAIVED

    @property
    def is_given_up(self) -> bool:
        """Whether the subscriber does not receive it, since it cannot be read."""
        return self == GIVEN_UP

    @property
    def is_split(self) -> bool:
        """Whether the subscriber receives what it had not accepted in parts, which are separate manifests."""
        return self == SPLIT


# One object per state, however many deliveries are queried.
STATES = {name: DeliveryState(name) for name in (OWED, DELIVERED, WAIVED, GIVEN_UP, SPLIT)}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One manifest on its way to one subscriber.

    Attributes:
        state: see the top of this module.
        round: 1, and one more for each replay.
        accepted_batches: numbers of the batches that were accepted in this round.
        attempts: how often a run has tried.
    """

    manifest_id: str
    subscription_id: int
    state: DeliveryState
    round: int
    accepted_batches: frozenset[int]
    attempts: int

    @property
    def is_repeated(self) -> bool:
        """Whether the subscriber was done with it before, and receives it again."""
        return self.round > 1


@dataclass(frozen=True, slots=True)
class Receiver:
    """A subscription that a manifest is owed to."""

    subscription_id: int
    name: str
    round: int

    @property
    def is_repeated(self) -> bool:
        """Whether it was done with the manifest before, and is to receive it again."""
        return self.round > 1


def is_owed() -> ColumnElement[bool]:
    """Whether a subscriber is still to receive a manifest."""
    return t.deliveries.c.state == OWED


def is_delivered() -> ColumnElement[bool]:
    """Whether a subscriber has accepted all batches of a manifest."""
    return t.deliveries.c.state == DELIVERED


def is_given_up() -> ColumnElement[bool]:
    """Whether a subscriber does not receive a manifest since it cannot be read."""
    return t.deliveries.c.state == GIVEN_UP


def is_split() -> ColumnElement[bool]:
    """Whether a subscriber receives what it had not accepted of a manifest in parts, which are manifests."""
    return t.deliveries.c.state == SPLIT


def is_taken_by_run() -> ColumnElement[bool]:
    """Whether a delivery counts among those of its latest run: it is delivered, or will be."""
    return t.deliveries.c.state.in_((OWED, DELIVERED))


def is_counted() -> ColumnElement[bool]:
    """Joins a delivery with the batches accepted since it was last owed, in the current round."""
    d, a = t.deliveries.c, t.acceptances.c
    return and_(a.manifest_id == d.manifest_id, a.subscription_id == d.subscription_id, a.round == d.round)


def is_open() -> ColumnElement[bool]:
    """Whether a delivery is not final: owed, given up, or waived after some batches were accepted."""
    d, a, p = t.deliveries.c, t.acceptances.c, t.portions.c
    accepted, in_part = (
        select(func.count())
        .where(some.manifest_id == d.manifest_id, some.subscription_id == d.subscription_id)
        .correlate(t.deliveries)
        .scalar_subquery()
        for some in (a, p)
    )
    return or_(d.state.not_in((DELIVERED, WAIVED, SPLIT)), and_(d.state == WAIVED, accepted + in_part > 0))


def delivery(tx: Connection, manifest_id: str, subscription: Subscription) -> Delivery | None:
    """The delivery of a manifest to a subscription; None if it was never owed."""
    d, a = t.deliveries.c, t.acceptances.c
    row = tx.execute(
        select(d.state, d.round, d.attempts).where(d.manifest_id == manifest_id, d.subscription_id == subscription.id)
    ).first()
    if row is None:
        return None
    accepted = tx.execute(
        select(a.n).where(a.manifest_id == manifest_id, a.subscription_id == subscription.id, a.round == row.round)
    ).scalars()
    return Delivery(manifest_id, subscription.id, STATES[row.state], row.round, frozenset(accepted), row.attempts)


def accept(tx: Connection, found: Delivery, n: int, totals: Totals, *, now: datetime) -> None:
    """Record that batch *n* was accepted. Only the holder of the delivery's claim calls this."""
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
    """Close the round of a delivery, and only this round, once all its batches were accepted.

    Returns:
        The totals of the round, and whether the delivery is closed: it is not if a replay requested in the meantime
        began another round, which stays owed.

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
            state=DELIVERED,
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
    """Record why an attempt in this round failed; the delivery stays owed.

    Args:
        is_blocked: later runs will fail too, until the user changes something.
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
    """The delivery, unless another round of it has begun."""
    d = t.deliveries.c
    return and_(
        d.manifest_id == found.manifest_id,
        d.subscription_id == found.subscription_id,
        d.round == found.round,
    )


def subscribers_of(tx: Connection, manifest_id: str) -> list[tuple[int, str]]:
    """Number and name of every subscriber that a manifest is or was owed to."""
    d, s = t.deliveries.c, t.subscriptions.c
    rows = tx.execute(
        select(s.id, s.name).join(t.deliveries, d.subscription_id == s.id).where(d.manifest_id == manifest_id)
    )
    return [(row.id, row.name) for row in rows]


def is_settled(tx: Connection, manifest: str, subscriber: str, batch: str) -> bool:
    """Whether what a subscriber refused of a batch is final: no delivery is going to send the batch again."""
    d, s, a = t.deliveries.c, t.subscriptions.c, t.acceptances.c
    accepted = exists().where(
        a.manifest_id == d.manifest_id,
        a.subscription_id == d.subscription_id,
        a.round == d.round,
        a.n == int(batch.rpartition("-")[2]),
    )
    owed = select(d.round).join_from(t.deliveries, t.subscriptions, s.id == d.subscription_id)
    return tx.execute(owed.where(d.manifest_id == manifest, s.name == subscriber, is_owed(), ~accepted)).first() is None


def owe_day(
    tx: Connection, source_id: int, subscriptions: Iterable[Subscription], *, day: date, again: bool, now: datetime
) -> tuple[int, int]:
    """Owe a day's manifests to subscriptions, whatever their start, as a backfill requests.

    Includes what was given up because others had received the rest of its manifest, or because files of a folded
    manifest were gone: they may be back. Other files in the quarantine wait for a retry from there.

    Args:
        again: also those delivered before, even in part; they get a new round, with the same batch ids.

    Returns:
        How many deliveries were added, and how many are repeated.
    """
    hold_still(tx, source_id)
    m, d = t.manifests.c, t.deliveries.c
    manifests.reopen_parts(tx, source_id, day)
    p = t.portions.c
    in_part = and_(p.manifest_id == d.manifest_id, p.subscription_id == d.subscription_id, p.round == d.round)
    is_begun = or_(is_delivered(), exists().where(is_counted()), exists().where(in_part))
    begun = and_(is_begun, d.state != SPLIT)
    added = repeated = 0
    for subscription in subscriptions:
        added += owe_missing(tx, subscription.id, m.source_id == source_id, m.day == day, now=now)
        of_the_day = and_(
            d.subscription_id == subscription.id,
            d.day == day,
            exists().where(m.id == d.manifest_id, m.source_id == source_id, manifests.is_living()),
        )
        wanted = d.state.in_((WAIVED, GIVEN_UP))
        repeated += tx.execute(
            update(t.deliveries)
            .where(of_the_day, or_(wanted, begun) if again else wanted)
            .values(
                state=OWED,
                owed_at=now,
                delivered_at=None,
                accepted=None,
                refused=None,
                filtered=None,
                round=case((begun, d.round + 1), else_=d.round) if again else d.round,
            )
        ).rowcount
    return added, repeated


def owe(
    tx: Connection,
    manifest_id: str,
    subscription_ids: Iterable[int],
    *,
    day: date,
    first_key: str,
    now: datetime,
    run_id: str | None = None,
) -> None:
    """Owe a manifest to subscriptions that it was never owed to; *run_id*: the run that already delivers it."""
    rows = [
        {
            "manifest_id": manifest_id,
            "subscription_id": number,
            "day": day,
            "first_key": first_key,
            "state": OWED,
            "round": 1,
            "owed_at": now,
            "attempts": 0,
            "last_run_id": run_id,
        }
        for number in subscription_ids
    ]
    if rows:
        tx.execute(insert(t.deliveries), rows)


def owe_missing(tx: Connection, subscription_id: int, *wanted: ColumnElement[bool], now: datetime) -> int:
    """Owe a subscription every living manifest that is *wanted* and was never owed to it; returns how many.

    Except refused events: they were another subscriber's, and this one receives them in their original batches. And
    except parts, which were made for others; this subscription is owed the whole.
    """
    m, d = t.manifests.c, t.deliveries.c
    known = exists().where(d.manifest_id == m.id, d.subscription_id == subscription_id)
    columns = {
        d.manifest_id: m.id,
        d.subscription_id: literal(subscription_id),
        d.day: m.day,
        d.first_key: m.first_key,
        d.state: literal(OWED),
        d.round: literal(1),
        d.owed_at: literal(now, t.UtcDateTime()),
        d.attempts: literal(0),
    }
    is_for_all = and_(~manifests.is_refused(), m.part_of.is_(None))
    missing = select(*columns.values()).where(manifests.is_living(), is_for_all, ~known, *wanted)
    return tx.execute(insert(t.deliveries).from_select(list(columns), missing)).rowcount


def owe_waived(tx: Connection, subscription_id: int, *wanted: ColumnElement[bool], now: datetime) -> int:
    """Owe a subscription again what was waived and is *wanted* now; returns how many."""
    waived = (t.deliveries.c.subscription_id == subscription_id, t.deliveries.c.state == WAIVED)
    return tx.execute(update(t.deliveries).where(*waived, *wanted).values(state=OWED, owed_at=now)).rowcount


def waive(tx: Connection, subscription_id: int, *unwanted: ColumnElement[bool]) -> int:
    """Stop owing a subscription what is *unwanted* now; returns how many."""
    owed = (t.deliveries.c.subscription_id == subscription_id, is_owed())
    return tx.execute(update(t.deliveries).where(*owed, *unwanted).values(state=WAIVED)).rowcount


def waive_before(tx: Connection, some: Iterable[Subscription], day: date) -> None:
    """Owe *some* nothing of days before *day*: they have it."""
    d, ids = t.deliveries.c, [one.id for one in some]
    tx.execute(update(t.deliveries).where(d.day < day, d.subscription_id.in_(ids)).values(state=WAIVED))


def give_up(tx: Connection, manifest_id: str) -> None:
    """Give up a manifest that cannot be read, for all subscribers that it is owed to."""
    tx.execute(update(t.deliveries).where(t.deliveries.c.manifest_id == manifest_id, is_owed()).values(state=GIVEN_UP))


def give_up_for(tx: Connection, manifest_id: str, subscription_id: int, reason: str) -> None:
    """Give up for one subscription what cannot be read."""
    tx.execute(update(t.deliveries).where(*_of(manifest_id, subscription_id)).values(state=GIVEN_UP, last_error=reason))


def split_for(tx: Connection, manifest_id: str, subscription_id: int) -> None:
    """Record that a subscription receives the rest of a manifest in parts."""
    tx.execute(update(t.deliveries).where(*_of(manifest_id, subscription_id)).values(state=SPLIT, last_error=None))


def reopen(tx: Connection, manifest_id: str) -> int:
    """Owe a manifest again to those for whom it was given up; returns how many there are."""
    given_up = (t.deliveries.c.manifest_id == manifest_id, is_given_up())
    return tx.execute(update(t.deliveries).where(*given_up).values(state=OWED)).rowcount


def take_away(tx: Connection, manifest_id: str) -> list[tuple[int, str | None]]:
    """Delete all deliveries of a manifest that others replace.

    Returns:
        The subscriptions that it was owed to, each with the run that delivers it, if one does.
    """
    d = t.deliveries.c
    rows = tx.execute(select(d.subscription_id, d.last_run_id).where(d.manifest_id == manifest_id, is_owed())).all()
    tx.execute(delete(t.deliveries).where(d.manifest_id == manifest_id))
    return [(row.subscription_id, row.last_run_id) for row in rows]


def _of(manifest_id: str, subscription_id: int) -> tuple[ColumnElement[bool], ...]:
    return t.deliveries.c.manifest_id == manifest_id, t.deliveries.c.subscription_id == subscription_id


def receivers(tx: Connection, manifest_id: str, subscription_ids: Collection[int]) -> list[Receiver]:
    """Those of some subscriptions that a manifest is owed to, by name."""
    d, s = t.deliveries.c, t.subscriptions.c
    rows = tx.execute(
        select(d.subscription_id, s.name, d.round)
        .join(t.subscriptions, s.id == d.subscription_id)
        .where(d.manifest_id == manifest_id, is_owed(), d.subscription_id.in_(subscription_ids))
        .order_by(s.name)
    )
    return [Receiver(*row) for row in rows]


def ever_accepted(tx: Connection, manifest_id: str, receiver: Receiver, *, batches: int) -> frozenset[int]:
    """Numbers of the batches that a subscriber has accepted, in any round.

    Args:
        batches: how many the manifest has.
    """
    a = t.acceptances.c
    of_it = (a.manifest_id == manifest_id, a.subscription_id == receiver.subscription_id)
    accepted = frozenset(tx.execute(select(a.n).where(*of_it)).scalars())
    before = (*of_it, a.round < receiver.round)
    if receiver.is_repeated and not tx.execute(select(func.count()).where(*before)).scalar():
        # It was done with, and its acceptances were folded.
        return frozenset(range(batches))
    return accepted


def taken_by(tx: Connection, manifest_ids: Sequence[str], run_ids: Collection[str]) -> set[str]:
    """Those of some manifests that one of these runs took last, and that are still owed to some subscriber."""
    d = t.deliveries.c
    busy = select(d.manifest_id).where(d.manifest_id.in_(manifest_ids), is_owed(), d.last_run_id.in_(list(run_ids)))
    return set(tx.execute(busy).scalars())


def waived_for(tx: Connection, manifest_id: str) -> set[int]:
    """The subscriptions that a manifest is no longer owed to, since it is before their start."""
    d = t.deliveries.c
    return set(tx.execute(select(d.subscription_id).where(d.manifest_id == manifest_id, d.state == WAIVED)).scalars())


def owed_to(tx: Connection, manifest_id: str) -> list[int]:
    """The subscriptions that a manifest is owed to."""
    d = t.deliveries.c
    query = select(d.subscription_id).where(d.manifest_id == manifest_id, is_owed())
    return list(tx.execute(query.order_by(d.subscription_id)).scalars())


def states_of_days(
    tx: Connection, source_id: int, *, first_day: date, last_day: date
) -> dict[str, dict[int, DeliveryState]]:
    """Manifest → subscription → state of its delivery, for all manifests of some days."""
    m, d = t.manifests.c, t.deliveries.c
    rows = tx.execute(
        select(d.manifest_id, d.subscription_id, d.state)
        .join(t.manifests, m.id == d.manifest_id)
        .where(m.source_id == source_id, m.day.between(first_day, last_day))
    )
    states: dict[str, dict[int, DeliveryState]] = {}
    for row in rows:
        states.setdefault(row.manifest_id, {})[row.subscription_id] = STATES[row.state]
    return states


def is_untouched(tx: Connection, manifest_id: str) -> bool:
    """Whether files may still be isolated from this manifest: nobody has accepted any of it, or is done with it."""
    d = t.deliveries.c
    for table in (t.acceptances, t.portions):
        if tx.execute(select(table.c.n).where(table.c.manifest_id == manifest_id).limit(1)).first() is not None:
            return False
    # The acceptances of folded deliveries are gone, and a manifest without events has no accepted batches. Their
    # deliveries show it: one that is done, or was before a replay requested a new round. What was folded only for
    # subscribers that never received it may change.
    done = select(d.state).where(d.manifest_id == manifest_id, or_(is_delivered(), d.round > 1))
    return tx.execute(done.limit(1)).first() is None
