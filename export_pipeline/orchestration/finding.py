"""How ``list_new_files`` finds files: by listing, or by the messages of a queue with a listing now and then."""

from datetime import date, timedelta

from dagster import DagsterInstance, DagsterRun, Enum, EnumValue, Failure, Field, Int, OpExecutionContext

from export_pipeline.ledger import identity
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.orchestration import reporting, wording, wording_notifications
from export_pipeline.orchestration.cursor import SensorCursor
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.places import QUARANTINE, Places
from export_pipeline.orchestration.resources import SourceResource
from export_pipeline.source.queue import Queue
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import DiscoverySettings, discover
from export_pipeline.steps.listing import Found
from export_pipeline.steps.notified import Noticed, Notifications, discover_notified
from export_pipeline.storage.location import parse_location

DUE, NOW = "due", "now"
_LISTING = Enum(
    "Listing",
    [
        EnumValue(DUE, description="List the source where source.notifications.listing_every_seconds says so."),
        EnumValue(NOW, description="List the source in this run."),
    ],
)


def config_fields(export: Export) -> dict[str, Field]:
    """What may be chosen for one run; the way of listing only where notifications stand beside it."""
    fields = {
        "max_files": Field(
            Int,
            default_value=export.max_files,
            description="Most files that this run finds anew, and delivers to a subscriber.",
        )
    }
    if export.is_notified:
        description = "due: list the source when it is time; now: in this run. Messages are taken in either case."
        fields["listing"] = Field(_LISTING, default_value=DUE, description=description)
    return fields


def places_needed(export: Export) -> list[str]:
    """Further places than those of a listing."""
    return [QUARANTINE] if export.is_notified else []


def discovery_settings(export: Export, source: SourceResource) -> DiscoverySettings:
    """What finding files needs to know."""
    return DiscoverySettings(
        layout=source.parsed_layout(),
        start_date=date.fromisoformat(source.start_date),
        lookback=timedelta(hours=export.lookback_hours),
        on_overwrite=source.on_overwrite,
        start_from=export.start_from,
        limits=export.plan_limits,
        prefix=parse_location(source.url).prefix,
    )


def find_new_files(context: OpExecutionContext, export: Export, places: Places) -> tuple[Found, str]:
    """Plan what is new, and let the cursor show how far it was listed; with what to say where nothing was found.

    Raises:
        Failure: ``max_files`` of the run is none.
    """
    max_files = context.op_config["max_files"]
    if max_files < 1:
        raise Failure(f"ops.{export.names.list_new_files}.config.max_files: found {max_files}; allowed: 1 or more")
    source, ledger = places.source.open(), places.ledger.open()
    cursor = cursor_of(context.instance, context.run, export, source, ledger)
    read = cursor.read()
    settings = discovery_settings(export, places.source)
    queue = places.source.open_queue()
    if queue is None:
        found = discover(
            source,
            ledger,
            settings,
            cursor=read,
            wanted=export.subscribers,
            max_files=max_files,
            run_id=context.run_id,
            now=utc_now(),
            progress=reporting.listing(context),
        )
        nothing = wording.found_nothing(found, export.frequency)
    else:
        noticed = discover_notified(
            source,
            ledger,
            settings,
            _notifications(context, places, queue),
            cursor=read,
            wanted=export.subscribers,
            max_files=max_files,
            run_id=context.run_id,
            now=utc_now(),
            progress=reporting.listing(context),
        )
        found = noticed.found
        nothing = wording_notifications.nothing(noticed, export.frequency)
        _say_what_messages_told(context, noticed)
    reporting.left_out(context, source)
    cursor.replace(read, found.cursor)
    return found, nothing


def cursor_of(
    instance: DagsterInstance, run: DagsterRun, export: Export, source: Source, ledger: Ledger
) -> SensorCursor:
    """The cursor of ``new_files`` as *run* sees it."""
    with ledger.read() as tx:
        mark = identity.mark(tx, source.url)
    return SensorCursor.of_run(instance, run, export.names, mark=mark)


def _notifications(context: OpExecutionContext, places: Places, queue: Queue) -> Notifications:
    source = places.source
    return Notifications(
        queue=queue,
        bucket=source.queue_bucket or parse_location(source.url).bucket,
        listing_every=timedelta(seconds=source.listing_every_seconds),
        quarantine=places.quarantine.open(),
        list_now=context.op_config.get("listing", DUE) == NOW,
    )


def _say_what_messages_told(context: OpExecutionContext, noticed: Noticed) -> None:
    taken = noticed.taken
    if noticed.why_listed:
        context.log.info(wording_notifications.listed(noticed))
    if taken.messages:
        context.log.info(wording_notifications.taken(taken))
    for sentence in wording_notifications.odd(taken):
        context.log.warning(sentence)
    if taken.wrong:
        context.log.error(wording_notifications.wrong(taken))
