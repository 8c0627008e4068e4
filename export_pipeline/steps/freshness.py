"""How old the oldest file is that should be further by now: the check ``freshness``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from export_pipeline.ledger import identity, listings, owed, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.listings import ListingState
from export_pipeline.ledger.owed import Waiting
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import DiscoverySettings
from export_pipeline.steps.listing import Found, dated, unknown
from export_pipeline.steps.next_listing import next_listing

MOST_UNLISTED = 10_000


@dataclass(frozen=True, slots=True)
class Freshness:
    """What waits, in the source and for each subscriber.

    Attributes:
        since: what keys begin with where the next listing begins; empty: at the very first key. What lies before that
            was not looked for.
        unlisted: files that no run has found yet; the count stops at ``MOST_UNLISTED``.
        oldest_unlisted: when the oldest of them arrived; None: there is none.
        first_unlisted_key: the first of them; empty: there is none.
        waiting: what each subscriber is owed; empty in a ledger that no run has used.
    """

    since: str
    unlisted: int
    oldest_unlisted: datetime | None
    first_unlisted_key: str
    waiting: Sequence[Waiting]


def look(source: Source, ledger: Ledger, settings: DiscoverySettings, *, cursor: str, now: datetime) -> Freshness:
    """List what the next runs will, and ask the ledger what it owes. Changes nothing.

    Raises:
        ListingFailed: the source could not be listed.
    """
    with ledger.read() as tx:
        number = subscriptions.source_id(tx, source.url)
        known = subscriptions.active(tx, number) if number is not None else ()
        waiting = owed.waiting(tx, number, known) if number is not None else []
        begin = next_listing(
            settings,
            listings.state(tx, number) if number is not None else ListingState(),
            known,
            cursor=cursor,
            mark=identity.mark(tx, source.url),
            now=now,
        )
    listing = dated(source, settings.layout, Found(), after=begin.first, before=_end(settings, now))
    wanted = (
        one
        for one, overwrites in unknown(listing, ledger, number or 0, Found())
        if one.day >= settings.start_date
        and not (overwrites and settings.on_overwrite == "ignore")
        and (not known or any(subscription.owes(one.file, one.day) for subscription in known))
    )
    unlisted = list(islice(wanted, MOST_UNLISTED))
    return Freshness(
        since=settings.layout.floor_after(begin.first) if begin.first else "",
        unlisted=len(unlisted),
        oldest_unlisted=min((one.file.last_modified for one in unlisted), default=None),
        first_unlisted_key=unlisted[0].file.key if unlisted else "",
        waiting=waiting,
    )


def _end(settings: DiscoverySettings, now: datetime) -> str:
    # Two days on: keys may be named by a clock or a zone ahead of this one.
    return settings.layout.next_day_floor(now.date() + timedelta(days=2))
