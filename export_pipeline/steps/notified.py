"""Find new files by the messages of a queue, and list the source now and then to fill the gaps.

A message may be lost: the bucket's configuration was changed, the queue kept it for too short a time, somebody purged
it. So the source is listed too, first of all, then once a day. Such a listing goes on over several runs where it is
long, from the key at which the last one stopped; it never begins anew before it came to its end.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.ledger import listings, planning
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.listings import ListingState
from export_pipeline.ledger.subscriptions import Registration
from export_pipeline.source.queue import Queue
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import (
    DiscoverySettings,
    list_new,
    listing_start,
    plan_new,
    planning_alone,
    register,
)
from export_pipeline.steps.listing import Found, Walk
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
    with planning_alone(source, ledger):
        number, registration = register(source, ledger, wanted, start_from=settings.start_from, now=now)
        found = Found(cursor=cursor, notes=registration.notes, subscriptions=registration.subscriptions)
        with ledger.read() as tx:
            state = listings.state(tx, number)
            more_before = planning.more_to_list(tx, number)
        why = _why_list(state, registration, notifications, now)
        found.more = more_before
        if why:
            found.more = False
            goes_on = bool(state.after) and why == _GOES_ON
            after = state.after if goes_on else _begin(found, settings, registration, state, now)
            found.since = found.since or after
            walk = Walk(source, after=after, layout=settings.layout, most_keys=notifications.most_keys)
            new, ignored, last_key = list_new(
                walk, ledger, number, settings, found, max_files=max_files, progress=progress
            )
            began_at = state.began_at if goes_on and state.began_at else now
            state = ListingState(state.listed_at, began_at, last_key) if found.more else ListingState(began_at)
            plan_new(
                source,
                ledger,
                number,
                settings,
                found,
                new=new,
                ignored=ignored,
                run_id=run_id,
                now=now,
                listing=state,
            )
        taker = MessageTaker(
            source,
            ledger,
            settings,
            notifications.queue,
            bucket=notifications.bucket,
            quarantine=notifications.quarantine,
            number=number,
            found=found,
            run_id=run_id,
            now=now,
        )
        taker.take(max_files=max_files - found.files, most_messages=max(LEAST_MESSAGES, 10 * max_files))
        found.more = bool(state.after) or taker.taken.more
        plan_new(source, ledger, number, settings, found, new=[], ignored=[], run_id=run_id, now=now)
    due = (state.listed_at or now) + notifications.listing_every
    return Noticed(found, taker.taken, why, not state.after, due)


_GOES_ON = "the last listing goes on where it stopped"


def _why_list(state: ListingState, registration: Registration, notifications: Notifications, now: datetime) -> str:
    """Why to list in this run; empty: it is not time."""
    if notifications.list_now:
        return "it was asked for"
    if registration.list_again:
        return "a subscriber begins earlier than before"
    if state.after:
        return _GOES_ON
    if state.listed_at is None:
        return "it never was listed to its end"
    if now - state.listed_at >= notifications.listing_every:
        return f"it was last listed at {state.listed_at:%Y-%m-%d %H:%M} UTC"
    return ""


def _begin(
    found: Found, settings: DiscoverySettings, registration: Registration, state: ListingState, now: datetime
) -> str:
    """The string to list after.

    A late file may come, without a message, right after the last listing has passed its place. So the lookback counts
    from when that listing began, and not from the last key that it came to.
    """
    start = listing_start(found, settings, registration, min(now, state.listed_at or now))
    found.since = settings.layout.key_floor(start) if start else ""
    return settings.layout.start_after(start) if start else ""
