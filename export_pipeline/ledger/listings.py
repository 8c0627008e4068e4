"""How far the listing of a source is, where notifications tell of new files and listing only fills the gaps."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from export_pipeline.ledger import tables as t


@dataclass(frozen=True, slots=True)
class ListingState:
    """How far listing is.

    Attributes:
        listed_at: when the last listing began that came to its end; None: none ever did.
        began_at: when the one began that is under way; None: none is.
        after: the key behind which that one goes on. Without one under way: where the next one begins at the latest,
            since a subscriber wants what no earlier one had to find. Empty: neither.
    """

    listed_at: datetime | None = None
    began_at: datetime | None = None
    after: str = ""


def state(tx: Connection, source: int) -> ListingState:
    """How far the listing of *source* is."""
    s = t.sources.c
    row = tx.execute(select(s.listed_at, s.listing_began_at, s.listing_after).where(s.id == source)).one()
    return ListingState(row.listed_at, row.listing_began_at, row.listing_after or "")


def set_state(tx: Connection, source: int, to: ListingState) -> None:
    """Write down how far it is."""
    tx.execute(
        update(t.sources)
        .where(t.sources.c.id == source)
        .values(listed_at=to.listed_at, listing_began_at=to.began_at, listing_after=to.after or None)
    )
