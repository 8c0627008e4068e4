"""How far a source is listed. The ledger alone says so; the cursor of ``new_files`` only shows it.

listing_after                     frontier
──────────┬─────────────────────┬──────────┬──────────▶ keys
planned  │  may hold files     │ planned  │ not listed yet
│  that no run listed │
└ frontier less the lookback: where the next listing begins
"""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, select, update

from export_pipeline.ledger import tables as t


@dataclass(frozen=True, slots=True)
class ListingState:
    """How far listing is.

    Attributes:
        frontier: every key up to this one was listed, and planned where somebody is owed it, except what ``after``
            says; never dated in the future. Empty: nothing was listed yet.
        after: behind this key, and before where the next listing begins, keys may be unlisted: a subscriber or a person
            wants what no earlier listing had to find, or a listing stopped at its limit. Empty: none are.
        complete_at: when the last listing began that came to the end of the source; None: none did yet.
        start_date: ``source.start_date`` when the source was last listed; None: it never was.
        listed_at: with notifications, when the last listing began that came to its end; None: none ever did.
        began_at: when the listing of what ``after`` says began; None: none is under way.
    """

    frontier: str = ""
    after: str = ""
    complete_at: datetime | None = None
    start_date: date | None = None
    listed_at: datetime | None = None
    began_at: datetime | None = None


def state(tx: Connection, source: int) -> ListingState:
    """How far the listing of *source* is."""
    s = t.sources.c
    columns = (s.frontier, s.listing_after, s.complete_at, s.start_date, s.listed_at, s.listing_began_at)
    frontier, after, *times = tx.execute(select(*columns).where(s.id == source)).one()
    return ListingState(frontier or "", after or "", *times)


def set_state(tx: Connection, source: int, to: ListingState) -> None:
    """Write down how far it is."""
    tx.execute(
        update(t.sources)
        .where(t.sources.c.id == source)
        .values(
            frontier=to.frontier or None,
            listing_after=to.after or None,
            complete_at=to.complete_at,
            start_date=to.start_date,
            listed_at=to.listed_at,
            listing_began_at=to.began_at,
        )
    )
