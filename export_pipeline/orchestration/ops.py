"""The ops that both jobs share: read, deliver, and report what could not be read.

Each opens its resources, calls one plain function of ``steps``, and logs the result.

Ops pass on only ids of manifests, as mapping keys of dynamic outputs; the manifests themselves are in the ledger. So
nothing is pickled, and a re-execution from failure, on any machine, finds what it needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from dagster import (
    DagsterEventType,
    DagsterInstance,
    EventLogRecord,
    Failure,
    In,
    MetadataValue,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    Output,
    TableRecord,
    op,
)

from export_pipeline.deployment import Deployment
from export_pipeline.errors import DeliveryError
from export_pipeline.ledger import inspection, owed, records, sources, subscriptions, unreadable
from export_pipeline.ledger.inspection import UnreadableFile, unreadable_files
from export_pipeline.orchestration import assets, reporting, wording
from export_pipeline.orchestration.assets import SHOWN_FILES
from export_pipeline.orchestration.executors import delivers_first
from export_pipeline.orchestration.guard import (
    NEXT,
    AlreadyTold,
    delivery_failure,
    failures_logged,
    failures_without_secrets,
)
from export_pipeline.orchestration.mapping import day_of, manifest_of, run_ids
from export_pipeline.orchestration.names import CELERY_PRIORITY_TAG, PRIORITY_TAG
from export_pipeline.orchestration.quarantine import show_quarantine
from export_pipeline.orchestration.resources import LEDGER, SOURCE, Places, place_keys
from export_pipeline.orchestration.underway import (
    LEAST_SHARE_OF_A_READING,
    between_batches,
    nothing_more,
    subscriber_seconds,
)
from export_pipeline.printable import printable
from export_pipeline.steps.deliver import NothingToDo, Stopped, deliver
from export_pipeline.steps.open import Workspace, workspace_of
from export_pipeline.steps.read import ReadOutcome
from export_pipeline.steps.run import read

READ = "read"
_RECORDS_AT_ONCE = 1_000


def read_batches_op(deployment: Deployment) -> OpDefinition:
    """The op that reads one manifest and stages its batches."""
    outs = {
        name: Out(Nothing, is_required=False, description=f"Batches for {name}.") for name in deployment.subscribers
    }
    outs[READ] = Out(Nothing, description="Every file was read, or is known to be unreadable.")

    @op(
        name=deployment.names.prefixed("read_batches"),
        ins={"manifest": In(Nothing)},
        out=outs,
        required_resource_keys=place_keys(deployment.names),
        description="Read a manifest's files, cut their events into NDJSON batches, and stage them.",
    )
    def read_batches(context: OpExecutionContext) -> Iterator[Output[None]]:
        manifest_id = manifest_of(context)
        with failures_logged(context, deployment.secret_values()):
            place = _workspace(context, deployment)
            over = nothing_more(context, deployment)
            if reason := over():
                context.log.info(wording.not_read(manifest_id, reason))
                yield Output(None, READ)
                return
            place = replace(place, stop=over, reading_seconds=deployment.run_seconds * LEAST_SHARE_OF_A_READING)
            outcome, names = read(
                place,
                manifest_id,
                run_id=context.run_id,
                taken_by=run_ids(context),
                progress=reporting.reading(context),
            )
            _say_what_was_read(context, outcome, names, deployment)
            if outcome.staged is not None and outcome.staged.reading is not None:
                manifest = outcome.staged.manifest
                with place.ledger.read() as tx:
                    of_day = inspection.read_of_day(tx, manifest.source_id, manifest.day)
                context.log_event(
                    assets.raw_events(
                        deployment.names.raw_events,
                        manifest,
                        outcome.staged.reading,
                        seconds=outcome.seconds,
                        of_day=of_day,
                    )
                )
            if outcome.has_changed_quarantine:
                show_quarantine(context, deployment.names, place.ledger, manifest_id)
        if outcome.staged is not None:
            yield from (Output(None, name) for name in deployment.subscribers if name in names)
        yield Output(None, READ)

    return read_batches


def deliver_op(deployment: Deployment, name: str) -> OpDefinition:
    """The op that delivers one manifest to the subscriber called *name*."""
    resource = deployment.names.prefixed(name)

    @op(
        name=deployment.names.prefixed(f"deliver_to_{name}"),
        ins={"batches": In(Nothing)},
        out=Out(Nothing),
        required_resource_keys={*place_keys(deployment.names), resource},
        description=f"Deliver a manifest's batches to {name}, and record each one that it accepts.",
        # Before reading the next manifest, so that staging stays small.
        tags={PRIORITY_TAG: "1", CELERY_PRIORITY_TAG: delivers_first(deployment.executor)},
    )
    def deliver_to(context: OpExecutionContext) -> None:
        with failures_logged(context, deployment.secret_values()):
            place = _workspace(context, deployment)
            subscription = _subscription(place, name)
            subscriber = getattr(context.resources, resource)
            try:
                with between_batches(context, deployment) as stop:
                    done = deliver(
                        place,
                        manifest_of(context),
                        subscription,
                        subscriber,
                        run_id=context.run_id,
                        on_wait=reporting.waiting(context, name),
                        progress=reporting.delivering(context, name),
                        max_seconds=subscriber_seconds(deployment, getattr(subscriber, "max_run_seconds", None)),
                        stop=stop,
                    )
            except DeliveryError as error:
                is_told = name in deployment.unusable and not _repeats_another(context)
                raise delivery_failure(name, error, is_told=is_told) from None
            if isinstance(done, NothingToDo):
                context.log.info(f"nothing to deliver to {name}: {done.reason}")
                return
            if isinstance(done, Stopped):
                context.log.info(wording.stopped(name, done))
                return
            for sentence in done.warnings:
                context.log.warning(sentence)
            context.log.info(wording.delivered(name, done))
            reporting.manifest_delivered(context, name, done)
            with place.ledger.read() as tx:
                source, day = done.manifest.source_id, done.manifest.day
                waiting = owed.waiting(tx, source, [subscription])[0]
                of_day = inspection.delivered_of_day(tx, source, subscription, day)
            context.log_event(assets.delivered(deployment.names.asset(name), done, waiting, of_day))
            if done.totals.refused:
                show_quarantine(context, deployment.names, place.ledger, done.manifest.id)

    return deliver_to


def _say_what_was_read(
    context: OpExecutionContext, outcome: ReadOutcome, names: list[str], deployment: Deployment
) -> None:
    staged = outcome.staged
    if staged is not None:
        if staged.batches:
            context.log.info(wording.read(staged, names))
        else:
            context.log.warning(wording.read_empty(staged))
    for note in outcome.notes:
        context.log.warning(note)
    if outcome.unreadable:
        context.log.error(wording.unreadable(outcome, deployment.max_attempts))


def _workspace(context: OpExecutionContext, deployment: Deployment) -> Workspace:
    places = Places(context.resources, deployment.names)
    return workspace_of(
        deployment,
        source=places.source.open(),
        ledger=places.ledger.open(),
        staging=places.staging.open(),
        quarantine=places.quarantine.open(),
    )


def _subscription(place: Workspace, name: str) -> records.Subscription:
    with place.ledger.read() as tx:
        source_id = sources.source_id(tx, place.source.url)
        found = subscriptions.active(tx, source_id) if source_id is not None else ()
    for subscription in found:
        if subscription.name == name:
            return subscription
    raise Failure(f"{name} is not an active subscriber in the ledger; list_new_files adds it", allow_retries=False)


def report_unreadable_op(deployment: Deployment) -> OpDefinition:
    """One op for all manifests of a run: if there was one for each, Dagster would log each that it skips."""

    @op(
        name=deployment.names.prefixed("report_unreadable_files"),
        ins={"read": In(Nothing)},
        required_resource_keys=place_keys(deployment.names, [SOURCE, LEDGER]),
        description="Fails, so that it is noticed, if files could not be read or were left out by a re-execution: "
        "which files, why, and what happens next.",
    )
    def report_unreadable_files(context: OpExecutionContext) -> None:
        reporting.run_ends(context)
        with failures_logged(context, deployment.secret_values()):
            places = Places(context.resources, deployment.names)
            if left := _never_read(context, deployment, places):
                raise Failure(
                    wording.never_read(left),
                    metadata={"manifests": len(left), NEXT: wording.NEVER_READ_NEXT},
                    allow_retries=False,
                )
            days = _days(context)
            if not days:
                return  # no manifest, no file
            with places.ledger.open().read() as tx:
                source_id = sources.source_id(tx, places.source.open().url)
                found = unreadable_files(tx, source_id, days, run_ids(context)) if source_id is not None else []
            if found:
                # The steps that read have logged each file, unless they were steps of another run.
                kind = Failure if _repeats_another(context) else AlreadyTold
                raise kind(
                    wording.unreadable_files(found),
                    metadata=_details(found, deployment.max_attempts),
                    allow_retries=False,
                )

    return report_unreadable_files


def _repeats_another(context: OpExecutionContext) -> bool:
    """Whether the run re-executes another one, and perhaps not all of its steps."""
    return context.run.parent_run_id is not None


def _never_read(context: OpExecutionContext, deployment: Deployment, places: Places) -> list[str]:
    """Manifests assigned to a run that this one re-executes, which no read_batches step has reached in either run.

    When a killed run is re-executed "from failure", Dagster repeats the steps that had started, and those of other ops.
    It leaves out the steps of manifests whose turn had not come, and reports success.
    """
    if not _repeats_another(context):
        return []
    runs = run_ids(context)
    with failures_without_secrets(deployment.secret_values()), places.ledger.open().read() as tx:
        taken = owed.assigned_untried(tx, runs)
        if not taken:
            return []
        read = deployment.names.prefixed("read_batches")
        steps = {record.event_log_entry.step_key or "" for run in runs for record in _step_ends(context.instance, run)}
        seen = {key.rpartition("_")[2].rstrip("]") for key in steps if key.partition("[")[0] == read}
        # A step that isolated a file continued with what was left, which has another id.
        seen = unreadable.with_successors(tx, seen)
    return [manifest for manifest in taken if manifest not in seen]


def _step_ends(instance: DagsterInstance, run_id: str) -> Iterator[EventLogRecord]:
    cursor = None
    while True:
        found = instance.get_records_for_run(
            run_id, of_type=DagsterEventType.STEP_SUCCESS, cursor=cursor, limit=_RECORDS_AT_ONCE
        )
        yield from found.records
        if not found.has_more:
            return
        cursor = found.cursor


def _days(context: OpExecutionContext) -> set[date]:
    """The days of the manifests that were read before, taken from the keys of their steps."""
    (read,) = context.get_step_execution_context().step.step_inputs
    return {day_of(handle.step_key) for handle in read.get_step_output_handle_dependencies()}


def _details(found: Sequence[UnreadableFile], max_attempts: int) -> dict[str, Any]:
    rows = [
        TableRecord(
            {
                "file": printable(file.key),
                "reason": printable(file.reason),
                "what happens next": wording.fate_of_unreadable(file, max_attempts),
            }
        )
        for file in found[:SHOWN_FILES]
    ]
    return {"files": len(found), "unreadable": MetadataValue.table(rows)}
