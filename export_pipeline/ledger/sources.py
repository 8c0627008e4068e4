"""What the ledger keeps of a source: its number, and how far it has been listed.

Only the ledger decides how far a source has been listed; the cursor of ``new_files`` only shows it.

              after                 next listing  frontier
    ────────────┬─────────────────────────┬───────────┬───────────────▶ keys
      planned   │ may hold files that     │ planned   │ not listed yet
                │ no run has listed       │           │

The next listing begins at the frontier minus the lookback.
"""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, insert, inspect, select, update
from sqlalchemy.exc import SQLAlchemyError

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import asked_briefly


@dataclass(frozen=True, slots=True)
class ListingState:
    """The progress of the listing.

    Attributes:
        frontier: every key up to this one was listed, and planned if any subscriber is owed it, except as ``after``
            says; never dated in the future. Empty: nothing was listed yet.
        after: after this key, and before the start of the next listing, keys may be unlisted: a subscriber or a user
            wants what no earlier listing had to find, or a listing stopped at its limit. Empty: none are.
        complete_at: start of the last listing that reached the end of the source; None: none did yet.
        start_date: ``source.start_date`` when the source was last listed; None: it never was.
        listed_at: with notifications, start of the last listing that reached its end; None: none did yet.
        began_at: start of the listing that ``after`` describes; None: none is in progress.
    """

    frontier: str = ""
    after: str = ""
    complete_at: datetime | None = None
    start_date: date | None = None
    listed_at: datetime | None = None
    began_at: datetime | None = None


def source_id(tx: Connection, url: str) -> int | None:
    """The ledger's number of the source at *url*; None if it was never seen."""
    return tx.execute(_id_of_url(), {"url": url}).scalar()


# The statements of every run are built once: that takes as long as executing them.
@cache
def _id_of_url() -> Select[int]:
    return select(t.sources.c.id).where(t.sources.c.url == bindparam("url"))


@cache
def _column(name: str) -> Select[Any]:
    return select(t.sources.c[name]).where(t.sources.c.id == bindparam("source_id"))


@cache
def _listing_state() -> Select[Any]:
    s = t.sources.c
    columns = (s.frontier, s.listing_after, s.complete_at, s.start_date, s.listed_at, s.listing_began_at)
    return select(*columns).where(s.id == bindparam("source_id"))


def add_source(tx: Connection, url: str) -> int:
    """Assign a number to the source at *url*."""
    found = source_id(tx, url)
    if found is not None:
        return found
    added = insert(t.sources).values(url=url, more_to_list=False).returning(t.sources.c.id)
    return int(tx.execute(added).scalar_one())


def listing_state(tx: Connection, source_id: int) -> ListingState:
    """How far a source has been listed."""
    frontier, after, *times = tx.execute(_listing_state(), {"source_id": source_id}).one()
    return ListingState(frontier or "", after or "", *times)


def set_listing_state(tx: Connection, source_id: int, to: ListingState) -> None:
    """Record how far it has been listed."""
    tx.execute(
        update(t.sources)
        .where(t.sources.c.id == source_id)
        .values(
            frontier=to.frontier or None,
            listing_after=to.after or None,
            complete_at=to.complete_at,
            start_date=to.start_date,
            listed_at=to.listed_at,
            listing_began_at=to.began_at,
        )
    )


def set_more_to_list(tx: Connection, source_id: int, more: bool) -> None:
    """Tell the sensor whether the last listing stopped at its limit."""
    tx.execute(update(t.sources).where(t.sources.c.id == source_id).values(more_to_list=more))


def more_to_list(tx: Connection, source_id: int) -> bool:
    """Whether the last listing stopped at its limit."""
    return bool(tx.execute(_column("more_to_list"), {"source_id": source_id}).scalar())


def first_day(tx: Connection, source_id: int) -> date | None:
    """The day of the first file of a source; None if unknown."""
    found: date | None = tx.execute(_column("first_day"), {"source_id": source_id}).scalar()
    return found


def set_first_day(tx: Connection, source_id: int, day: date) -> None:
    """Record the day of the first file of a source."""
    tx.execute(update(t.sources).where(t.sources.c.id == source_id).values(first_day=day))


def lower_first_day(tx: Connection, source_id: int, day: date) -> None:
    """Record that there is a file of *day*, if that is earlier than the first day known so far."""
    s = t.sources.c
    tx.execute(update(t.sources).where(s.id == source_id, s.first_day > day).values(first_day=day))


def first_day_at(ledger_url: str, source_url: str) -> date | None:
    """As :func:`first_day`, of a ledger that may be missing, older, newer or out of reach; takes seconds at most.

    It creates and migrates nothing.

    Returns:
        None: there is no ledger, or it does not know.

    Raises:
        ConfigurationError: the URL is invalid.
        LedgerError: it could not be asked.
    """
    try:
        with asked_briefly(ledger_url) as connection:
            if connection is None or not inspect(connection).has_table(t.sources.name):
                return None
            found = select(t.sources.c.first_day).where(t.sources.c.url == source_url)
            day: date | None = connection.execute(found).scalar()
            return day
    except SQLAlchemyError as error:
        # Its text could contain the password.
        raise LedgerError(f"the ledger could not be asked: {type(error).__name__}") from None


def hold_still(tx: Connection, source_id: int) -> None:
    """Until the end of this transaction, keep others from owing manifests of a source, or from closing them.

    Adding a subscriber reads the living manifests, and isolating files or giving up reads who is owed a manifest.
    PostgreSQL lets both see the state before the other: the new subscriber would be owed replaced manifests, and
    never their replacements. On SQLite only one transaction writes at a time anyway.
    """
    tx.execute(select(t.sources.c.id).where(t.sources.c.id == source_id).with_for_update(key_share=True))
