"""What a backfill requests: recorded in the ledger at its launch, so that no day is lost with a run that Dagster drops.

Dagster creates one run for each day of a backfill. It fails a queued run if the code server is unavailable for too
long, and then nothing remembers the run's day. So the first run that sees the backfill records its days and
subscribers in the ledger, and the next run of the export owes the days that no run has reached.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from dagster import (
    DagsterEventType,
    DagsterRun,
    DagsterRunStatus,
    Enum,
    EnumValue,
    OpExecutionContext,
    RunsFilter,
)

from export_pipeline.deployment import Deployment
from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import backfills as ledger_backfills
from export_pipeline.ledger.backfills import Asked, AskedDay
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.ledger.records import Run
from export_pipeline.orchestration import instigators, wording
from export_pipeline.orchestration.names import (
    BACKFILL_TAG,
    CONFIGURED_TAG,
    EXECUTOR_TAG,
    FOUND_TAG,
    LEDGER_IDENTITY_TAG,
    LEDGER_TAG,
    ONLY_TAG,
    PARTITION_TAG,
    RANGE_TAG,
    RESUMED_TAG,
    ROOT_RUN_TAG,
    SUBSCRIBERS_TAG,
    TAG_PREFIXES,
)
from export_pipeline.orchestration.resources import Places, discovery_settings
from export_pipeline.orchestration.underway import location_of, nothing_more
from export_pipeline.steps.backfill import plan_day
from export_pipeline.steps.open import wanted
from export_pipeline.steps.stopping import Stop

MISSING, ALL = "missing", "all"
ONLY = Enum(
    "Only",
    [
        EnumValue(MISSING, description="Only what the subscribers have not received of the days."),
        EnumValue(ALL, description="Everything of the days again, under the same batch ids."),
    ],
)
_KNOWN_TAGS = (SUBSCRIBERS_TAG, ONLY_TAG, CONFIGURED_TAG, LEDGER_TAG, LEDGER_IDENTITY_TAG, EXECUTOR_TAG, FOUND_TAG)
# The prefix of the id of a run that is not part of a backfill.
_RUN = "run "
# Older backfills were recorded by a run, or there was no run at all.
_SEEN_WITHIN = timedelta(days=3)


def asked_by_run(context: OpExecutionContext, deployment: Deployment) -> Asked:
    """What a run of ``backfill_job`` requests: its tags, otherwise its config, otherwise all subscribers.

    Raises:
        ConfigurationError: an unknown tag, subscriber or choice, or an empty list of subscribers.
    """
    asked = _asked(context.run.tags, context.op_config, deployment)
    backfill_id = context.run.tags.get(BACKFILL_TAG)
    if backfill_id is None:
        return asked
    day = date.fromisoformat(context.partition_key)
    launched = instigators.backfill(context.instance, backfill_id)
    days = _days(launched.days) if launched is not None and launched.is_whole else []
    places = Places(context.resources, deployment.names)
    with places.ledger.open().write(durable=True) as tx:
        fixed = ledger_backfills.ask(tx, places.source.open().url, backfill_id, {day, *days}, asked, now=utc_now())
    return _still_configured(fixed, deployment)


def asked_by_assets(context: OpExecutionContext, deployment: Deployment, days: Sequence[date]) -> Asked:
    """What a run that materializes assets requests, recorded for *days* before anything is planned.

    Raises:
        ConfigurationError: an unknown tag or choice, or subscribers named by a tag.
    """
    run = context.run
    if SUBSCRIBERS_TAG in run.tags:
        raise ConfigurationError(f"tag {SUBSCRIBERS_TAG}: the chosen assets are the subscribers; leave it out")
    chosen = {tuple(key.path) for key in context.selected_asset_keys}
    names = tuple(name for name in deployment.subscribers if tuple(deployment.names.asset(name)) in chosen)
    tags = {tag: value for tag, value in run.tags.items() if tag != RANGE_TAG}
    asked = Asked(names, _asked(tags, context.op_config or {}, deployment).again)
    places = Places(context.resources, deployment.names)
    with places.ledger.open().write(durable=True) as tx:
        fixed = ledger_backfills.ask(tx, places.source.open().url, request_of(run), days, asked, now=utc_now())
    return _still_configured(fixed, deployment)


def request_of(run: DagsterRun) -> str:
    """The name, in the ledger, of what a run that materializes assets requests: its backfill, or itself.

    A re-execution from failure continues the request of its first run: what was to be repeated is repeated once.
    """
    first = run.tags.get(ROOT_RUN_TAG, run.run_id)
    if first != run.run_id and run.tags.get(RESUMED_TAG) != "true":
        return f"{_RUN}{run.run_id}"
    return run.tags.get(BACKFILL_TAG) or f"{_RUN}{first}"


def owe_days_without_a_run(context: OpExecutionContext, deployment: Deployment, places: Places) -> None:
    """Owe the days of finished backfills that none of their runs reached, and log them."""
    ledger, url = places.ledger.open(), places.source.open().url
    enough: Stop | None = None
    for one in _days_without_a_run(context, deployment, ledger, url):
        names = [name for name in one.asked.subscribers if name in deployment.subscribers]
        if not names:
            with ledger.write() as tx:
                ledger_backfills.settle(tx, url, one.backfill_id, [one.day], now=utc_now())
            continue
        enough = enough or nothing_more(context, deployment)
        if enough():
            return  # the next run continues
        plan_day(
            places.source.open(),
            ledger,
            discovery_settings(deployment, places.source),
            day=one.day,
            wanted=wanted(deployment),
            chosen=names,
            again=one.asked.again,
            run=Run(context.run_id, utc_now()),
            backfill_id=one.backfill_id,
        )
        context.log.warning(wording.day_without_a_run(one, names))


def _days_without_a_run(
    context: OpExecutionContext, deployment: Deployment, ledger: Ledger, url: str
) -> Iterator[AskedDay]:
    _write_down_new_ones(context, deployment, ledger, url)
    with ledger.read() as tx:
        left = ledger_backfills.unsettled(tx, url)
    for backfill_id in dict.fromkeys(one.backfill_id for one in left):
        launched = instigators.backfill(context.instance, backfill_id)
        if launched is not None and not launched.is_over:
            continue  # its runs can still reach them
        ranges = _runs_of_range(context, backfill_id)
        if not all(run.is_finished for run in ranges):
            continue
        days = [one for one in left if one.backfill_id == backfill_id]
        if launched is not None and launched.is_canceled:
            canceled = [one.day for one in days]
        elif ranges:
            canceled = [one.day for one in days] if ranges[0].status is DagsterRunStatus.CANCELED else []
        else:
            canceled = [one.day for one in days if _is_canceled(context, backfill_id, one.day)]
        if canceled:
            with ledger.write() as tx:
                ledger_backfills.settle(tx, url, backfill_id, canceled, now=utc_now())
        yield from (one for one in days if one.day not in canceled)


def _runs_of_range(context: OpExecutionContext, request: str) -> list[DagsterRun]:
    """The runs that materialize assets for a request, the latest first."""
    if not request.startswith(_RUN):
        runs = context.instance.get_runs(RunsFilter(tags={BACKFILL_TAG: request}))
        return [run for run in runs if RANGE_TAG in run.tags]
    first = context.instance.get_run_by_id(request.removeprefix(_RUN))
    if first is None:
        return []
    return [*context.instance.get_runs(RunsFilter(tags={ROOT_RUN_TAG: first.run_id})), first]


def _write_down_new_ones(context: OpExecutionContext, deployment: Deployment, ledger: Ledger, url: str) -> None:
    """Record backfills whose runs were all dropped, so that no run has recorded them."""
    here = location_of(context.run)
    if here is None:
        return  # a run from the command line cannot tell its backfills from those of another code location
    after = utc_now() - _SEEN_WITHIN
    launched = [
        one
        for one in instigators.backfills_of(context.instance, deployment.names.backfill_job, after=after)
        if one.location == here and one.is_whole and one.is_failed
    ]
    if not launched:
        return
    with ledger.read() as tx:
        known = ledger_backfills.known(tx, url, [one.id for one in launched])
    for one in launched:
        if one.id in known:
            continue
        runs = context.instance.get_runs(RunsFilter(tags={BACKFILL_TAG: one.id}))
        tags = {**(runs[0].tags if runs else {}), **one.tags}
        ops = one.run_config.get("ops", {})
        config = ops.get(deployment.names.list_day_files, {}).get("config", {})
        try:
            asked = _asked(tags, config, deployment)
        except ConfigurationError as error:
            # Those of its runs that started logged it as well. Recorded anyway, or each run would log it again.
            context.log.warning(f"backfill {one.id} is invalid and was skipped: {error}")
            asked = Asked((), again=False)
        came_to = {run.tags.get(PARTITION_TAG, "") for run in runs if _came_to_its_day(context, run)}
        with ledger.write(durable=True) as tx:
            ledger_backfills.ask(tx, url, one.id, _days(one.days), asked, now=utc_now())
            # For example from a version that recorded nothing: what its runs have owed is not owed again.
            ledger_backfills.settle(tx, url, one.id, _days(sorted(came_to & set(one.days))), now=utc_now())


def _came_to_its_day(context: OpExecutionContext, run: DagsterRun) -> bool:
    """Whether a run has owed its day, whatever happened to it after that."""
    if run.status is not DagsterRunStatus.FAILURE:
        return True  # it succeeded, or was canceled
    # Its first op owes the day, and no other can succeed before that.
    return bool(
        context.instance.get_records_for_run(run.run_id, of_type=DagsterEventType.STEP_SUCCESS, limit=1).records
    )


def _is_canceled(context: OpExecutionContext, backfill_id: str, day: date) -> bool:
    tags = {BACKFILL_TAG: backfill_id, PARTITION_TAG: day.isoformat()}
    runs = context.instance.get_runs(RunsFilter(tags=tags), limit=1)
    return bool(runs) and runs[0].status is DagsterRunStatus.CANCELED


def _asked(tags: Mapping[str, str], config: Mapping[str, Any], deployment: Deployment) -> Asked:
    """Read tags and config. A tag takes precedence: in a range of days the config cannot be changed."""
    unknown = [tag for tag in tags if tag.startswith(TAG_PREFIXES) and tag not in _KNOWN_TAGS]
    if unknown:
        raise ConfigurationError(f"unknown tag {', '.join(sorted(unknown))}; allowed: {SUBSCRIBERS_TAG}, {ONLY_TAG}")
    only = tags.get(ONLY_TAG, config.get("only", MISSING))
    if only not in (MISSING, ALL):
        raise ConfigurationError(f"tag {ONLY_TAG}: found {only!r}; allowed: {MISSING}, {ALL}")
    if SUBSCRIBERS_TAG in tags:
        where = f"tag {SUBSCRIBERS_TAG}"
        names = [name.strip() for name in tags[SUBSCRIBERS_TAG].split(",") if name.strip()]
    elif "subscribers" in config:
        where, names = "subscribers", list(config["subscribers"])
    else:
        return _still_configured(Asked(_configured(tags, deployment), again=only == ALL), deployment)
    configured = ", ".join(deployment.subscribers) or "none"
    if not names:
        raise ConfigurationError(
            f"{where}: found an empty list; allowed: names out of {configured}; leave it out for all"
        )
    strangers = [name for name in names if name not in deployment.subscribers]
    if strangers:
        raise ConfigurationError(f"{where}: found {', '.join(strangers)}; allowed: {configured}")
    return Asked(tuple(dict.fromkeys(names)), again=only == ALL)


def _configured(tags: Mapping[str, str], deployment: Deployment) -> tuple[str, ...]:
    """All subscribers that were configured when the run was created."""
    return tuple(tags[CONFIGURED_TAG].split(",")) if tags.get(CONFIGURED_TAG) else tuple(deployment.subscribers)


def _still_configured(asked: Asked, deployment: Deployment) -> Asked:
    found = tuple(name for name in asked.subscribers if name in deployment.subscribers)
    if not found:
        raise ConfigurationError(
            f"subscribers: found {', '.join(asked.subscribers) or 'an empty list'}, none of which is still configured; "
            f"allowed: {', '.join(deployment.subscribers) or 'none'}"
        )
    return Asked(found, asked.again)


def _days(names: Sequence[str]) -> list[date]:
    return [date.fromisoformat(name) for name in names]
