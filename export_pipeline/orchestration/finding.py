"""The first op of each job, which decides what the run reads and delivers.

``list_new_files`` finds files by listing, or by the messages of a queue and an occasional listing; ``list_day_files``
of ``backfill_job`` finds those of one day. All other ops are the same in both jobs.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from dagster import (
    Array,
    DagsterInstance,
    DagsterRun,
    DynamicOutput,
    Enum,
    EnumValue,
    Failure,
    Field,
    Int,
    OpDefinition,
    OpExecutionContext,
    op,
)

from export_pipeline.deployment import Deployment
from export_pipeline.ledger import database
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.records import Run
from export_pipeline.orchestration import backfills, reporting, wording
from export_pipeline.orchestration.backfills import MISSING, ONLY, asked_by_run
from export_pipeline.orchestration.guard import failures_logged
from export_pipeline.orchestration.instigators import SensorCursor
from export_pipeline.orchestration.mapping import chosen_outputs, manifests_out
from export_pipeline.orchestration.names import (
    BACKFILL_TAG,
    FILES,
    FOUND_TAG,
    NOTHING,
    ONLY_TAG,
    SUBSCRIBERS_TAG,
)
from export_pipeline.orchestration.resources import (
    LEDGER,
    QUARANTINE,
    SOURCE,
    STAGING,
    Places,
    discovery_settings,
    place_keys,
)
from export_pipeline.orchestration.retention import fold_old_days, purge_idle_runs
from export_pipeline.orchestration.underway import mark_with_ledger, other_runs, run_is_over
from export_pipeline.source.queue import Queue
from export_pipeline.source.store import Source
from export_pipeline.steps.backfill import plan_day
from export_pipeline.steps.discover import Found, discover
from export_pipeline.steps.messages import Noticed, Notifications, discover_notified
from export_pipeline.steps.open import wanted
from export_pipeline.steps.retention import sweep_staging
from export_pipeline.steps.run import take, take_what_is_owed
from export_pipeline.storage.location import parse_location

DUE, NOW = "due", "now"
_LISTING = Enum(
    "Listing",
    [
        EnumValue(DUE, description="List the source if source.notifications.listing_every_seconds have passed."),
        EnumValue(NOW, description="List the source in this run."),
    ],
)


def list_new_files_op(deployment: Deployment) -> OpDefinition:
    """The op that lists the source, plans new files, and chooses what the run delivers."""

    @op(
        name=deployment.names.list_new_files,
        required_resource_keys=place_keys(deployment.names, [SOURCE, LEDGER, STAGING, *places_needed(deployment)]),
        out=manifests_out("One output per manifest that this run reads and delivers."),
        config_schema=config_fields(deployment),
        description="Find new files, by listing the source or from notifications; plan what the ledger does not know, "
        "and choose the oldest manifests still owed. The cursor of new_files then shows how far the source is listed.",
    )
    def list_new_files(context: OpExecutionContext) -> Iterator[DynamicOutput[None]]:
        places = Places(context.resources, deployment.names)
        with failures_logged(context, deployment.secret_values()):
            if not deployment.subscribers:
                context.log.info(wording.NO_SUBSCRIBER.format(deployment=deployment.name))
                return
            # A broker can redeliver a step of a run that has ended: it must not take work from active runs.
            if reason := run_is_over(context, deployment)():
                context.log.info(f"not listing: {reason}")
                return
            found, nothing = find_new_files(context, deployment, places)
            for name, reason in deployment.unusable.items():
                context.log.error(wording.unusable(name, reason))
            mark_with_ledger(context, places.ledger.open())
            backfills.owe_days_without_a_run(context, deployment, places)
            max_files = context.op_config["max_files"]
            source, ledger = places.source.open(), places.ledger.open()
            taken = take_what_is_owed(
                ledger, source.url, found.subscriptions, max_files=max_files, run_id=context.run_id
            )
            chosen, left = taken.manifests, taken.left
            sweep_staging(
                places.staging.open(),
                places.ledger.open(),
                keep={manifest.id for manifest in chosen},
                runs=other_runs(context, deployment, places.ledger.open()),
            )
            _say_what_was_found(context, found, nothing, chosen, left)
            reporting.run_begins(context, chosen)
            fold_old_days(context, places, deployment)
            if not chosen and not found.files:
                context.instance.add_run_tags(context.run_id, {FOUND_TAG: NOTHING})
                # Each idle run purges up to twenty; a run with work to do does not spend the time.
                purge_idle_runs(context, places, deployment)
            elif FOUND_TAG in context.run.tags:
                # Inherited from the run that this one re-executes, which found nothing.
                context.instance.add_run_tags(context.run_id, {FOUND_TAG: FILES})
        yield from chosen_outputs(chosen)

    return list_new_files


def config_fields(deployment: Deployment) -> dict[str, Field]:
    """The config of one run; ``listing`` only if the source has notifications."""
    fields = {
        "max_files": Field(
            Int,
            default_value=deployment.max_files,
            description="Maximum number of new files that this run finds, and of files it delivers per subscriber.",
        )
    }
    if deployment.source.is_notified:
        description = "due: list the source when a listing is due; now: in this run. Messages are received either way."
        fields["listing"] = Field(_LISTING, default_value=DUE, description=description)
    return fields


def places_needed(deployment: Deployment) -> list[str]:
    """Resources needed in addition to those of a listing."""
    return [QUARANTINE] if deployment.source.is_notified else []


def find_new_files(context: OpExecutionContext, deployment: Deployment, places: Places) -> tuple[Found, str]:
    """Plan new files, and set the cursor to how far the source is listed; also returns the log line for no new files.

    Raises:
        Failure: ``max_files`` of the run is invalid.
    """
    max_files = context.op_config["max_files"]
    if max_files < 1:
        raise Failure(f"ops.{deployment.names.list_new_files}.config.max_files: found {max_files}; allowed: 1 or more")
    source, ledger = places.source.open(), places.ledger.open()
    cursor = cursor_of(context.instance, context.run, deployment, source, ledger)
    read = cursor.read()
    settings = discovery_settings(deployment, places.source)
    queue = places.source.open_queue()
    if queue is None:
        found = discover(
            source,
            ledger,
            settings,
            cursor=read,
            wanted=wanted(deployment),
            max_files=max_files,
            run=Run(context.run_id, utc_now()),
            progress=reporting.listing(context),
        )
        nothing = wording.found_nothing(found, deployment.frequency)
    else:
        noticed = discover_notified(
            source,
            ledger,
            settings,
            _notifications(context, places, queue),
            cursor=read,
            wanted=wanted(deployment),
            max_files=max_files,
            run=Run(context.run_id, utc_now()),
            progress=reporting.listing(context),
        )
        found = noticed.found
        nothing = wording.nothing(noticed, deployment.frequency)
        _say_what_messages_told(context, noticed)
    reporting.left_out(context, source)
    cursor.replace(read, found.cursor)
    return found, nothing


def cursor_of(
    instance: DagsterInstance, run: DagsterRun, deployment: Deployment, source: Source, ledger: Ledger
) -> SensorCursor:
    """The cursor of ``new_files`` as *run* sees it."""
    with ledger.read() as tx:
        mark = database.source_mark(tx, source.url)
    return SensorCursor.of_run(instance, run, deployment.names, mark=mark)


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
        context.log.info(wording.listed(noticed))
    if taken.messages:
        context.log.info(wording.taken(taken))
    for sentence in wording.odd(taken):
        context.log.warning(sentence)
    if taken.wrong:
        context.log.error(wording.wrong(taken))


def _say_what_was_found(
    context: OpExecutionContext, found: Found, nothing: str, chosen: list[OwedManifest], left: dict[str, int]
) -> None:
    for note in found.notes:
        context.log.info(note)
    for sentence in wording.found_odd(found):
        context.log.warning(sentence)
    if found.files:
        context.log.info(wording.found_new(found))
    elif not chosen:
        context.log.info(nothing)
    if chosen:
        context.log.info(wording.handing_on(chosen))
    if any(left.values()):
        context.log.info(wording.left_waiting(left))


def list_day_files_op(deployment: Deployment) -> OpDefinition:
    """The op that finds a day's files and owes them to the chosen subscribers."""

    @op(
        name=deployment.names.list_day_files,
        required_resource_keys=place_keys(deployment.names, [SOURCE, LEDGER]),
        out=manifests_out("One output per manifest of the day that is delivered."),
        config_schema={
            "subscribers": Field(
                Array(str),
                is_required=False,
                description=f"Subscribers to deliver to, out of: {', '.join(deployment.subscribers) or 'none'}. By "
                "default all that are configured when the run, or the backfill of many days, is launched. In the UI's "
                f"dialog for a range of days, use the tag {SUBSCRIBERS_TAG}, with names separated by commas.",
            ),
            "only": Field(
                ONLY,
                default_value=MISSING,
                description="missing: only what they have not received; all: everything again, under the same batch "
                f"ids. In the UI's dialog for a range of days, use the tag {ONLY_TAG}.",
            ),
        },
        description="Find the day's files, plan those never seen, and owe the day to the chosen subscribers. The "
        "cursor of new_files does not change.",
    )
    def list_day_files(context: OpExecutionContext) -> Iterator[DynamicOutput[None]]:
        places = Places(context.resources, deployment.names)
        with failures_logged(context, deployment.secret_values()):
            if not deployment.subscribers:
                context.log.info(wording.NO_SUBSCRIBER.format(deployment=deployment.name))
                return
            # A broker can redeliver a step of a run that has ended: it must not take work from active runs.
            if reason := run_is_over(context, deployment)():
                context.log.info(f"not listing: {reason}")
                return
            for name, reason in deployment.unusable.items():
                context.log.error(wording.unusable(name, reason))
            mark_with_ledger(context, places.ledger.open())
            asked = asked_by_run(context, deployment)
            source = places.source.open()
            backfill = plan_day(
                source,
                places.ledger.open(),
                discovery_settings(deployment, places.source),
                day=date.fromisoformat(context.partition_key),
                wanted=wanted(deployment),
                chosen=asked.subscribers,
                again=asked.again,
                run=Run(context.run_id, utc_now()),
                backfill_id=context.run.tags.get(BACKFILL_TAG),
                progress=reporting.listing(context),
            )
            take(places.ledger.open(), backfill.manifests, backfill.found.subscriptions, run_id=context.run_id)
            reporting.left_out(context, source)
            for sentence in wording.backfill(context.partition_key, backfill):
                context.log.info(sentence)
            reporting.run_begins(context, backfill.manifests)
        yield from chosen_outputs(backfill.manifests)

    return list_day_files
