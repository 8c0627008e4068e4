"""Find new files by the messages of a queue, and list the source now and then to fill the gaps.

A message may be lost: the bucket's configuration was changed, the queue kept it for too short a time, somebody purged
it. So the source is listed too, first of all, then once a day. Such a listing goes on over several runs where it is
long, from the key at which the last one stopped; it never begins anew before it came to its end.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.listings import ListingState
from export_pipeline.source.file import utf8
from export_pipeline.source.queue import Queue
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import Discovery, DiscoverySettings, discovery
from export_pipeline.steps.listing import Found
from export_pipeline.steps.messages import LEAST_MESSAGES, MessageTaker, Taken
from export_pipeline.steps.next_listing import NextListing
from export_pipeline.steps.progress import Progress

MOST_KEYS = 1_000_000
"""Keys that one run lists at most: 1,000 requests, some ten seconds, and what is left to the next one."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """How a source tells of new files.

    Attributes:
        bucket: as its messages name it.
        list_now: list whether it is time or not.
    """

    queue: Queue
    bucket: str
    listing_every: timedelta
    quarantine: Quarantine
    list_now: bool = False
    most_keys: int = MOST_KEYS


@dataclass(frozen=True, slots=True)
class Noticed:
    """What one run found.

    Attributes:
        found: by messages and listing together; ``since`` is where the listing began.
        taken: what the messages came to.
        why_listed: why the source was listed; empty: it was not.
        is_listed_to_the_end: no listing is under way.
        next_listing_at: when the next one is due.
    """

    found: Found
    taken: Taken
    why_listed: str
    is_listed_to_the_end: bool
    next_listing_at: datetime


def discover_notified(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    notifications: Notifications,
    *,
    cursor: str,
    wanted: dict[str, str | None],
    max_files: int,
    run_id: str,
    now: datetime,
    progress: Progress | None = None,
) -> Noticed:
    """List if it is time, then take messages; plan at most *max_files* of both.

    Args:
        cursor: the text on the page of the sensor ``new_files``, which may make a listing longer. Messages do not move
            it.
        wanted: the configured subscribers and their ``since``.
        now: aware.
        progress: told how many keys were listed, as files.

    Raises:
        ListingFailed: the source could not be listed; nothing was planned.
        QueueFailed: the queue did not answer well; what was planned stays owed.
    """
    settings = replace(settings, follows_messages=True)
    with discovery(source, ledger, settings, cursor=cursor, wanted=wanted, run_id=run_id, now=now) as one:
        begin = one.begin()
        why = _why_list(one.state, begin, notifications, now)
        one.found.more = one.more_before
        if why:
            # Where it was listed to its end before, new files come by messages: they get half of a run at least, and do
            # not wait for years of a past that one subscriber wants. What the queue does comes second all the same, or
            # one that fails would keep the listing from filling the gaps.
            most = max(1, max_files // 2) if one.state.listed_at else max_files
            _list(one, begin, notifications, max_files=most, progress=progress)
        taker = MessageTaker(one, notifications.queue, bucket=notifications.bucket, quarantine=notifications.quarantine)
        taker.take(max_files=max_files - one.found.files, most_messages=max(LEAST_MESSAGES, 10 * max_files))
        one.found.more = bool(one.state.after) or taker.taken.more
        one.plan([])
    due = (one.state.listed_at or now) + notifications.listing_every
    return Noticed(one.found, taker.taken, why, not one.state.after, due)


def _list(
    one: Discovery,
    begin: NextListing,
    notifications: Notifications,
    *,
    max_files: int,
    progress: Progress | None,
) -> None:
    """List and plan what a run may, and write down how far that came."""
    before = one.state
    one.found.more = False
    after = begin.first
    if before.began_at and not notifications.list_now:
        # It goes on where it stopped, or it would never come to its end.
        after = min(before.after, begin.past_after or before.after, key=utf8)
    if after != begin.after:
        one.found.since = one.settings.layout.floor_after(after)
    walk = one.walk(after, most_keys=notifications.most_keys)
    new, last_key = one.list_new(walk, max_files=max_files, progress=progress)
    began_at = before.began_at or one.now
    if one.found.more:
        listing = one.listed(after=last_key, began_at=began_at, complete_at=before.complete_at)
    else:
        listing = one.listed(after="", began_at=None, complete_at=began_at, listed_at=began_at)
    one.plan(new, listing=listing)


def _why_list(state: ListingState, begin: NextListing, notifications: Notifications, now: datetime) -> str:
    """Why to list in this run; empty: it is not time."""
    reasons = {
        "it was asked for": notifications.list_now,
        "the last listing goes on where it stopped": state.began_at is not None,
        "a subscriber begins earlier than before": bool(state.after),
        "it was to begin earlier, by the cursor or by source.start_date": bool(begin.past_after),
        "it never was listed to its end": state.listed_at is None,
    }
    if state.listed_at is not None:
        # Also where that was by a clock far ahead: there would be no listing until this one has caught up.
        is_due = abs(now - state.listed_at) >= notifications.listing_every
        reasons[f"it was last listed at {state.listed_at:%Y-%m-%d %H:%M} UTC"] = is_due
    return next((reason for reason, holds in reasons.items() if holds), "")
