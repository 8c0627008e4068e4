"""The days of which the ledger knows files."""

from datetime import date

from sqlalchemy import Connection, func, select

from export_pipeline.ledger import tables as t


def last_day(tx: Connection, source: int, *, until: date) -> date | None:
    """The last day up to *until*, included, of which a file was planned; None: there is none."""
    m = t.manifests.c
    return tx.execute(select(func.max(m.day)).where(m.source_id == source, m.day <= until)).scalar()


def knows_any(tx: Connection, source: int) -> bool:
    """Whether a file was ever planned, of whatever day."""
    m = t.manifests.c
    return tx.execute(select(m.id).where(m.source_id == source).limit(1)).first() is not None
