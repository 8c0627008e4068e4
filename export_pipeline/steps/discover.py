"""Find the source's new files and plan them: all that the op ``list_new_files`` does, in plain Python.

The cursor says where listing starts, the ledger says what is known. So a cursor that is lost, moved back or overwritten
costs a longer listing and nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from itertools import islice

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import folding, planning, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.planning import DatedFile, PlanLimits
from export_pipeline.ledger.subscriptions import Registration, Subscription
from export_pipeline.source.layout import Layout
from export_pipeline.source.store import Source
from export_pipeline.steps.progress import Progress

_COMPARED_AT_ONCE = 1_000
OTHER_PLANNER_SECONDS = 900
# Sorts after every key that can match a layout: what lies behind it (Firehose's error folder, say) need not be listed.
_LAST_MOMENT = datetime(9999, 12, 31, 23, 59, tzinfo=timezone.utc)
_SHOWN_KEYS = 5


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


@dataclass(slots=True)
class Found:
    """What one listing came to.

    Attributes:
        since: what keys began with where the listing started; empty: at the very first key.
        cursor: the key up to which everything is planned; empty while no file was ever found.
        files: how many new files were planned.
        manifests: into how many manifests.
        more: at least one more new file waits behind ``max_files``.
        undated, undated_keys: how many keys do not match the layout, and the first of them.
        too_old: how many files are older than ``start_date``.
        overwritten, overwritten_keys: how many known keys came with new content, and the first of them.
        notes: sentences about subscribers that came, went or moved their start.
        bad_cursor: a cursor that is no key of this layout, so that it could not be used.
    """

    since: str = ""
    cursor: str = ""
    files: int = 0
    manifests: int = 0
    more: bool = False
    undated: int = 0
    undated_keys: list[str] = field(default_factory=list)
    too_old: int = 0
    overwritten: int = 0
    overwritten_keys: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    bad_cursor: str = ""
    subscriptions: tuple[Subscription, ...] = ()


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
    with ledger.claims.claim(f"plan:{source.url}", wait_seconds=OTHER_PLANNER_SECONDS) as mine:
        if not mine:
            raise LedgerError(f"another run has been listing {source.url} for {OTHER_PLANNER_SECONDS} s")
        number, registration = register(source, ledger, wanted, start_from=settings.start_from, now=now)
        found = Found(cursor=cursor, notes=registration.notes, subscriptions=registration.subscriptions)
        start = _listing_start(found, settings, registration, now)
        found.since = settings.layout.key_floor(start) if start else ""
        after = settings.layout.start_after(start) if start else ""
        new, ignored = _list_new(
            source, ledger, number, settings, found, after=after, max_files=max_files, progress=progress
        )
        _plan(source, ledger, number, settings, found, new=new, ignored=ignored, run_id=run_id, now=now)
    return found


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


def dated(source: Source, layout: Layout, found: Found, *, after: str, before: str) -> Iterator[DatedFile]:
    """The listing from *after* to *before*, each file with its day; keys without one are counted and left out."""
    for file in source.list_files(after=after, before=before):
        day = layout.date_of(file.key)
        if day is None:
            found.undated += 1
            if len(found.undated_keys) < _SHOWN_KEYS:
                found.undated_keys.append(file.key)
            continue
        yield DatedFile(file, day)


def unknown(
    files: Iterator[DatedFile], ledger: Ledger, number: int, found: Found, progress: Progress | None = None
) -> Iterator[tuple[DatedFile, bool]]:
    """The files that the ledger does not know, and whether it knows their key with other content."""
    while chunk := list(islice(files, _COMPARED_AT_ONCE)):
        if progress is not None:
            progress.advance(files=len(chunk))
        with ledger.read() as tx:
            first_key, last_key = chunk[0].file.key, chunk[-1].file.key
            known = planning.known_etags(tx, number, first_key=first_key, last_key=last_key)
            days = {one.day for one in chunk}
            folded = folding.near(tx, number, first_key=first_key, last_key=last_key, days=days)
        for one in chunk:
            etags = known.get(one.file.key, ())
            if one.file.etag in etags or folded.manifest_of(one.file):
                continue
            if not etags and not folded.has_key(one.file.key):
                yield one, False
            else:
                found.overwritten += 1
                if len(found.overwritten_keys) < _SHOWN_KEYS:
                    found.overwritten_keys.append(one.file.key)
                yield one, True


def _listing_start(
    found: Found, settings: DiscoverySettings, registration: Registration, now: datetime
) -> datetime | None:
    """The moment of the first keys to list; None: list from the very first key."""
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
        beginning = max(beginning, min(moment, now) - settings.lookback)
    if registration.list_again:
        again = registration.list_from or settings.start_date
        beginning = min(beginning, max(_midnight(again), _midnight(settings.start_date)))
    # The very first listing starts at the very first key, so that it can tell what it does not take.
    nothing_yet = moment is None and len(bounds) == 1 and not found.bad_cursor
    return None if nothing_yet else beginning


def _list_new(
    source: Source,
    ledger: Ledger,
    number: int,
    settings: DiscoverySettings,
    found: Found,
    *,
    after: str,
    max_files: int,
    progress: Progress | None,
) -> tuple[list[DatedFile], list[DatedFile]]:
    new: list[DatedFile] = []
    ignored: list[DatedFile] = []
    last_key = ""
    behind_all = settings.layout.key_floor(_LAST_MOMENT) + "\U0010ffff"

    def watched() -> Iterator[DatedFile]:
        nonlocal last_key
        for one in dated(source, settings.layout, found, after=after, before=behind_all):
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
    found.files = len(new)
    found.cursor = max(found.cursor, last_key, key=_utf8)
    return new, ignored


def _plan(
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
) -> None:
    with ledger.read() as tx:
        changed = planning.more_to_list(tx, number) != found.more
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
    found.manifests = len(planned)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def _utf8(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
