"""Materialize subscribers' assets: the chosen assets are the subscribers, the chosen partitions the days, in one run.

A single step delivers the whole range, one manifest after the other. With a step for each manifest, as in the other
jobs, a run of three years would spend its time on Dagster's own events: about 13 for a manifest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    Failure,
    Field,
    MaterializeResult,
    OpExecutionContext,
    multi_asset,
)

from export_pipeline.deployment import Deployment
from export_pipeline.errors import DeliveryError, ExportError
from export_pipeline.ledger import backfills as ledger_backfills
from export_pipeline.ledger import inspection, sources, subscriptions
from export_pipeline.ledger.backfills import Asked
from export_pipeline.ledger.records import Subscription
from export_pipeline.orchestration import assets, reporting, wording
from export_pipeline.orchestration.backfills import ONLY, asked_by_assets, request_of
from export_pipeline.orchestration.guard import NEXT, delivery_failure, failures_logged
from export_pipeline.orchestration.names import (
    EXECUTOR_TAG,
    MAX_RUNTIME_TAG,
    ONLY_TAG,
    RANGE_TAG,
)
from export_pipeline.orchestration.quarantine import show_quarantine
from export_pipeline.orchestration.resources import Places, discovery_settings, place_keys
from export_pipeline.orchestration.underway import (
    LEAST_SHARE_OF_A_READING,
    LONGEST_STEP_SECONDS,
    between_batches,
    mark_with_ledger,
    run_deadline,
)
from export_pipeline.printable import printable, printable_lines
from export_pipeline.quantities import counted
from export_pipeline.secrets import scrub
from export_pipeline.steps.backfill import PlannedRange, plan_range
from export_pipeline.steps.deliver import Stopped
from export_pipeline.steps.open import Workspace, wanted, workspace_of
from export_pipeline.steps.ranges import Outcome, RangeDelivery, Sum
from export_pipeline.steps.read import ReadOutcome

# Planning may use this share of the run's time: all of the range is owed before the first file is read.
_SHARE_OF_PLANNING = 0.5
_NO_DAYS = "found {}; allowed: the days to deliver, as one partition or a range of them"
_NO_DAYS_NEXT = "nothing was planned; launch it again with these days"
# A run whose processes can be found by their locks; Dagster runs the step of assets in a separate process.
_EXECUTOR = "multiprocess"


@dataclass(slots=True)
class _Left:
    """What a subscriber is still owed of a range.

    Attributes:
        days: on which it is owed something, or which were not planned.
        files: those already planned.
        first: the first of these days.
    """

    days: int = 0
    files: int = 0
    first: date | None = None

    def add(self, day: date, files: int) -> None:
        self.days += 1
        self.files += files
        self.first = self.first or day


@dataclass(slots=True)
class _Ended:
    """The result of a run.

    Attributes:
        complete: subscriber → number of days of which it is owed nothing.
        reason: why the run stopped; empty: it reached the end of the range.
    """

    delivery: RangeDelivery
    complete: dict[str, int] = field(default_factory=dict)
    left: dict[str, _Left] = field(default_factory=dict)
    reason: str = ""


def range_assets(deployment: Deployment, specs: Mapping[str, AssetSpec]) -> AssetsDefinition:
    """The subscribers' assets, which deliver days when they are materialized.

    Args:
        specs: subscriber → its asset; at least one.
    """
    names = deployment.names
    keys = {*place_keys(names), *(names.prefixed(name) for name in deployment.subscribers)}

    @multi_asset(
        name=names.deliver_days,
        # A day is materialized once nothing of it is owed; a run that completes no day materializes nothing.
        specs=[spec.replace_attributes(skippable=True) for spec in specs.values()],
        can_subset=True,
        backfill_policy=BackfillPolicy.single_run(),
        required_resource_keys=keys,
        config_schema={
            "only": Field(
                ONLY,
                is_required=False,
                description="missing, the default: only what the chosen subscribers have not received of these days; "
                f"all: everything again, under the same batch ids. The tag {ONLY_TAG} does the same.",
            )
        },
        description="Deliver the chosen days to the subscribers whose assets are chosen, in one run.",
    )
    def deliver_days(context: AssetExecutionContext) -> Iterator[MaterializeResult[None]]:
        _deliver_days(context.op_execution_context, deployment)
        yield from ()

    return deliver_days


def _deliver_days(context: OpExecutionContext, deployment: Deployment) -> None:
    with failures_logged(context, deployment.secret_values()):
        days = _chosen_days(context)
        places = Places(context.resources, deployment.names)
        _mark(context, deployment, places)
        asked = asked_by_assets(context, deployment, days)
        for name in asked.subscribers:
            if name in deployment.unusable:
                context.log.error(wording.unusable(name, deployment.unusable[name]))
        planned = _plan(context, deployment, places, days, asked)
        ended = _deliver(context, deployment, days, asked, planned)
        _say_sums(context, ended, len(days))
    if ended.delivery.failures or ended.delivery.unreadable:
        raise _failure(ended, len(days))


def _chosen_days(context: OpExecutionContext) -> list[date]:
    """The partitions of the run: one, or a range of them."""
    # Dagster names a single partition by another tag than a range of one.
    if not (context.has_partition_key or context.has_partition_key_range):
        raise Failure(_NO_DAYS.format("no partition"), metadata={NEXT: _NO_DAYS_NEXT}, allow_retries=False)
    bounds = context.partition_key_range
    first, last = date.fromisoformat(bounds.start), date.fromisoformat(bounds.end)
    if last < first:
        found = f"a range from {first} to {last}, which ends before it begins"
        raise Failure(_NO_DAYS.format(found), metadata={NEXT: _NO_DAYS_NEXT}, allow_retries=False)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _mark(context: OpExecutionContext, deployment: Deployment, places: Places) -> None:
    """Tag the run as one of this export: Dagster accepts no tags in the definition of assets.

    Not with the tag that allows one run at a time: new files would wait until all of the range is delivered.
    """
    mark_with_ledger(context, places.ledger.open())
    context.instance.add_run_tags(
        context.run_id,
        {
            RANGE_TAG: deployment.names.prefixed(deployment.name),
            EXECUTOR_TAG: _EXECUTOR,
            MAX_RUNTIME_TAG: f"{deployment.run_seconds + LONGEST_STEP_SECONDS:.0f}",
        },
    )


def _plan(
    context: OpExecutionContext, deployment: Deployment, places: Places, days: list[date], asked: Asked
) -> PlannedRange:
    source, ledger = places.source.open(), places.ledger.open()
    request = request_of(context.run)
    with ledger.read() as tx:
        open_days = {one.day for one in ledger_backfills.unsettled(tx, source.url, request)}
    planned = plan_range(
        source,
        ledger,
        discovery_settings(deployment, places.source),
        days=[day for day in days if day in open_days],
        wanted=wanted(deployment),
        chosen=asked.subscribers,
        again=asked.again,
        run_id=context.run_id,
        backfill_id=request,
        stop=run_deadline(context, deployment, share=_SHARE_OF_PLANNING),
        progress=reporting.listing(context),
    )
    reporting.left_out(context, source)
    for sentence in [*planned.notes, *wording.found_odd(planned.found)]:
        context.log.info(sentence)
    context.log.info(_planned(days, asked, planned))
    return planned


def _planned(days: list[date], asked: Asked, planned: PlannedRange) -> str:
    new = f"; found {counted(planned.found.files, 'file')} that no earlier run had seen" if planned.found.files else ""
    again = f"; repeating {counted(planned.repeated, 'delivery', 'deliveries')}" if planned.repeated else ""
    return f"delivering {_days(days)} to {', '.join(asked.subscribers)}{new}{again}"


def _days(days: list[date]) -> str:
    if len(days) == 1:
        return f"{days[0]}"
    return f"{days[0]} to {days[-1]}, {counted(len(days), 'day')},"


def _deliver(
    context: OpExecutionContext, deployment: Deployment, days: list[date], asked: Asked, planned: PlannedRange
) -> _Ended:
    places = Places(context.resources, deployment.names)
    place = workspace_of(
        deployment,
        source=places.source.open(),
        ledger=places.ledger.open(),
        staging=places.staging.open(),
        quarantine=places.quarantine.open(),
    )
    subscribers = {name: getattr(context.resources, deployment.names.prefixed(name)) for name in asked.subscribers}
    seconds = deployment.run_seconds / len(subscribers)
    chosen = _subscriptions(place, asked)
    # A re-execution has planned nothing: its days were planned by the first run.
    unplanned = {*planned.unplanned}
    progress = reporting.every_few_seconds(context)
    with between_batches(context, deployment) as stop:
        delivery = RangeDelivery(
            replace(place, stop=stop, reading_seconds=deployment.run_seconds * LEAST_SHARE_OF_A_READING),
            chosen,
            subscribers,
            run_id=context.run_id,
            max_seconds={name: getattr(one, "max_run_seconds", None) or seconds for name, one in subscribers.items()},
            stop=stop,
            on_wait=lambda name, error, seconds: context.log.debug(f"{name}: {error}; retrying in {seconds:.1f} s"),
            progress_of_reading=lambda: reporting.reading(context),
            progress_of=lambda name: reporting.delivering(context, name),
        )
        ended = _Ended(delivery, {one.name: 0 for one in chosen}, {one.name: _Left() for one in chosen})
        for number, day in enumerate(days, start=1):
            ended.reason = ended.reason or stop()
            if not ended.reason:
                for outcome in delivery.deliver_day(day):
                    _say(context, deployment, place, outcome)
            _close_day(context, deployment, ended, day, is_planned=day not in unplanned)
            progress(partial(_so_far, number, len(days), delivery))
    ended.reason = ended.reason or planned.reason
    return ended


def _subscriptions(place: Workspace, asked: Asked) -> list[Subscription]:
    with place.ledger.read() as tx:
        source_id = sources.source_id(tx, place.source.url) or 0
        return [one for one in subscriptions.active(tx, source_id) if one.name in asked.subscribers]


def _say(context: OpExecutionContext, deployment: Deployment, place: Workspace, outcome: Outcome) -> None:
    """Log what needs attention, and what was read as the materialization of the raw events."""
    result, name = outcome.result, outcome.subscriber
    if isinstance(result, ReadOutcome):
        for note in result.notes:
            context.log.warning(note)
        if result.unreadable:
            context.log.error(wording.unreadable(result, deployment.max_attempts))
        if result.staged is not None and result.staged.reading is not None:
            manifest = result.staged.manifest
            with place.ledger.read() as tx:
                of_day = inspection.read_of_day(tx, manifest.source_id, manifest.day)
            context.log_event(
                assets.raw_events(
                    deployment.names.raw_events,
                    manifest,
                    result.staged.reading,
                    seconds=result.seconds,
                    of_day=of_day,
                )
            )
        if result.has_changed_quarantine:
            show_quarantine(context, deployment.names, place.ledger, outcome.manifest.id)
    elif isinstance(result, Stopped):
        context.log.info(wording.stopped(name, result))
    elif isinstance(result, Exception):
        of = f"manifest {outcome.manifest.id} of {outcome.manifest.day}"
        told = f"{name}: {of}: {result}" if name else f"{of} could not be read: {result}"
        next_step = getattr(result, "next_step", ExportError.next_step)
        context.log.error(printable_lines(scrub(f"{told} ({next_step})", deployment.secret_values())))


def _close_day(
    context: OpExecutionContext, deployment: Deployment, ended: _Ended, day: date, *, is_planned: bool
) -> None:
    """Materialize *day* for the subscribers that are owed nothing of it; count it for the others."""
    delivery = ended.delivery
    still_owed = delivery.owed_of_day(day)
    with delivery.place.ledger.read() as tx:
        for one in delivery.subscriptions:
            if still_owed.get(one.name) or not is_planned:
                ended.left[one.name].add(day, still_owed.get(one.name, 0))
                continue
            ended.complete[one.name] += 1
            source_id = sources.source_id(tx, delivery.place.source.url) or 0
            of_day = inspection.delivered_of_day(tx, source_id, one, day)
            done = delivery.of_day.get(one.name, Sum())
            context.log_event(assets.day_delivered(deployment.names.asset(one.name), day, done, of_day))


def _so_far(number: int, days: int, delivery: RangeDelivery) -> str:
    parts = [f"{name} accepted {counted(done.events, 'event')}" for name, done in delivery.sums.items()]
    return f"{number:,} of {counted(days, 'day')} so far" + (f": {'; '.join(parts)}" if parts else "")


def _say_sums(context: OpExecutionContext, ended: _Ended, days: int) -> None:
    """The last lines of a run: for each subscriber what it accepted, and what it is still owed."""
    for name, left in ended.left.items():
        sentence = _sum(name, ended, days)
        if left.days:
            context.log.warning(f"{sentence}. {_next(ended, name)}")
        else:
            context.log.info(sentence)


def _sum(name: str, ended: _Ended, days: int) -> str:
    done, left = ended.delivery.sums.get(name, Sum()), ended.left[name]
    refused = f", refused {done.refused:,} (quarantined)" if done.refused else ""
    accepted = f"{name} accepted {counted(done.events, 'event')} of {counted(done.files, 'file')}{refused}"
    if not left.days:
        return f"{accepted}; all of {counted(days, 'day')} is delivered" if days > 1 else f"{accepted}; the day is done"
    return (
        f"{accepted}; {ended.complete[name]:,} of {counted(days, 'day')} complete, still owed: "
        f"{counted(left.files, 'file')} of {counted(left.days, 'day')}, from {left.first} on"
    )


def _next(ended: _Ended, name: str) -> str:
    reason = ended.delivery.stopped.get(name) or ended.reason
    because = f"This run ended because {reason}. " if reason and name not in ended.delivery.failures else ""
    return f"{because}The next runs of the export deliver the rest"


def _failure(ended: _Ended, days: int) -> Failure:
    """The Failure of a run: each subscriber that failed, and what could not be read."""
    failures, unreadable = ended.delivery.failures, ended.delivery.unreadable
    texts = [f"{name} failed: {error}. {_sum(name, ended, days)}" for name, error in failures.items()]
    if unreadable:
        key, reason = next(iter(unreadable.items()))
        texts.append(f"{counted(len(unreadable), 'file')} could not be read, such as {printable(key)}: {reason}")
    metadata: dict[str, Any] = {NEXT: ExportError.next_step}
    for name, error in failures.items():
        if isinstance(error, DeliveryError):
            metadata = {**delivery_failure(name, error).metadata}
            break
    return Failure("; ".join(texts), metadata=metadata, allow_retries=False)
