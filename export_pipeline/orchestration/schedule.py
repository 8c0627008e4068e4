"""When the export runs, and why it sometimes does not."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import islice, pairwise

from dagster import (
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    JobDefinition,
    RunConfig,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    schedule,
    sensor,
)

from export_pipeline.dagster_internals import cron_string_iterator
from export_pipeline.ledger import backlog as ledger_backlog
from export_pipeline.ledger import planning, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration import instigators, wording
from export_pipeline.orchestration.export import Export, Watching
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.names import SENSOR_INTERVAL_SECONDS
from export_pipeline.orchestration.resources import LEDGER, SOURCE, Places, place_keys
from export_pipeline.orchestration.underway import end_lost_runs, of_export


def export_schedule(export: Export, job: JobDefinition, *, cron: str, timezone: str) -> ScheduleDefinition:
    """The schedule that kicks off ``export_job``; on from the start unless the deployment says ``enabled: false``."""

    @schedule(
        name=export.names.export_schedule,
        job=job,
        required_resource_keys=place_keys(export.names, [LEDGER]),
        cron_schedule=cron,
        execution_timezone=timezone,
        default_status=DefaultScheduleStatus.RUNNING if export.enabled else DefaultScheduleStatus.STOPPED,
        description=f"Runs {export.names.export_job} ({export.frequency}). A tick is skipped, and says why, where "
        "there is nothing to run for.",
    )
    def tick(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        places = Places(context.resources, export.names)
        with failures_without_secrets(export.secrets):
            reason = reason_to_skip(export, context.instance, ledger=places.ledger.open)
        return SkipReason(reason) if reason else RunRequest()

    return tick


def reason_to_skip(
    export: Export, instance: DagsterInstance, *, ledger: Callable[[], Ledger], location: str | None = None
) -> str | None:
    """Why no run should start now; None where one should. Runs whose process is gone are ended, and are no reason.

    Args:
        ledger: of this export; opened only where there is a run to look at.
        location: the code location of this export, where it is known.
    """
    if not export.enabled:
        return f"enabled: false in deployment {export.deployment}"
    if not export.subscribers:
        return wording.NO_SUBSCRIBER.format(deployment=export.deployment)
    end_lost_runs(instance, export, ledger=ledger, location=location)
    job = export.names.export_job
    unfinished = of_export(instance, export, ledger=ledger, location=location, job=job)
    if unfinished:
        run = unfinished[0]
        return f"run {run.run_id[:8]} of {job} is still under way ({run.status.value.lower()})"
    return None


_LEAST = timedelta(minutes=60)
# A frequency such as */10 8-18 * * 1-5 has its longest pause at the weekend, one of the first of a month its own.
_LOOKED_AT = timedelta(days=8)
_LEAST_TICKS = 14
_MOST_TICKS = 12_000
_SOME_MOMENT = datetime(2026, 1, 1, tzinfo=timezone.utc)
_LEAST_RUN_SECONDS = 60.0
_MOST_RUN_SECONDS = 3_600.0


def allowed_lag(watching: Watching, now: datetime) -> timedelta:
    """``max_lag_minutes``, or twice the longest time between two of the next ticks, and at least an hour."""
    if watching.max_lag_minutes is not None:
        return timedelta(minutes=watching.max_lag_minutes)
    return max(_LEAST, 2 * longest_pause(watching.cron, watching.timezone, now))


def default_run_seconds(cron: str, zone: str) -> float:
    """The shortest time between two ticks, seen from a fixed moment, so that it is the same on any day."""
    ticks = islice(cron_string_iterator(_SOME_MOMENT.timestamp(), cron, zone), _LEAST_TICKS)
    shortest = min(following - one for one, following in pairwise(ticks))
    return min(max(shortest.total_seconds(), _LEAST_RUN_SECONDS), _MOST_RUN_SECONDS)


def longest_pause(cron: str, zone: str, now: datetime) -> timedelta:
    """The longest time between two ticks of the week that begins *now*, or of the next fourteen ticks."""
    end = now.astimezone(timezone.utc) + _LOOKED_AT
    # Dagster's own reading of cron, which is not public: any other one might differ from what the schedule does.
    ticks = islice(cron_string_iterator(now.timestamp(), cron, zone), _MOST_TICKS)
    longest = timedelta()
    for number, (one, following) in enumerate(pairwise(ticks)):
        longest = max(longest, following - one)
        if one > end and number >= _LEAST_TICKS:
            break
    return longest


def new_files_sensor(export: Export, job: JobDefinition) -> SensorDefinition:
    """Where more files wait than one run takes, start the next run at once. Off by default."""

    @sensor(
        name=export.names.new_files,
        job=job,
        required_resource_keys=place_keys(export.names, [SOURCE, LEDGER]),
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.STOPPED,
        description="Its cursor shows the key up to which the source has been listed. Set it back to list once more "
        "from there; moved forward it changes nothing. Turned on, it starts the next run at once while a backlog "
        "waits, with catch_up_max_files.",
    )
    def new_files(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        places = Places(context.resources, export.names)
        with failures_without_secrets(export.secrets):
            repository = instigators.repository_of(context)
            reason = reason_to_skip(
                export,
                context.instance,
                ledger=places.ledger.open,
                location=instigators.location_of(repository) if repository is not None else None,
            )
            if reason:
                return SkipReason(reason)
            url = places.source.open().url
            if not backlog(places.ledger.open(), url):
                return SkipReason("nothing waits for a run; the schedule looks for new files")
        return RunRequest(
            run_config=RunConfig(
                ops={export.names.list_new_files: {"config": {"max_files": export.catch_up_max_files}}}
            )
        )

    return new_files


def backlog(ledger: Ledger, url: str) -> bool:
    """Whether another run could get on at once.

    What is owed to a subscriber that just failed is no reason: it has to wait for the schedule, or a sick receiver
    would be knocked at without end. Nor is what could not be read, or a corrupt file, or a store that refuses access,
    would start run after run.
    """
    with ledger.read() as tx:
        number = subscriptions.source_id(tx, url)
        if number is None:
            return False
        more = planning.more_to_list(tx, number)
        failing = ledger_backlog.failing(tx, number)
        well = [one for one in subscriptions.active(tx, number) if one.id not in failing]
        return any(more or ledger_backlog.gets_on(tx, one) for one in well)
