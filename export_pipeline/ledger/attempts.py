"""Failed attempts to read a manifest: when the latest began, and whether others could be read since."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, select, update

from export_pipeline.ledger import tables as t


def note(tx: Connection, identities: Iterable[str], *, began: datetime) -> None:
    """Keep when an attempt to read these manifests began that failed."""
    tx.execute(update(t.manifests).where(t.manifests.c.id.in_(list(identities))).values(tried_at=began))


def others_read(tx: Connection, identity: str, *, began: datetime) -> bool:
    """Whether another manifest was read since the latest noted attempt at this one: the store and the login work.

    Asked before the attempt under way, which *began* then, is noted.
    """
    m = t.manifests.c
    tried_at = tx.execute(select(m.tried_at).where(m.id == identity)).scalar_one()
    return _others_read_since(tx, identity, min(tried_at or began, began))


def others_read_since_planned(tx: Connection, identity: str) -> bool:
    """Whether another manifest was read since this one was planned, or set apart: runs are able to read."""
    m = t.manifests.c
    return _others_read_since(tx, identity, tx.execute(select(m.planned_at).where(m.id == identity)).scalar_one())


def _others_read_since(tx: Connection, identity: str, since: datetime) -> bool:
    m = t.manifests.c
    own = tx.execute(select(m.source_id, m.origin).where(m.id == identity)).one()
    # What is driven again lies in the quarantine: to read that says nothing about the source, nor the other way round.
    same_store = m.origin == t.SOURCE if own.origin == t.SOURCE else m.origin != t.SOURCE
    found = select(m.id).where(m.source_id == own.source_id, m.read_at >= since, same_store, m.id != identity)
    return tx.execute(found.limit(1)).first() is not None


def owed_to(tx: Connection, identity: str) -> list[int]:
    """The subscriptions that a manifest is owed to."""
    d = t.deliveries.c
    query = select(d.subscription_id).where(d.manifest_id == identity, d.state == t.OWED)
    return list(tx.execute(query.order_by(d.subscription_id)).scalars())
