"""Plan days again and owe them to chosen subscribers: what ``backfill_job`` does for a day, and assets for a range."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import backfills, deliveries, known, owed, planning, sources
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.records import Run, Subscription
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import DiscoverySettings, Found, dated, planning_alone, register, unknown
from export_pipeline.steps.progress import Progress
from export_pipeline.steps.stopping import Stop, never

# A range is planned in stretches of days, each in one transaction: as many days as have about this many files.
_FEW_FILES, _MANY_FILES = 1_000, 5_000
_MOST_DAYS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Backfill:
    """What a backfill of days has to do.

    Attributes:
        found: the result of listing the days.
        manifests: those to deliver, in key order; empty for a range, whose days are looked up one by one.
        added: number of deliveries of manifests that a chosen subscriber was never owed.
        repeated: number of deliveries that are made again.
    """

    found: Found
    manifests: list[OwedManifest]
    added: int
    repeated: int


def plan_day(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    *,
    day: date,
    wanted: dict[str, str | None],
    chosen: Sequence[str],
    again: bool,
    run: Run,
    backfill_id: str | None = None,
    progress: Progress | None = None,
) -> Backfill:
    """Find the day's files, plan those never seen, and owe the day's manifests to the *chosen* subscribers.

    Args:
        chosen: names of subscribers; empty means all.
        again: also deliver what was delivered before, with the same batch ids.
        backfill_id: the backfill that requests the day; it then records the day as planned.
        progress: counts the listed keys, as files.

    Raises:
        ConfigurationError: a chosen subscriber is not configured.
        ListingFailed: the source could not be listed.
    """
    planned = plan_days(
        source,
        ledger,
        settings,
        days=[day],
        wanted=wanted,
        chosen=chosen,
        again=again,
        run=run,
        backfill_id=backfill_id,
        progress=progress,
    )
    with ledger.read() as tx:
        served = _served(planned.found.subscriptions, chosen)
        source_id = sources.source_id(tx, source.url)
        manifests = owed.choose_among(tx, served, source_id=source_id or 0, day=day)
    return replace(planned, manifests=manifests)


def plan_days(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    *,
    days: Sequence[date],
    wanted: dict[str, str | None],
    chosen: Sequence[str],
    again: bool,
    run: Run,
    backfill_id: str | None = None,
    progress: Progress | None = None,
) -> Backfill:
    """Like :func:`plan_day`, for consecutive *days*: one listing, one transaction, memory for all their new files."""
    strangers = [name for name in chosen if name not in wanted]
    if strangers:
        raise ConfigurationError(
            f"subscribers: found {', '.join(strangers)}; configured are {', '.join(wanted) or 'none'}"
        )
    first, last = days[0], days[-1]
    with planning_alone(source, ledger):
        source_id, registration = register(source, ledger, settings, wanted, now=run.now)
        found = Found(notes=registration.notes, subscriptions=registration.subscriptions)
        found.since = settings.layout.day_prefix(first)
        listing = dated(
            source,
            settings.layout,
            found,
            after=settings.layout.start_after(datetime(first.year, first.month, first.day, tzinfo=run.now.tzinfo)),
            before=settings.layout.next_day_floor(last),
        )
        new = [
            one
            for one, overwrites in unknown(
                listing, ledger, source_id, found, progress, on_overwrite=settings.on_overwrite
            )
            if not (overwrites and settings.on_overwrite == "ignore")
        ]
        served = _served(registration.subscriptions, chosen)
        added = repeated = 0
        with ledger.write(durable=True) as tx:
            known.take_after_all(tx, source_id, found.after_all)
            planned = planning.plan(
                tx,
                source_id=source_id,
                url=source.url,
                files=new,
                subscriptions=registration.subscriptions,
                limits=settings.limits,
                run=run,
            )
            for day in days:
                more = deliveries.owe_day(tx, source_id, served, day=day, again=again, now=run.now)
                added, repeated = added + more[0], repeated + more[1]
            if backfill_id is not None:
                backfills.settle(tx, source.url, backfill_id, days, now=run.now)
    found.files, found.manifests = len(new), len(planned)
    return Backfill(found, [], added, repeated)


@dataclass(slots=True)
class PlannedRange:
    """The result of planning a range of days.

    Attributes:
        subscriptions: of the source, all of them.
        added, repeated: see :class:`Backfill`.
        notes: sentences about subscribers that were added, removed or moved their start.
        unplanned: the days that were not reached.
        reason: why not, as the end of a sentence.
        found: the counts of all listings: new files and manifests, and irregular keys.
    """

    subscriptions: tuple[Subscription, ...] = ()
    added: int = 0
    repeated: int = 0
    notes: tuple[str, ...] = ()
    unplanned: list[date] = field(default_factory=list)
    reason: str = ""
    found: Found = field(default_factory=Found)

    def add(self, part: Backfill) -> None:
        """Count a stretch of the range."""
        found, of_all = part.found, self.found
        self.subscriptions = found.subscriptions
        self.notes += found.notes
        self.added += part.added
        self.repeated += part.repeated
        of_all.files += found.files
        of_all.manifests += found.manifests
        of_all.undated += found.undated
        of_all.overwritten += found.overwritten
        of_all.undated_keys = of_all.undated_keys or found.undated_keys
        of_all.overwritten_keys = of_all.overwritten_keys or found.overwritten_keys


def plan_range(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    *,
    days: Sequence[date],
    wanted: dict[str, str | None],
    chosen: Sequence[str],
    again: bool,
    run_id: str,
    backfill_id: str,
    stop: Stop = never,
    progress: Progress | None = None,
) -> PlannedRange:
    """Plan *days* (ascending, with gaps or without) and owe them, stretch by stretch, until *stop* gives a reason.

    Each stretch is durable and recorded as planned for *backfill_id*: days that were not reached stay open there.

    Args:
        stop: checked between two stretches; at least one is planned.

    Raises:
        ConfigurationError, ListingFailed: as :func:`plan_day`; the stretches before are planned.
    """
    done = PlannedRange()
    left, size = list(days), 1
    while left:
        if len(left) < len(days) and (reason := stop()):
            done.unplanned, done.reason = left, reason
            break
        stretch = _consecutive(left, size)
        listed = Progress()
        part = plan_days(
            source,
            ledger,
            settings,
            days=stretch,
            wanted=wanted,
            chosen=chosen,
            again=again,
            run=Run(run_id, utc_now()),
            backfill_id=backfill_id,
            progress=listed,
        )
        done.add(part)
        if progress is not None:
            progress.advance(files=listed.done.files)
        left = left[len(stretch) :]
        if listed.done.files > _MANY_FILES:
            size = max(1, size // 2)
        elif listed.done.files < _FEW_FILES:
            size = min(_MOST_DAYS_AT_ONCE, size * 2)
    return done


def _consecutive(days: Sequence[date], most: int) -> list[date]:
    """The first of *days*, up to a gap, at most *most*."""
    found = [days[0]]
    for day in days[1:most]:
        if day - found[-1] != timedelta(days=1):
            break
        found.append(day)
    return found


def _served(subscriptions: Sequence[Subscription], chosen: Sequence[str]) -> list[Subscription]:
    return [subscription for subscription in subscriptions if not chosen or subscription.name in chosen]
