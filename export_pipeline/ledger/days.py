"""What a day came to so far. Walks the manifests of that day only, however old the ledger."""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, func, select

from export_pipeline.ledger import tables as t
from export_pipeline.ledger.subscriptions import Subscription


@dataclass(frozen=True, slots=True)
class DayTotal:
    """All manifests of one day together.

    Attributes:
        events: in batches, or accepted by a subscriber.
        files: that they come from.
    """

    events: int
    files: int


def read_of_day(tx: Connection, source: int, day: date) -> DayTotal:
    """What has been read of *day*."""
    m = t.manifests.c
    found = select(func.sum(m.events_batched), func.sum(m.files)).where(
        m.source_id == source, m.day == day, m.state == t.READ, m.part_of.is_(None)
    )
    events, files = tx.execute(found).one()
    return DayTotal(int(events or 0), int(files or 0))


def delivered_of_day(tx: Connection, source: int, subscription: Subscription, day: date) -> DayTotal:
    """What a subscriber has got of *day*; what it gets once more counts once."""
    d, m = t.deliveries.c, t.manifests.c
    found = (
        select(func.sum(d.accepted), func.sum(m.files))
        .join(t.manifests, m.id == d.manifest_id)
        .where(m.source_id == source, m.day == day, d.subscription_id == subscription.id, d.state == t.DELIVERED)
    )
    events, files = tx.execute(found).one()
    return DayTotal(int(events or 0), int(files or 0))
