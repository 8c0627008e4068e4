"""Subscriptions: who receives events, and from which start."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, exists, insert, not_, select, true, update

from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import deliveries, folding, manifests
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.deliveries import owe_missing
from export_pipeline.ledger.records import Subscription
from export_pipeline.ledger.sources import hold_still
from export_pipeline.quantities import counted

BEGINNING, NOW = "beginning", "now"


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of :func:`register`.

    Attributes:
        subscriptions: the active ones, in the requested order.
        notes: one sentence for each change, for the log.
        list_again: a subscription begins before what earlier runs may have listed: list from ``list_from`` on.
        list_from: the first day needed; None: from the very beginning.
    """

    subscriptions: tuple[Subscription, ...]
    notes: tuple[str, ...]
    list_again: bool
    list_from: date | None


def active(tx: Connection, source_id: int) -> tuple[Subscription, ...]:
    """The active subscriptions, by name."""
    return tuple(Subscription(*row) for row in tx.execute(_active(), {"of_source": source_id}))


# Built once: that takes as long as executing them, and they are executed many times in each run.
@cache
def _names() -> Select[Any]:
    s = t.subscriptions.c
    return select(s.name, s.since).where(s.source_id == bindparam("of_source"), s.inactive_since.is_(None))


@cache
def _active() -> Select[Any]:
    s = t.subscriptions.c
    rows = select(s.id, s.name, s.start_day, s.start_at)
    return rows.where(s.source_id == bindparam("of_source"), s.inactive_since.is_(None)).order_by(s.name)


@cache
def _error_in_run() -> Select[str]:
    s = t.subscriptions.c
    return select(s.last_error).where(s.id == bindparam("subscription"), s.last_error_run_id == bindparam("run_id"))


def inactive(tx: Connection, source_id: int) -> tuple[Subscription, ...]:
    """The subscriptions that were removed from the deployment file, and may come back."""
    s = t.subscriptions.c
    rows = tx.execute(
        select(s.id, s.name, s.start_day, s.start_at).where(s.source_id == source_id, s.inactive_since.is_not(None))
    )
    return tuple(Subscription(*row) for row in rows)


def is_registered(tx: Connection, source_id: int, wanted: Mapping[str, str | None]) -> bool:
    """Whether the ledger already has exactly *wanted* (name → since): then there is nothing to write."""
    rows = tx.execute(_names(), {"of_source": source_id})
    return {row.name: row.since for row in rows} == dict(wanted)


def register(
    tx: Connection, source_id: int, wanted: Mapping[str, str | None], *, start_from: str, now: datetime
) -> Registration:
    """Update the ledger's subscriptions to the configured ones.

    Args:
        wanted: subscriber → its ``since`` (``now``, ``beginning``, a date) or None.
        start_from: the start of subscribers without ``since`` in a ledger that has no subscribers yet.
        now: aware.
    """
    hold_still(tx, source_id)
    s = t.subscriptions.c
    rows = {row.name: row for row in tx.execute(select(t.subscriptions).where(s.source_id == source_id))}
    fresh = not rows
    notes: list[str] = []
    starts: list[date | None] = []
    for name, since in wanted.items():
        row = rows.get(name)
        before: Subscription | None = None
        if row is None:
            start = since or (start_from if fresh else NOW)
            day, at = _bounds(start, now)
            tx.execute(
                insert(t.subscriptions).values(
                    source_id=source_id, name=name, since=since, start_day=day, start_at=at, created_at=now
                )
            )
            notes.append(f"subscriber {name} is new and starts at: {start}")
        elif since is not None and since != row.since:
            before = Subscription(row.id, name, row.start_day, row.start_at)
            day, at = _bounds(since, now)
            tx.execute(
                update(t.subscriptions)
                .where(s.id == row.id)
                .values(since=since, start_day=day, start_at=at, inactive_since=None)
            )
            notes.append(f"subscriber {name} now starts at: {since}")
        elif row.inactive_since is not None:
            tx.execute(update(t.subscriptions).where(s.id == row.id).values(since=since, inactive_since=None))
            notes.append(f"subscriber {name} is back and continues from its removal, {_removed(row.inactive_since)}")
        else:
            if since != row.since:
                tx.execute(update(t.subscriptions).where(s.id == row.id).values(since=since))
            continue
        subscription = _one(tx, source_id, name)
        added = owe_missing(tx, subscription.id, t.manifests.c.source_id == source_id, _within(subscription), now=now)
        waived = 0
        if before is not None:
            added += _owe_again(tx, before, subscription, now=now)
            waived = _waive(tx, before, subscription)
        if added:
            notes.append(f"{counted(added, 'earlier manifest is', 'earlier manifests are')} now owed to {name}")
        if waived:
            waived_ones = counted(waived, "manifest before its start is", "manifests before its start are")
            notes.append(f"{waived_ones} no longer owed to {name}")
        starts.append(subscription.first_day)
    for name, row in rows.items():
        if name not in wanted and row.inactive_since is None:
            tx.execute(update(t.subscriptions).where(s.id == row.id).values(inactive_since=now))
            notes.append(f"subscriber {name} is no longer configured; what it was owed stays in the ledger")
    everywhere = None in starts
    return Registration(
        subscriptions=_in_order(active(tx, source_id), wanted),
        notes=tuple(notes),
        # The first listing of a source begins where the first subscriber does.
        list_again=bool(starts) and not fresh,
        list_from=None if everywhere or not starts else min(day for day in starts if day is not None),
    )


def _removed(moment: datetime) -> str:
    # If two exports share a ledger by mistake, one subscriber after the other comes back, run after run.
    return (
        f"at {moment:%Y-%m-%d %H:%M} UTC; if another export uses this ledger for the same source, give each its "
        "own ledger"
    )


def _bounds(start: str, now: datetime) -> tuple[date | None, datetime | None]:
    if start == BEGINNING:
        return None, None
    if start == NOW:
        # Stores truncate arrival times to whole seconds.
        return None, now.replace(microsecond=0)
    try:
        return date.fromisoformat(start), None
    except ValueError:
        raise ConfigurationError(f"since: found {start!r}; allowed: now, beginning, or a date YYYY-MM-DD") from None


def _one(tx: Connection, source_id: int, name: str) -> Subscription:
    return next(found for found in active(tx, source_id) if found.name == name)


def _in_order(found: Iterable[Subscription], wanted: Mapping[str, str | None]) -> tuple[Subscription, ...]:
    by_name = {subscription.name: subscription for subscription in found}
    return tuple(by_name[name] for name in wanted)


def _within(subscription: Subscription) -> ColumnElement[bool]:
    """Whether a manifest, with all its files, is within the start of *subscription*."""
    m = t.manifests.c
    bounds: list[ColumnElement[bool]] = [true()]
    if subscription.start_day is not None:
        bounds.append(m.day >= subscription.start_day)
    if subscription.start_at is not None:
        # Planning separates files on both sides of a start. What was planned before it cannot contain a later file,
        # which saves scanning a ledger of years.
        bounds += [m.planned_at >= subscription.start_at, *folding.none_arrived_before(subscription.start_at)]
    return and_(*bounds)


def _owe_again(tx: Connection, before: Subscription, after: Subscription, *, now: datetime) -> int:
    """Owe what was waived because it was before the start, and is now after it; returns how many."""
    m, d = t.manifests.c, t.deliveries.c
    regained = exists().where(m.id == d.manifest_id, manifests.is_living(), _within(after), not_(_within(before)))
    return deliveries.owe_waived(tx, after.id, regained, now=now)


def _waive(tx: Connection, before: Subscription, after: Subscription) -> int:
    """Waive what the start has moved past; returns how many. What was always before it is owed by a replay."""
    m, d = t.manifests.c, t.deliveries.c
    passed = exists().where(m.id == d.manifest_id, _within(before), not_(_within(after)))
    return deliveries.waive(tx, after.id, passed)


def spent_seconds(tx: Connection, subscription: int, run_id: str) -> float:
    """Seconds that the run *run_id* has spent on a subscription so far."""
    s = t.subscriptions.c
    found = tx.execute(select(s.spent_seconds).where(s.id == subscription, s.spent_run_id == run_id)).scalar()
    return float(found or 0.0)


def set_spent(tx: Connection, subscription: int, run_id: str, seconds: float) -> None:
    """Record how long the run has spent on a subscription. Values of earlier runs are not kept."""
    s = t.subscriptions.c
    tx.execute(update(t.subscriptions).where(s.id == subscription).values(spent_run_id=run_id, spent_seconds=seconds))


def failed_in_run(tx: Connection, subscription: Subscription, run_id: str) -> str | None:
    """Why this subscriber failed earlier in the same run; None if it did not."""
    return tx.execute(_error_in_run(), {"subscription": subscription.id, "run_id": run_id}).scalar()
