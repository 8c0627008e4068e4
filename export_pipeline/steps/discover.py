"""Find the source's new files and plan them: all that the op ``list_new_files`` does, in plain Python.

:mod:`export_pipeline.steps.next_listing` decides where a listing begins; :mod:`export_pipeline.ledger.known` says what
is known. This module compares the two, and records the result in one transaction.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from itertools import islice

from sqlalchemy import Connection

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import database, known, planning, sources, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import DatedFile, PlanLimits, Run, Subscription
from export_pipeline.ledger.sources import ListingState
from export_pipeline.ledger.subscriptions import Registration
from export_pipeline.source.file import SourceFile, utf8
from export_pipeline.source.layout import Layout
from export_pipeline.source.store import Source
from export_pipeline.steps.next_listing import Cursor, ListingRules, NextListing, midnight, next_listing
from export_pipeline.steps.progress import Progress

_COMPARED_AT_ONCE = 1_000
# Sorts after every key that can match a layout: keys after it (Firehose's error folder, say) need not be listed.
_LAST_MOMENT = datetime(9999, 12, 31, 23, 59, tzinfo=timezone.utc)
_SHOWN_KEYS = 5
# Of a listing for the first file alone: one page.
_MOST_KEYS_TO_FIRST = 1_000


@dataclass(slots=True)
class Found:
    """The result of one listing.

    Attributes:
        since: the beginning of the keys at which the listing started; empty: the very first key.
        frontier: the key up to which everything is listed and planned, never a key dated in the future; empty until a
            file is found.
        cursor: how the sensor's page shows the frontier: the key, with the mark of this ledger.
        files: how many new files were planned.
        manifests: how many manifests they were planned into.
        more: at least one more new file is waiting, beyond ``max_files``.
        undated, undated_keys: how many keys do not match the layout, and the first of them.
        too_old: how many files are older than ``start_date``.
        overwritten, overwritten_keys: how many known keys came with new content, and the first of them.
        notes: sentences about subscribers that were added, removed or moved their start.
        ignored_cursor, why_ignored: the cursor that the run found, and why it was not followed; the reason is empty if
            it was.
        after_all: files that were ignored as overwrites and are taken now, because the content taken was unreadable.
    """

    since: str = ""
    frontier: str = ""
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
    ignored_cursor: str = ""
    why_ignored: str = ""
    after_all: list[DatedFile] = field(default_factory=list)
    subscriptions: tuple[Subscription, ...] = ()

    def note_overwritten(self, key: str) -> None:
        """Count a known key with new content."""
        self.overwritten += 1
        if len(self.overwritten_keys) < _SHOWN_KEYS:
            self.overwritten_keys.append(key)


class Walk:
    """A listing of the source up to the last key that can match the layout, or to a number of keys.

    Args:
        after: a key, or any string; itself excluded.
        before: a key, or any string, at which it ends earlier, itself excluded; None: no earlier end.
        most_keys: stop after this many keys; None: never.

    Attributes:
        last_key: the last key listed.
        is_cut: it stopped because of *most_keys*.
    """

    def __init__(
        self, source: Source, *, after: str, layout: Layout, before: str | None = None, most_keys: int | None = None
    ) -> None:
        behind_all = layout.key_floor(_LAST_MOMENT) + "\U0010ffff"
        self._files = source.list_files(after=after, before=before or behind_all)
        self._most = most_keys
        self.last_key = ""
        self.is_cut = False

    def __iter__(self) -> Iterator[SourceFile]:
        for n, file in enumerate(self._files):
            if n == self._most:
                self.is_cut = True
                return
            self.last_key = file.key
            yield file


def dated(source: Source, layout: Layout, found: Found, *, after: str, before: str) -> Iterator[DatedFile]:
    """The listing from *after* to *before*, each file with its day; keys without one are counted and left out."""
    return with_days(source.list_files(after=after, before=before), layout, found)


def with_days(files: Iterable[SourceFile], layout: Layout, found: Found) -> Iterator[DatedFile]:
    """*files*, each with its day; keys without one are counted and left out."""
    for file in files:
        day = layout.date_of(file.key)
        if day is None:
            found.undated += 1
            if len(found.undated_keys) < _SHOWN_KEYS:
                found.undated_keys.append(file.key)
            continue
        yield DatedFile(file, day)


def unknown(
    files: Iterator[DatedFile],
    ledger: Ledger,
    source_id: int,
    found: Found,
    progress: Progress | None = None,
    *,
    on_overwrite: str,
) -> Iterator[tuple[DatedFile, bool]]:
    """The files that the ledger does not know, each with whether other content of its key was taken and not given up.

    Also files that were ignored as overwrites, if the content taken was given up since, or overwrites are now read.
    """
    while chunk := list(islice(files, _COMPARED_AT_ONCE)):
        if progress is not None:
            progress.advance(files=len(chunk))
        with ledger.read() as tx:
            seen = known.between(tx, source_id, chunk, takes_ignored=on_overwrite != "ignore")
        for one in seen.new_among(chunk):
            file, day = one.file, one.day
            if seen.was_ignored(file.key, file.etag):
                found.after_all.append(one)
            elif seen.has_key(file.key, day):
                found.note_overwritten(file.key)
            yield one, seen.was_taken(file.key, day)


OTHER_PLANNER_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings(ListingRules):
    """What the deployment file says about finding files."""

    start_from: str
    limits: PlanLimits


def discover(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    *,
    cursor: str,
    wanted: dict[str, str | None],
    max_files: int,
    run: Run,
    progress: Progress | None = None,
) -> Found:
    """List what is new, from where :func:`next_listing` says, and plan at most *max_files* of it.

    Args:
        cursor: the text on the page of the sensor ``new_files``, which may make the listing longer.
        wanted: the configured subscribers and their ``since``.
        run: keys dated later than its moment are planned, but do not move the frontier.
        progress: counts the listed keys, as files.

    Raises:
        ListingFailed: the source could not be listed; nothing was planned.
    """
    with discovery(source, ledger, settings, cursor=cursor, wanted=wanted, run=run) as one:
        begin = one.begin()
        new, _ = one.list_new(one.walk(begin.after), max_files=max_files, progress=progress)
        complete_at = one.state.complete_at if one.found.more else run.now
        # Files before the start, requested by a subscriber or through the cursor, get the rest of the run's max_files
        # and may take several runs: new files must not wait for years of them.
        past, after = one.list_past(begin, max_files=max_files - len(new), progress=progress)
        began_at = (one.state.began_at or run.now) if after else None
        one.plan(past + new, listing=one.listed(after=after, began_at=began_at, complete_at=complete_at))
    return one.found


class Discovery:
    """One run's search for new files: its result so far, and what it records.

    Attributes:
        cursor: the text on the page of the sensor ``new_files``, as the run found it.
        source_id: the source's number in the ledger.
        mark: of the source in this ledger; runs write it into the cursor.
        found: counts everything the search meets.
        state: how far the source is listed, according to the ledger.
        more_before: whether new files were left for a later run, according to the ledger.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        settings: DiscoverySettings,
        registration: Registration,
        *,
        cursor: str,
        source_id: int,
        run: Run,
    ) -> None:
        self.source = source
        self.ledger = ledger
        self.settings = settings
        self.cursor = cursor
        self.source_id = source_id
        self.run = run
        self._ignored: list[DatedFile] = []
        with ledger.read() as tx:
            self.mark = database.source_mark(tx, source.url)
            self.state = sources.listing_state(tx, source_id)
            self.more_before = sources.more_to_list(tx, source_id)
            is_first_day_known = sources.first_day(tx, source_id) is not None
        before = self.state.start_date
        starts_earlier = before is not None and settings.start_date < before
        self._is_first_day_wanted = starts_earlier or not is_first_day_known
        self._begins_at_first_key = False
        self._first_seen: date | None = None
        # A frontier left by another layout says nothing about the keys of this one.
        frontier = self.state.frontier if settings.layout.moment_of(self.state.frontier) else ""
        self.found = Found(frontier=frontier, notes=registration.notes, subscriptions=registration.subscriptions)
        # Sorts after every key of this moment and of earlier ones, and before those of the future.
        self._end_of_now = settings.layout.key_floor(run.now) + "\U0010ffff"

    def begin(self) -> NextListing:
        """Where this listing begins; records in ``found`` whether the cursor was ignored, and why."""
        begin = next_listing(
            self.settings,
            self.state,
            self.found.subscriptions,
            cursor=self.cursor,
            mark=self.mark,
            now=self.run.now,
        )
        self._begins_at_first_key = not begin.first
        self.found.since = begin.since
        self.found.ignored_cursor, self.found.why_ignored = Cursor.parse(self.cursor).key, begin.ignored
        return begin

    def listed(
        self,
        *,
        after: str,
        began_at: datetime | None,
        complete_at: datetime | None,
        listed_at: datetime | None = None,
    ) -> ListingState:
        """How far the source is listed after this search."""
        return ListingState(
            frontier=self.found.frontier or self.state.frontier,
            after=after,
            complete_at=complete_at,
            start_date=self.settings.start_date,
            listed_at=listed_at or self.state.listed_at,
            began_at=began_at,
        )

    def walk(self, after: str, *, before: str | None = None, most_keys: int | None = None) -> Walk:
        """A listing that starts after the key *after*."""
        return Walk(self.source, after=after, before=before, layout=self.settings.layout, most_keys=most_keys)

    def list_new(self, walk: Walk, *, max_files: int, progress: Progress | None) -> tuple[list[DatedFile], str]:
        """The new files of *walk* that a subscriber gets, at most *max_files*, and the last key seen.

        Counts into ``found`` and moves its frontier, but never into the future: files that arrive until then would sort
        before the frontier, and could be missed.
        """
        found = self.found
        new: list[DatedFile] = []
        last_key = last_key_of_now = ""

        def watched() -> Iterator[DatedFile]:
            nonlocal last_key, last_key_of_now
            for one in self.dated(walk):
                last_key = one.file.key
                if last_key < self._end_of_now:
                    last_key_of_now = last_key
                yield one

        for one in self.owed(self._unknown(watched(), progress)):
            if len(new) == max_files:
                found.more = True
                last_key = new[-1].file.key
                break
            new.append(one)
        found.frontier = max(found.frontier, min(last_key, last_key_of_now, key=utf8), key=utf8)
        if walk.is_cut and not found.more:
            found.more, last_key = True, walk.last_key
        return new, last_key

    def _unknown(self, files: Iterator[DatedFile], progress: Progress | None) -> Iterator[tuple[DatedFile, bool]]:
        on_overwrite = self.settings.on_overwrite
        return unknown(files, self.ledger, self.source_id, self.found, progress, on_overwrite=on_overwrite)

    def list_past(
        self, begin: NextListing, *, max_files: int, progress: Progress | None
    ) -> tuple[list[DatedFile], str]:
        """New files before the start of *begin*; and the key after which a later run continues, if one has to."""
        after = begin.past_after
        if not after:
            return [], ""
        if not max_files:
            self.found.more = True
            return [], after
        self.found.since = self.settings.layout.floor_after(after)
        more, self.found.more = self.found.more, False
        walk = self.walk(after, before=begin.after)
        new, last_key = self.list_new(walk, max_files=max_files, progress=progress)
        is_cut, self.found.more = self.found.more, more or self.found.more
        return new, last_key if is_cut else ""

    def dated(self, files: Iterable[SourceFile]) -> Iterator[DatedFile]:
        """*files*, each with its day; keys without one and files before ``start_date`` are counted and left out."""
        for one in with_days(files, self.settings.layout, self.found):
            if one.day < self.settings.start_date:
                self.found.too_old += 1
            else:
                self._first_seen = self._first_seen or one.day
                yield one

    def owed(self, files: Iterable[tuple[DatedFile, bool]]) -> Iterator[DatedFile]:
        """Those of *files* that a subscriber gets; each comes with whether its key is known with other content.

        The next :meth:`plan` records what is ignored as an overwrite.
        """
        for one, overwrites in files:
            if overwrites and self.settings.on_overwrite == "ignore":
                self._ignored.append(one)
            elif any(subscription.owes(one.file, one.day) for subscription in self.found.subscriptions):
                yield one

    def plan(self, new: list[DatedFile], *, listing: ListingState | None = None) -> None:
        """Record what was found, in one transaction; writes nothing if nothing was found or changed.

        Args:
            new: in key order.
            listing: how far the source is listed now; None: as before.
        """
        more, listing = self.found.more, listing or self.state
        if not (new or self._ignored or more != self.more_before or listing != self.state):
            return
        # The time of the last listing need not wait for the disk at every tick of a quiet source.
        tells_when = replace(self.state, complete_at=listing.complete_at)
        is_quiet = not (new or self._ignored) and more == self.more_before and listing == tells_when
        with self.ledger.write(durable=not is_quiet) as tx:
            known.take_after_all(tx, self.source_id, [one for one in self.found.after_all if one in new])
            planned = planning.plan(
                tx,
                source_id=self.source_id,
                url=self.source.url,
                files=new,
                subscriptions=self.found.subscriptions,
                limits=self.settings.limits,
                run=self.run,
            )
            note = "known key with new content; on_overwrite: ignore"
            planning.note_ignored(tx, source_id=self.source_id, files=self._ignored, note=note, now=self.run.now)
            sources.set_more_to_list(tx, self.source_id, more)
            if self._is_first_day_wanted and self._begins_at_first_key and self._first_seen is not None:
                self._set_first_day(tx, self._first_seen)
            if listing != self.state:
                sources.set_listing_state(tx, self.source_id, listing)
        self.state, self.more_before = listing, more
        self._ignored = []
        self.found.files += len(new)
        self.found.manifests += len(planned)

    def note_first_day(self) -> None:
        """Record the day of the source's first file, once: the partitions of the assets begin there.

        A listing that began at the very first key has met it; for any other, one page of a listing tells.
        """
        if not self._is_first_day_wanted:
            return
        day = self._first_seen if self._begins_at_first_key else first_day(self.source, self.settings)
        if day is not None:
            with self.ledger.write() as tx:
                self._set_first_day(tx, day)

    def _set_first_day(self, tx: Connection, day: date) -> None:
        sources.set_first_day(tx, self.source_id, day)
        self._is_first_day_wanted = False


def first_day(source: Source, settings: DiscoverySettings) -> date | None:
    """The day of the first file from ``start_date`` on; None if the first page of a listing has none.

    Raises:
        ListingFailed: the source could not be listed.
    """
    after = settings.layout.start_after(midnight(settings.start_date))
    walk = Walk(source, after=after, layout=settings.layout, most_keys=_MOST_KEYS_TO_FIRST)
    days = (one.day for one in with_days(walk, settings.layout, Found()))
    return next((day for day in days if day >= settings.start_date), None)


@contextmanager
def discovery(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    *,
    cursor: str,
    wanted: dict[str, str | None],
    run: Run,
) -> Iterator[Discovery]:
    """A search during which no other process plans files of *source*; registers the subscribers.

    Raises:
        LedgerError: another process has been planning for 15 minutes.
    """
    with planning_alone(source, ledger):
        source_id, registration = register(source, ledger, settings, wanted, now=run.now)
        one = Discovery(source, ledger, settings, registration, cursor=cursor, source_id=source_id, run=run)
        yield one
        one.note_first_day()
        one.found.cursor = str(Cursor(one.found.frontier, one.mark))


@contextmanager
def planning_alone(source: Source, ledger: Ledger) -> Iterator[None]:
    """Inside the block no other process plans files of *source*.

    Raises:
        LedgerError: another process has been planning for 15 minutes.
    """
    with ledger.claims.claim(f"plan:{source.url}", wait_seconds=OTHER_PLANNER_SECONDS) as mine:
        if not mine:
            raise LedgerError(f"another run has been listing {source.url} for {OTHER_PLANNER_SECONDS} s")
        yield


def register(
    source: Source, ledger: Ledger, settings: DiscoverySettings, wanted: dict[str, str | None], *, now: datetime
) -> tuple[int, Registration]:
    """Register the *wanted* subscriptions; returns the source's number and the result. Writes only what changed.

    If one starts earlier than what was listed, the same transaction records that the listing has to go back, so that a
    later run does even if this one fails. The caller holds the planning lock.
    """
    with ledger.read() as tx:
        source_id = sources.source_id(tx, source.url)
        if source_id is not None and subscriptions.is_registered(tx, source_id, wanted):
            found = {subscription.name: subscription for subscription in subscriptions.active(tx, source_id)}
            return source_id, Registration(tuple(found[name] for name in wanted), (), list_again=False, list_from=None)
    with ledger.write(durable=True) as tx:
        source_id = sources.add_source(tx, source.url)
        registration = subscriptions.register(tx, source_id, wanted, start_from=settings.start_from, now=now)
        if registration.list_again:
            first_day = max(registration.list_from or settings.start_date, settings.start_date)
            state, after = sources.listing_state(tx, source_id), settings.layout.start_after(midnight(first_day))
            sources.set_listing_state(tx, source_id, replace(state, after=min(state.after or after, after, key=utf8)))
        return source_id, registration
