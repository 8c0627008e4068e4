"""What the ledger keeps of a source: its number, and how far it is listed.

The ledger alone says how far a source is listed; the cursor of ``new_files`` only shows it.

              after                 next listing  frontier
    ────────────┬─────────────────────────┬───────────┬───────────────▶ keys
      planned   │ may hold files that     │ planned   │ not listed yet
                │ no run has listed       │           │

The next listing begins at the frontier less the lookback.
"""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, insert, select, update

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


def source_id(tx: Connection, url: str) -> int | None:
    """The ledger's number of the source at *url*; None where it was never seen."""
    return tx.execute(select(t.sources.c.id).where(t.sources.c.url == url)).scalar()


def add_source(tx: Connection, url: str) -> int:
    """Give the source at *url* its number."""
    found = source_id(tx, url)
    if found is not None:
        return found
    added = insert(t.sources).values(url=url, more_to_list=False).returning(t.sources.c.id)
    return int(tx.execute(added).scalar_one())


def listing_state(tx: Connection, source_id: int) -> ListingState:
    """How far the listing of a source is."""
    s = t.sources.c
    columns = (s.frontier, s.listing_after, s.complete_at, s.start_date, s.listed_at, s.listing_began_at)
    frontier, after, *times = tx.execute(select(*columns).where(s.id == source_id)).one()
    return ListingState(frontier or "", after or "", *times)


def set_listing_state(tx: Connection, source_id: int, to: ListingState) -> None:
    """Write down how far it is."""
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
    return bool(tx.execute(select(t.sources.c.more_to_list).where(t.sources.c.id == source_id)).scalar())


def hold_still(tx: Connection, source_id: int) -> None:
    """Keep others, to the end of this transaction, from owing manifests of a source or from ending their lives.

    Who adds a subscriber looks for the living manifests, and who sets files apart or gives up looks for those that wait
    for a manifest. PostgreSQL lets both look at what was before the other: the newcomer would be owed what lives no
    longer, and never what took its place. On SQLite one transaction writes at a time anyway.
    """
    tx.execute(select(t.sources.c.id).where(t.sources.c.id == source_id).with_for_update(key_share=True))
