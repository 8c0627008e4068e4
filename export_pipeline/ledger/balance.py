"""The two conservation equations with their sums, for people who look."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from export_pipeline.ledger import deliveries
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.subscriptions import Subscription


@dataclass(frozen=True, slots=True)
class ReadingBalance:
    """All that was read from a source.

    Attributes:
        framed, batched, quarantined: events; the first is the sum of the other two where the ledger is sound.
        wrong: a sentence for each manifest where it is not.
    """

    manifests: int
    framed: int
    batched: int
    quarantined: int
    wrong: Sequence[str]


@dataclass(frozen=True, slots=True)
class DeliveryBalance:
    """All that was delivered to a subscriber, replays counted once.

    Attributes:
        batched, accepted, refused, filtered: events; the first is the sum of the others where the ledger is sound.
        wrong: a sentence for each manifest where it is not.
    """

    manifests: int
    batched: int
    accepted: int
    refused: int
    filtered: int
    wrong: Sequence[str]


def reading_balance(tx: Connection, source: int) -> ReadingBalance:
    """Events framed = in batches + quarantined."""
    m = t.manifests.c
    sums = [func.coalesce(func.sum(column), 0) for column in (m.events_framed, m.events_batched, m.events_quarantined)]
    # Parts were counted when the whole was read.
    read = (m.source_id == source, m.state == t.READ, m.part_of.is_(None))
    row = tx.execute(select(func.count(), *sums).where(*read)).one()
    manifests, framed, batched, quarantined = (int(number) for number in row)
    return ReadingBalance(manifests, framed, batched, quarantined, deliveries.reading_imbalances(tx, source))


def delivery_balance(tx: Connection, source: int, subscription: Subscription) -> DeliveryBalance:
    """Events in batches = accepted + refused + filtered."""
    m, d = t.manifests.c, t.deliveries.c
    sums = [func.coalesce(func.sum(column), 0) for column in (m.events_batched, d.accepted, d.refused, d.filtered)]
    row = tx.execute(
        select(func.count(), *sums)
        .join(t.deliveries, d.manifest_id == m.id)
        .where(m.source_id == source, d.subscription_id == subscription.id, d.state == t.DELIVERED)
    ).one()
    wrong = deliveries.delivery_imbalances(tx, source, subscription=subscription.id)
    manifests, batched, accepted, refused, filtered = (int(number) for number in row)
    return DeliveryBalance(manifests, batched, accepted, refused, filtered, wrong)
