"""Where a listing goes on whose cursor lies in the future."""

from datetime import date, datetime, timezone

from sqlalchemy import Connection

from export_pipeline.ledger import planned_days


def instead_of_future(tx: Connection, source: int, *, start_date: date, now: datetime) -> datetime:
    """The moment that counts where the cursor names a later one than *now*.

    Such a cursor says nothing of what was listed; what was planned does: the last day of which anything was that does
    not lie in the future, or ``start_date``. Where nothing was, a person has set the cursor, and wants none of what is
    older than *now*.

    Args:
        source: its number in the ledger; 0: it has none.
    """
    last = planned_days.last_day(tx, source, until=now.astimezone(timezone.utc).date())
    if last is None and not planned_days.knows_any(tx, source):
        return now
    day = max(last or start_date, start_date)
    return min(midnight(day), now)


def midnight(day: date) -> datetime:
    """When a day begins, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
