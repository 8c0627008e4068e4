"""The two conservation equations with their sums, for people.

    events framed = events in batches + events quarantined   checked before they are kept: manifests.record_reading
    events in batches = accepted + refused + filtered        checked before they are kept: deliveries.commit

Numbers that break one never enter the ledger. This module checks whether the ledger still adds up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, func, select

from export_pipeline.ledger import deliveries, manifests
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.records import Subscription


@dataclass(frozen=True, slots=True)
class ReadingBalance:
    """Everything read from a source.

    Attributes:
        framed, batched, quarantined: events; the first is the sum of the other two in a consistent ledger.
        wrong: a sentence for each inconsistent manifest.
    """

    manifests: int
    framed: int
    batched: int
    quarantined: int
    wrong: Sequence[str]


@dataclass(frozen=True, slots=True)
class DeliveryBalance:
    """Everything delivered to a subscriber, replays counted once.

    Attributes:
        batched, accepted, refused, filtered: events; the first is the sum of the others in a consistent ledger.
        wrong: a sentence for each inconsistent manifest.
    """

    manifests: int
    batched: int
    accepted: int
    refused: int
    filtered: int
    wrong: Sequence[str]


def reading_balance(tx: Connection, source_id: int) -> ReadingBalance:
    """Events framed = in batches + quarantined."""
    m = t.manifests.c
    sums = [func.coalesce(func.sum(column), 0) for column in (m.events_framed, m.events_batched, m.events_quarantined)]
    # Parts were counted when the whole was read.
    read = (m.source_id == source_id, manifests.is_read(), m.part_of.is_(None))
    row = tx.execute(select(func.count(), *sums).where(*read)).one()
    count, framed, batched, quarantined = (int(number) for number in row)
    return ReadingBalance(count, framed, batched, quarantined, reading_imbalances(tx, source_id))


def delivery_balance(tx: Connection, source_id: int, subscription: Subscription) -> DeliveryBalance:
    """Events in batches = accepted + refused + filtered."""
    m, d = t.manifests.c, t.deliveries.c
    sums = [func.coalesce(func.sum(column), 0) for column in (m.events_batched, d.accepted, d.refused, d.filtered)]
    row = tx.execute(
        select(func.count(), *sums)
        .join(t.deliveries, d.manifest_id == m.id)
        .where(m.source_id == source_id, d.subscription_id == subscription.id, deliveries.is_delivered())
    ).one()
    wrong = delivery_imbalances(tx, source_id, subscription=subscription.id)
    manifests, batched, accepted, refused, filtered = (int(number) for number in row)
    return DeliveryBalance(manifests, batched, accepted, refused, filtered, wrong)


def imbalances(tx: Connection, source_id: int, *, day: date | None = None) -> Sequence[str]:
    """Every violation of a conservation equation, as a sentence; none in a consistent ledger."""
    return [*reading_imbalances(tx, source_id, day=day), *delivery_imbalances(tx, source_id, day=day)]


def reading_imbalances(tx: Connection, source_id: int, *, day: date | None = None) -> list[str]:
    """Manifests whose framed events differ from those in batches and in the quarantine."""
    m = t.manifests.c
    rows = tx.execute(
        select(m.id, m.events_framed, m.events_batched, m.events_quarantined).where(
            m.source_id == source_id,
            manifests.is_read(),
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
    tx: Connection, source_id: int, *, day: date | None = None, subscription: int | None = None
) -> list[str]:
    """Deliveries, of one subscription or of all, whose events in batches differ from accepted, refused and filtered."""
    m, d, s = t.manifests.c, t.deliveries.c, t.subscriptions.c
    rows = tx.execute(
        select(m.id, s.name, m.events_batched, d.accepted, d.refused, d.filtered)
        .join(t.deliveries, d.manifest_id == m.id)
        .join(t.subscriptions, s.id == d.subscription_id)
        .where(
            m.source_id == source_id,
            deliveries.is_delivered(),
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
