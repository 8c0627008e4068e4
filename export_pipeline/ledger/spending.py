"""How much of its time budget a subscriber has used in the run that delivers to it."""

from sqlalchemy import Connection, select, update

from export_pipeline.ledger import tables as t


def spent_seconds(tx: Connection, subscription: int, run_id: str) -> float:
    """Seconds that the run called *run_id* has spent on a subscription so far."""
    s = t.subscriptions.c
    found = tx.execute(select(s.spent_seconds).where(s.id == subscription, s.spent_run_id == run_id)).scalar()
    return float(found or 0.0)


def set_spent(tx: Connection, subscription: int, run_id: str, seconds: float) -> None:
    """Keep that this is what the run has spent on a subscription. Of an earlier run nothing is kept."""
    s = t.subscriptions.c
    tx.execute(update(t.subscriptions).where(s.id == subscription).values(spent_run_id=run_id, spent_seconds=seconds))
