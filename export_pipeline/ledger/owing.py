"""Who is owed what: a delivery is a manifest that a subscription has to get."""

from collections.abc import Iterable
from datetime import date, datetime

from sqlalchemy import ColumnElement, Connection, and_, exists, insert, literal, select

from export_pipeline.ledger import tables as t


def owe(
    tx: Connection,
    identity: str,
    subscription_ids: Iterable[int],
    *,
    day: date,
    first_key: str,
    now: datetime,
    run_id: str | None = None,
) -> None:
    """Owe a manifest to subscriptions that it was never owed to; *run_id* takes it to them, where one does already."""
    rows = [
        {
            "manifest_id": identity,
            "subscription_id": number,
            "day": day,
            "first_key": first_key,
            "state": t.OWED,
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

    Not those of refused events: they were another's, and come to this subscription in the batches they were refused of.
    Nor parts, which were made for others; this subscription is owed the whole.
    """
    m, d = t.manifests.c, t.deliveries.c
    known = exists().where(d.manifest_id == m.id, d.subscription_id == subscription_id)
    columns = {
        d.manifest_id: m.id,
        d.subscription_id: literal(subscription_id),
        d.day: m.day,
        d.first_key: m.first_key,
        d.state: literal(t.OWED),
        d.round: literal(1),
        d.owed_at: literal(now, t.UtcDateTime()),
        d.attempts: literal(0),
    }
    living = m.state.in_((t.PLANNED, t.READ))
    is_for_all = and_(m.origin != t.REFUSED, m.part_of.is_(None))
    missing = select(*columns.values()).where(living, is_for_all, ~known, *wanted)
    return tx.execute(insert(t.deliveries).from_select(list(columns), missing)).rowcount


def hold_still(tx: Connection, source: int) -> None:
    """Keep others, to the end of this transaction, from owing manifests of a source or from ending their lives.

    Who adds a subscriber looks for the living manifests, and who sets files apart or gives up looks for those that wait
    for a manifest. PostgreSQL lets both look at what was before the other: the newcomer would be owed what lives no
    longer, and never what took its place. On SQLite one transaction writes at a time anyway.
    """
    tx.execute(select(t.sources.c.id).where(t.sources.c.id == source).with_for_update(key_share=True))


def waived_for(tx: Connection, identity: str) -> set[int]:
    """The subscriptions that a manifest is no longer owed to, since it lies before their start."""
    d = t.deliveries.c
    return set(tx.execute(select(d.subscription_id).where(d.manifest_id == identity, d.state == t.WAIVED)).scalars())
