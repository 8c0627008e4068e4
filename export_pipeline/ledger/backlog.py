"""Whether another run could get on at once: what the sensor ``new_files`` asks."""

from sqlalchemy import Connection, select, update

from export_pipeline.ledger import tables as t
from export_pipeline.ledger.subscriptions import Subscription


def note_failure(tx: Connection, identity: str, reason: str) -> None:
    """Write down why a manifest could not be read where no file of it is to blame, so that none counts a try.

    Reading it clears that.
    """
    tx.execute(update(t.manifests).where(t.manifests.c.id == identity).values(last_error=reason))


def gets_on(tx: Connection, subscription: Subscription, *, max_files: int) -> bool:
    """Whether any of the manifests that a run of *max_files* would take to the subscriber did not fail to be read.

    Not whether any that is owed: where the store is down, each run takes the same oldest ones.
    """
    d, m = t.deliveries.c, t.manifests.c
    rows = tx.execute(
        select(m.files, m.last_error)
        .join(t.deliveries, d.manifest_id == m.id)
        .where(d.subscription_id == subscription.id, d.state == t.OWED, m.read_attempts == 0)
        .order_by(d.day, d.first_key)
        .limit(max_files)
    )
    files = 0
    for row in rows:
        if row.last_error is None:
            return True
        files += row.files
        if files >= max_files:
            return False
    return False


def failing(tx: Connection, source: int) -> set[int]:
    """The subscriptions whose latest delivery failed."""
    s = t.subscriptions.c
    return set(tx.execute(select(s.id).where(s.source_id == source, s.last_error.is_not(None))).scalars())
