"""What the ledger knows of a stretch of keys and of some days, for comparing it with a listing."""

from datetime import date

from sqlalchemy import Connection, select

from export_pipeline.ledger import tables as t


def delivery_states(tx: Connection, source: int, *, first_day: date, last_day: date) -> dict[str, dict[int, str]]:
    """Manifest → subscription → owed, delivered, waived or given_up, of all manifests of some days."""
    m, d = t.manifests.c, t.deliveries.c
    rows = tx.execute(
        select(d.manifest_id, d.subscription_id, d.state)
        .join(t.manifests, m.id == d.manifest_id)
        .where(m.source_id == source, m.day.between(first_day, last_day))
    )
    states: dict[str, dict[int, str]] = {}
    for row in rows:
        states.setdefault(row.manifest_id, {})[row.subscription_id] = row.state
    return states
