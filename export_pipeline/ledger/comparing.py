"""What the ledger knows of a stretch of keys and of some days, for comparing it with a listing."""

from datetime import date

from sqlalchemy import Connection, select

from export_pipeline.ledger import tables as t


def seen(tx: Connection, source: int, *, first_key: str, last_key: str) -> dict[tuple[str, str], str | None]:
    """(key, etag) → the manifest that holds it, of every file between two keys, both included.

    A file that was seen and, by configuration, not taken has no manifest.
    """
    f = t.files.c
    rows = tx.execute(
        select(f.key, f.etag, f.manifest_id).where(f.source_id == source, f.key.between(first_key, last_key))
    )
    return {(row.key, row.etag): row.manifest_id for row in rows}


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
