"""Find the source's new files and plan them: all that the op ``list_new_files`` does, in plain Python.

The cursor says where listing starts, the ledger says what is known. So a cursor that is lost, moved back or overwritten
costs a longer listing and nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import listings, planning, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.listings import ListingState
from export_pipeline.ledger.planning import DatedFile, PlanLimits
from export_pipeline.ledger.subscriptions import Registration
from export_pipeline.source.layout import Layout
from export_pipeline.source.store import Source
from export_pipeline.steps.listing import Found, Walk, unknown, utf8, with_days
from export_pipeline.steps.progress import Progress

OTHER_PLANNER_SECONDS = 900


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """What the deployment file says about finding files.

    Attributes:
        prefix: the source's path in its bucket. Cursors are relative to it, but a person may paste a whole key.
    """

    layout: Layout
    start_date: date
    lookback: timedelta
    on_overwrite: str
    start_from: str
    limits: PlanLimits
    prefix: str


def discover(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    *,
    cursor: str,
    wanted: dict[str, str | None],
    max_files: int,
    run_id: str,
    now: datetime,
    progress: Progress | None = None,
) -> Found:
    """List what is new since *cursor* less the lookback, and plan at most *max_files* of it.

    Args:
        cursor: where the last listing ended; empty: nowhere yet.
        wanted: the configured subscribers and their ``since``.
        now: aware; a cursor beyond it (a file dated in the future) does not move the listing beyond it.
        progress: told how many keys were listed, as files.

    Raises:
        ListingFailed: the source could not be listed; nothing was planned.
    """
    with planning_alone(source, ledger):
        number, registration = register(source, ledger, wanted, start_from=settings.start_from, now=now)
        found = Found(cursor=cursor, notes=registration.notes, subscriptions=registration.subscriptions)
        start = listing_start(found, settings, registration, now)
        found.since = settings.layout.key_floor(start) if start else ""
        after = settings.layout.start_after(start) if start else ""
        with ledger.read() as tx:
            state = listings.state(tx, number)
        # What began before the cursor, for a subscriber that starts earlier, may take several runs.
        goes_on = bool(state.after) and utf8(state.after) < utf8(after)
        if goes_on:
            found.since = after = state.after
        walk = Walk(source, after=after, layout=settings.layout)
        new, ignored, last_key = list_new(walk, ledger, number, settings, found, max_files=max_files, progress=progress)
        unfinished = found.more and (goes_on or registration.list_again)
        state = replace(
            state,
            after=last_key if unfinished else "",
            began_at=(state.began_at or now) if unfinished else None,
        )
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
    return found


@contextmanager
def planning_alone(source: Source, ledger: Ledger) -> Iterator[None]:
    """Inside the block no other process plans files of *source*.

    Raises:
        LedgerError: another one has been planning for a quarter of an hour.
    """
    with ledger.claims.claim(f"plan:{source.url}", wait_seconds=OTHER_PLANNER_SECONDS) as mine:
        if not mine:
            raise LedgerError(f"another run has been listing {source.url} for {OTHER_PLANNER_SECONDS} s")
        yield


def register(
    source: Source, ledger: Ledger, wanted: dict[str, str | None], *, start_from: str, now: datetime
) -> tuple[int, Registration]:
    """The source's number, and its subscriptions made those that are *wanted*. Writes only what changed."""
    with ledger.read() as tx:
        number = subscriptions.source_id(tx, source.url)
        if number is not None and subscriptions.is_registered(tx, number, wanted):
            found = {subscription.name: subscription for subscription in subscriptions.active(tx, number)}
            return number, Registration(tuple(found[name] for name in wanted), (), list_again=False, list_from=None)
    with ledger.write(durable=True) as tx:
        number = subscriptions.add_source(tx, source.url)
        return number, subscriptions.register(tx, number, wanted, start_from=start_from, now=now)


def listing_start(
    found: Found, settings: DiscoverySettings, registration: Registration, latest: datetime
) -> datetime | None:
    """The moment of the first keys to list; None: list from the very first key.

    Args:
        latest: aware; a cursor beyond it counts as one of this moment.
    """
    starts = [subscription.first_day for subscription in registration.subscriptions]
    bounds = [settings.start_date] + ([min(day for day in starts if day)] if starts and all(starts) else [])
    first_wanted = _midnight(max(bounds)) - (settings.lookback if len(bounds) > 1 else timedelta())
    beginning = max(first_wanted, _midnight(settings.start_date))
    if settings.prefix and settings.layout.moment_of(found.cursor) is None:
        found.cursor = found.cursor.removeprefix(f"{settings.prefix.strip('/')}/")
    moment = settings.layout.moment_of(found.cursor) if found.cursor else None
    if found.cursor and moment is None:
        found.bad_cursor = found.cursor
        found.cursor = ""
    if moment is not None:
        beginning = max(beginning, min(moment, latest) - settings.lookback)
    if registration.list_again:
        again = registration.list_from or settings.start_date
        beginning = min(beginning, max(_midnight(again), _midnight(settings.start_date)))
    # The very first listing starts at the very first key, so that it can tell what it does not take.
    nothing_yet = moment is None and len(bounds) == 1 and not found.bad_cursor
    return None if nothing_yet else beginning


def list_new(
    walk: Walk,
    ledger: Ledger,
    number: int,
    settings: DiscoverySettings,
    found: Found,
    *,
    max_files: int,
    progress: Progress | None,
) -> tuple[list[DatedFile], list[DatedFile], str]:
    """The new files of *walk*, at most *max_files*; known keys with new content that are ignored; the last key seen.

    Counts into *found*, and moves its cursor.
    """
    new: list[DatedFile] = []
    ignored: list[DatedFile] = []
    last_key = ""

    def watched() -> Iterator[DatedFile]:
        nonlocal last_key
        for one in with_days(walk, settings.layout, found):
            if one.day < settings.start_date:
                found.too_old += 1
                continue
            last_key = one.file.key
            yield one

    for one, overwrites in unknown(watched(), ledger, number, found, progress):
        if overwrites and settings.on_overwrite == "ignore":
            ignored.append(one)
            continue
        if not any(subscription.owes(one.file, one.day) for subscription in found.subscriptions):
            continue
        if len(new) == max_files:
            found.more = True
            last_key = new[-1].file.key
            break
        new.append(one)
    found.files += len(new)
    found.cursor = max(found.cursor, last_key, key=utf8)
    if walk.is_cut and not found.more:
        found.more, last_key = True, walk.last_key
    return new, ignored, last_key


def plan_new(
    source: Source,
    ledger: Ledger,
    number: int,
    settings: DiscoverySettings,
    found: Found,
    *,
    new: list[DatedFile],
    ignored: list[DatedFile],
    run_id: str,
    now: datetime,
    listing: ListingState | None = None,
) -> None:
    """Write down what was found, in one transaction; nothing where there is nothing.

    Args:
        new, ignored: in key order.
        listing: how far it is now; None: as before.
    """
    with ledger.read() as tx:
        changed = planning.more_to_list(tx, number) != found.more
        changed = changed or (listing is not None and listings.state(tx, number) != listing)
    if not (new or ignored or changed):
        return
    with ledger.write(durable=True) as tx:
        planned = planning.plan(
            tx,
            source=number,
            url=source.url,
            files=new,
            subscriptions=found.subscriptions,
            limits=settings.limits,
            run_id=run_id,
            now=now,
        )
        planning.note_ignored(
            tx, source=number, files=ignored, note="known key with new content; on_overwrite: ignore", now=now
        )
        planning.set_more_to_list(tx, number, found.more)
        if listing is not None:
            listings.set_state(tx, number, listing)
    found.manifests += len(planned)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
