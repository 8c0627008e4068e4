"""The ops: each opens its resources, calls one plain function of ``steps``, and says in the event log what came of it.

Between ops go only names of manifests, as mapping keys of dynamic outputs; what a manifest is stands in the ledger. So
nothing is pickled, and a re-execution from failure, on any machine, finds what it needs.
"""

from collections.abc import Iterator
from dataclasses import replace

from dagster import (
    DynamicOutput,
    Failure,
    In,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    Output,
    op,
)

from export_pipeline.errors import DeliveryError
from export_pipeline.ledger import days, owed, subscriptions
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.orchestration import backfills, finding, materialisations, reporting, wording
from export_pipeline.orchestration.executors import delivers_first
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.failures import delivery_failure
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.mapping import chosen_outputs, manifest_of, manifests_out, run_ids
from export_pipeline.orchestration.names import CELERY_PRIORITY_TAG, FILES, FOUND_TAG, NOTHING, PRIORITY_TAG
from export_pipeline.orchestration.places import LEDGER, SOURCE, STAGING, Places, place_keys
from export_pipeline.orchestration.retention import fold_old_days, purge_idle_runs
from export_pipeline.orchestration.stopping import between_batches, nothing_more, subscriber_seconds
from export_pipeline.orchestration.underway import mark_with_ledger, other_runs, run_is_over
from export_pipeline.steps.deliver import NothingToDo, Stopped, deliver
from export_pipeline.steps.listing import Found
from export_pipeline.steps.read import ReadOutcome, ensure_staged
from export_pipeline.steps.sweep import sweep_staging
from export_pipeline.steps.workspace import Workspace

READ = "read"
# Of the files tried again alone, at most a tenth of a run: a day of corrupt files must not crowd out the healthy ones.
_RETRIES_SHARE = 10
# Of max_run_seconds, what a reading may take in any case. A run ends half its time late at most, and no manifest that
# always has its turn late in a run waits for ever.
_LEAST_SHARE_OF_A_READING = 0.5


def list_new_files_op(export: Export) -> OpDefinition:
    """The op that lists, plans and chooses."""

    @op(
        name=export.names.list_new_files,
        required_resource_keys=place_keys(export.names, [SOURCE, LEDGER, STAGING, *finding.places_needed(export)]),
        out=manifests_out("One for each manifest that this run reads and delivers."),
        config_schema=finding.config_fields(export),
        description="Find new files, by listing the source or by notifications; plan what the ledger does not know, "
        "and choose the oldest manifests still owed. The cursor of new_files then shows how far the source is listed.",
    )
    def list_new_files(context: OpExecutionContext) -> Iterator[DynamicOutput[None]]:
        places = Places(context.resources, export.names)
        with failures_without_secrets(export.secrets):
            if not export.subscribers:
                context.log.info(wording.NO_SUBSCRIBER.format(deployment=export.deployment))
                return
            # A broker may hand out the step of a run that is long over: it must take nothing from those that live.
            if reason := run_is_over(context, export)():
                context.log.info(f"nothing is listed: {reason}")
                return
            found, nothing = finding.find_new_files(context, export, places)
            for name, reason in export.unusable.items():
                context.log.error(wording.unusable(name, reason))
            mark_with_ledger(context, places.ledger.open())
            backfills.owe_days_without_a_run(context, export, places)
            max_files = context.op_config["max_files"]
            chosen, left = _choose(places, found, max_files=max_files, run_id=context.run_id)
            sweep_staging(
                places.staging.open(),
                places.ledger.open(),
                keep={manifest.id for manifest in chosen},
                runs=other_runs(context, export, places.ledger.open()),
            )
            _say_what_was_found(context, found, nothing, chosen, left)
            reporting.run_begins(context, chosen)
            fold_old_days(context, places, export)
            if not chosen and not found.files:
                context.instance.add_run_tags(context.run_id, {FOUND_TAG: NOTHING})
                # For each that comes, up to twenty go; a run that has work to do is spared the look.
                purge_idle_runs(context, places, export)
            elif FOUND_TAG in context.run.tags:
                # Of the run that this one executes again, which found nothing.
                context.instance.add_run_tags(context.run_id, {FOUND_TAG: FILES})
        yield from chosen_outputs(chosen)

    return list_new_files


def read_batches_op(export: Export) -> OpDefinition:
    """The op that reads one manifest and stages its batches."""
    outs = {name: Out(Nothing, is_required=False, description=f"Batches for {name}.") for name in export.subscribers}
    outs[READ] = Out(Nothing, description="Every file was read, or is known to be unreadable.")

    @op(
        name=export.names.prefixed("read_batches"),
        ins={"manifest": In(Nothing)},
        out=outs,
        required_resource_keys=place_keys(export.names),
        description="Read a manifest's files, cut their events into NDJSON batches and stage them.",
    )
    def read_batches(context: OpExecutionContext) -> Iterator[Output[None]]:
        identity = manifest_of(context)
        with failures_without_secrets(export.secrets):
            place = _workspace(context, export)
            with place.ledger.read() as tx:
                names = owed.assigned(tx, identity, run_ids(context))
            over = nothing_more(context, export)
            if reason := over():
                context.log.info(wording.not_read(identity, reason))
                yield Output(None, READ)
                return
            place = replace(place, stop=over, reading_seconds=export.max_run_seconds * _LEAST_SHARE_OF_A_READING)
            outcome = ensure_staged(place, identity, run_id=context.run_id, progress=reporting.reading(context))
            _say_what_was_read(context, outcome, names, export)
            if outcome.staged is not None and outcome.staged.reading is not None:
                manifest = outcome.staged.manifest
                with place.ledger.read() as tx:
                    of_day = days.read_of_day(tx, manifest.source_id, manifest.day)
                context.log_event(
                    materialisations.raw_events(
                        export.names.raw_events,
                        manifest,
                        outcome.staged.reading,
                        seconds=outcome.seconds,
                        of_day=of_day,
                    )
                )
        if outcome.staged is not None:
            yield from (Output(None, name) for name in export.subscribers if name in names)
        yield Output(None, READ)

    return read_batches


def deliver_op(export: Export, name: str) -> OpDefinition:
    """The op that delivers one manifest to the subscriber called *name*."""
    resource = export.names.prefixed(name)

    @op(
        name=export.names.prefixed(f"deliver_to_{name}"),
        ins={"batches": In(Nothing)},
        out=Out(Nothing),
        required_resource_keys={*place_keys(export.names), resource},
        description=f"Hand a manifest's batches to {name}, and record each one that it accepts.",
        # Before reading the next manifest, so that staging stays small.
        tags={PRIORITY_TAG: "1", CELERY_PRIORITY_TAG: delivers_first(export.executor)},
    )
    def deliver_to(context: OpExecutionContext) -> None:
        with failures_without_secrets(export.secrets):
            place = _workspace(context, export)
            subscription = _subscription(place, name)
            subscriber = getattr(context.resources, resource)
            try:
                with between_batches(context, export) as stop:
                    done = deliver(
                        place,
                        manifest_of(context),
                        subscription,
                        subscriber,
                        run_id=context.run_id,
                        on_wait=lambda error, seconds: context.log.warning(
                            f"{name} asks for patience, next try in {seconds:.1f} s: {error}"
                        ),
                        progress=reporting.delivering(context, name),
                        max_seconds=subscriber_seconds(export, getattr(subscriber, "max_run_seconds", None)),
                        stop=stop,
                    )
            except DeliveryError as error:
                raise delivery_failure(name, error) from None
            if isinstance(done, NothingToDo):
                context.log.info(f"nothing to deliver to {name}: {done.reason}")
                return
            if isinstance(done, Stopped):
                context.log.info(wording.stopped(name, done))
                return
            context.log.info(wording.delivered(name, done))
            reporting.manifest_delivered(context, name, done)
            with place.ledger.read() as tx:
                source, day = done.manifest.source_id, done.manifest.day
                waiting = owed.waiting(tx, source, [subscription])[0]
                of_day = days.delivered_of_day(tx, source, subscription, day)
            context.log_event(materialisations.delivered(export.names.asset(name), done, waiting, of_day))

    return deliver_to


def _choose(places: Places, found: Found, *, max_files: int, run_id: str) -> tuple[list[OwedManifest], dict[str, int]]:
    """What this run takes, and how many files of each subscriber it leaves to later ones."""
    ledger = places.ledger.open()
    with ledger.read() as tx:
        chosen = owed.choose(
            tx, found.subscriptions, max_files=max_files, max_retries=max(1, max_files // _RETRIES_SHARE)
        )
        number = subscriptions.source_id(tx, places.source.open().url)
        waiting = owed.waiting(tx, number, found.subscriptions) if number is not None else []
    if chosen:
        with ledger.write() as tx:
            owed.assign(tx, chosen, found.subscriptions, run_id)
    taken = {
        one.subscriber: sum(each.files for each in chosen if one.subscriber in each.subscribers) for one in waiting
    }
    return chosen, {one.subscriber: one.files - taken[one.subscriber] for one in waiting}


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
        context.log.warning(nothing)
    if chosen:
        context.log.info(wording.handing_on(chosen))
    if any(left.values()):
        context.log.info(wording.left_waiting(left))


def _say_what_was_read(context: OpExecutionContext, outcome: ReadOutcome, names: list[str], export: Export) -> None:
    staged = outcome.staged
    if staged is not None:
        if staged.batches:
            context.log.info(wording.read(staged, names))
        else:
            context.log.warning(wording.read_empty(staged))
    for note in outcome.notes:
        context.log.warning(note)
    if outcome.unreadable:
        context.log.error(wording.unreadable(outcome, export.max_attempts))


def _workspace(context: OpExecutionContext, export: Export) -> Workspace:
    places = Places(context.resources, export.names)
    return Workspace(
        source=places.source.open(),
        ledger=places.ledger.open(),
        staging=places.staging.open(),
        quarantine=places.quarantine.open(),
        limits=export.read_limits,
        max_attempts=export.max_attempts,
        secrets=export.secrets,
    )


def _subscription(place: Workspace, name: str) -> subscriptions.Subscription:
    with place.ledger.read() as tx:
        number = subscriptions.source_id(tx, place.source.url)
        found = subscriptions.active(tx, number) if number is not None else ()
    for subscription in found:
        if subscription.name == name:
            return subscription
    raise Failure(f"the ledger knows no active subscriber {name}; list_new_files registers it", allow_retries=False)
