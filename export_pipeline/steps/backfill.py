"""Plan one day again and owe it to chosen subscribers: all that the op ``list_day_files`` does, in plain Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import backfills, deliveries, known, owed, planning
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.records import Run, Subscription
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import DiscoverySettings, Found, dated, planning_alone, register, unknown
from export_pipeline.steps.progress import Progress


@dataclass(frozen=True, slots=True)
class Backfill:
    """What a backfill of one day has to do.

    Attributes:
        found: the result of listing the day.
        manifests: those to deliver, in key order.
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
    strangers = [name for name in chosen if name not in wanted]
    if strangers:
        raise ConfigurationError(
            f"subscribers: found {', '.join(strangers)}; configured are {', '.join(wanted) or 'none'}"
        )
    with planning_alone(source, ledger):
        source_id, registration = register(source, ledger, settings, wanted, now=run.now)
        found = Found(notes=registration.notes, subscriptions=registration.subscriptions)
        found.since = settings.layout.day_prefix(day)
        listing = dated(
            source,
            settings.layout,
            found,
            after=settings.layout.start_after(datetime(day.year, day.month, day.day, tzinfo=run.now.tzinfo)),
            before=settings.layout.next_day_floor(day),
        )
        new = [
            one
            for one, overwrites in unknown(
                listing, ledger, source_id, found, progress, on_overwrite=settings.on_overwrite
            )
            if not (overwrites and settings.on_overwrite == "ignore")
        ]
        served = _served(registration.subscriptions, chosen)
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
            added, repeated = deliveries.owe_day(tx, source_id, served, day=day, again=again, now=run.now)
            if backfill_id is not None:
                backfills.settle(tx, source.url, backfill_id, [day], now=run.now)
            manifests = owed.choose_among(tx, served, source_id=source_id, day=day)
    found.files, found.manifests = len(new), len(planned)
    return Backfill(found, manifests, added, repeated)


def _served(subscriptions: Sequence[Subscription], chosen: Sequence[str]) -> list[Subscription]:
    return [subscription for subscription in subscriptions if not chosen or subscription.name in chosen]
