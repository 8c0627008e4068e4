"""Whether another run could get on at once: what the sensor ``new_files`` asks."""

from sqlalchemy import Connection, select, update

from export_pipeline.ledger import tables as t
from export_pipeline.ledger.subscriptions import Subscription


def note_failure(tx: Connection, identity: str, reason: str) -> None:
    """Write down why a manifest could not be read where no file of it is to blame, so that none counts a try.

    Reading it clears that.
    """
    values = {"last_error": reason, "reading_run_id": None}
    tx.execute(update(t.manifests).where(t.manifests.c.id == identity).values(values))


def gets_on(tx: Connection, subscription: Subscription) -> bool:
    """Whether anything is owed to the subscriber that no reading failed of: each run takes some of that.

    Not whether anything is owed: where the store is down, or a file is corrupt, run after run would be started.
    """
    d, m = t.deliveries.c, t.manifests.c
    fresh = (
        select(m.id)
        .join(t.deliveries, d.manifest_id == m.id)
        .where(d.subscription_id == subscription.id, d.state == t.OWED, m.last_error.is_(None))
        .where(m.reading_run_id.is_(None))
        .limit(1)
    )
    return tx.execute(fresh).first() is not None


def failing(tx: Connection, source: int) -> set[int]:
    """The subscriptions whose latest delivery failed."""
    s = t.subscriptions.c
    return set(tx.execute(select(s.id).where(s.source_id == source, s.last_error.is_not(None))).scalars())
