"""Find new files by the messages of a queue, and list the source now and then to fill the gaps.

A message may be lost: the bucket's configuration was changed, the queue kept it for too short a time, somebody purged
it. So the source is listed too, first of all, then once a day. Such a listing goes on over several runs where it is
long, from the key at which the last one stopped; it never begins anew before it came to its end.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.listings import ListingState
from export_pipeline.source.queue import Queue
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import Discovery, DiscoverySettings, discovery
from export_pipeline.steps.listing import Found, utf8
from export_pipeline.steps.messages import LEAST_MESSAGES, MessageTaker, Taken
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
        cursor: where the last listing ended; empty: nowhere yet. Messages do not move it.
        wanted: the configured subscribers and their ``since``.
        now: aware.
        progress: told how many keys were listed, as files.

    Raises:
        ListingFailed: the source could not be listed; nothing was planned.
        QueueFailed: the queue did not answer well; what was planned stays owed.
    """
    with discovery(source, ledger, settings, cursor=cursor, wanted=wanted, run_id=run_id, now=now) as one:
        why = _why_list(one.state, notifications, now)
        one.found.more = one.more_before
        if why:
            # Where it was listed to its end before, new files come by messages: they get half of a run at least, and do
            # not wait for years of a past that one subscriber wants. What the queue does comes second all the same, or
            # one that fails would keep the listing from filling the gaps.
            most = max(1, max_files // 2) if one.state.listed_at else max_files
            _list(one, notifications, max_files=most, progress=progress)
        taker = MessageTaker(one, notifications.queue, bucket=notifications.bucket, quarantine=notifications.quarantine)
        taker.take(max_files=max_files - one.found.files, most_messages=max(LEAST_MESSAGES, 10 * max_files))
        one.found.more = bool(one.state.after) or taker.taken.more
        one.plan([])
    due = (one.state.listed_at or now) + notifications.listing_every
    return Noticed(one.found, taker.taken, why, not one.state.after, due)


def _list(one: Discovery, notifications: Notifications, *, max_files: int, progress: Progress | None) -> None:
    """List and plan what a run may, and write down how far that came."""
    before = one.state
    one.found.more = False
    after = before.after
    if notifications.list_now or not before.began_at:
        # A late file may come, without a message, right after the last listing has passed its place. So the lookback
        # counts from when that listing began, and not from the last key that it came to.
        start = one.start(min(one.now, before.listed_at or one.now))
        after = min(before.after or start, start, key=utf8)
    walk = one.walk(after, most_keys=notifications.most_keys)
    new, last_key = one.list_new(walk, max_files=max_files, progress=progress)
    began_at = before.began_at or one.now
    one.plan(
        new, listing=ListingState(before.listed_at, began_at, last_key) if one.found.more else ListingState(began_at)
    )


def _why_list(state: ListingState, notifications: Notifications, now: datetime) -> str:
    """Why to list in this run; empty: it is not time."""
    if notifications.list_now:
        return "it was asked for"
    if state.began_at is not None:
        return "the last listing goes on where it stopped"
    if state.after:
        return "a subscriber begins earlier than before"
    if state.listed_at is None:
        return "it never was listed to its end"
    # Also where it was by a clock that was far ahead: there would be no listing until this one has caught up.
    if abs(now - state.listed_at) >= notifications.listing_every:
        return f"it was last listed at {state.listed_at:%Y-%m-%d %H:%M} UTC"
    return ""
