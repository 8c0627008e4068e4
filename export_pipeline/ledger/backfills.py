"""The days that backfills request: their subscribers are fixed once, and a day that no run processed is found."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, insert, select, update

from export_pipeline.ledger import tables as t


@dataclass(frozen=True, slots=True)
class Asked:
    """What a backfill requests.

    Attributes:
        subscribers: names of those that receive its days.
        again: also what they have received already, under the same batch ids.
    """

    subscribers: tuple[str, ...]
    again: bool


@dataclass(frozen=True, slots=True)
class AskedDay:
    """A day of a backfill that no run has processed."""

    backfill_id: str
    day: date
    asked: Asked

    @property
    def request(self) -> str:
        """The backfill for people; a run that materializes assets may be none's, and says so itself."""
        return self.backfill_id if self.backfill_id.startswith("run ") else f"backfill {self.backfill_id}"


def ask(
    tx: Connection, source_url: str, backfill_id: str, days: Iterable[date], asked: Asked, *, now: datetime
) -> Asked:
    """Record the days of a backfill and its subscribers, unless they are recorded; returns the recorded request.

    The first run that sees a backfill fixes its subscribers: one added later receives nothing of it.
    """
    b = t.backfill_days.c
    of_backfill = (b.source_url == source_url, b.backfill_id == backfill_id)
    known = {row.day: row for row in tx.execute(select(b.day, b.subscribers, b.again).where(*of_backfill))}
    for row in known.values():
        asked = Asked(tuple(json.loads(row.subscribers)), row.again)
        break
    rows = [
        {
            "source_url": source_url,
            "backfill_id": backfill_id,
            "day": day,
            "subscribers": json.dumps(asked.subscribers),
            "again": asked.again,
            "asked_at": now,
        }
        for day in set(days) - known.keys()
    ]
    if rows:
        tx.execute(insert(t.backfill_days), rows)
    return asked


def settle(tx: Connection, source_url: str, backfill_id: str, days: Iterable[date], *, now: datetime) -> None:
    """Record that days need no run any more: they are owed, which is up to deliveries, or were cancelled."""
    b = t.backfill_days.c
    tx.execute(
        update(t.backfill_days)
        .where(b.source_url == source_url, b.backfill_id == backfill_id, b.day.in_(list(days)))
        .values(settled_at=now)
    )


def known(tx: Connection, source_url: str, backfill_ids: Sequence[str]) -> set[str]:
    """Those of *backfill_ids* that are recorded."""
    b = t.backfill_days.c
    found = select(b.backfill_id).distinct().where(b.source_url == source_url, b.backfill_id.in_(backfill_ids))
    return set(tx.execute(found).scalars())


def unsettled(tx: Connection, source_url: str, backfill_id: str | None = None) -> list[AskedDay]:
    """Requested days that no run has processed, the earliest first.

    Args:
        backfill_id: only those of this request; None: of all.
    """
    b = t.backfill_days.c
    found = select(b.backfill_id, b.day, b.subscribers, b.again)
    found = found.where(b.source_url == source_url, b.settled_at.is_(None))
    if backfill_id is not None:
        found = found.where(b.backfill_id == backfill_id)
    rows = tx.execute(found.order_by(b.day, b.backfill_id))
    return [AskedDay(row.backfill_id, row.day, Asked(tuple(json.loads(row.subscribers)), row.again)) for row in rows]
