"""When the export runs, and why it sometimes does not."""

from collections.abc import Callable

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

from export_pipeline.deployment import Deployment
from export_pipeline.ledger import owed, sources, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration import instigators, wording
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.names import SENSOR_INTERVAL_SECONDS
from export_pipeline.orchestration.resources import LEDGER, SOURCE, Places, place_keys
from export_pipeline.orchestration.underway import end_lost_runs, of_export


def export_schedule(deployment: Deployment, job: JobDefinition, *, cron: str, timezone: str) -> ScheduleDefinition:
    """The schedule that kicks off ``export_job``; on from the start unless the deployment says ``enabled: false``."""

    @schedule(
        name=deployment.names.export_schedule,
        job=job,
        required_resource_keys=place_keys(deployment.names, [LEDGER]),
        cron_schedule=cron,
        execution_timezone=timezone,
        default_status=DefaultScheduleStatus.RUNNING if deployment.enabled else DefaultScheduleStatus.STOPPED,
        description=f"Runs {deployment.names.export_job} ({deployment.frequency}). A tick is skipped, and says why, "
        "where there is nothing to run for.",
    )
    def tick(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        places = Places(context.resources, deployment.names)
        with failures_without_secrets(deployment.secret_values()):
            reason = reason_to_skip(deployment, context.instance, ledger=places.ledger.open)
        return SkipReason(reason) if reason else RunRequest()

    return tick


def reason_to_skip(
    deployment: Deployment, instance: DagsterInstance, *, ledger: Callable[[], Ledger], location: str | None = None
) -> str | None:
    """Why no run should start now; None where one should. Runs whose process is gone are ended, and are no reason.

    Args:
        ledger: of this export; opened only where there is a run to look at.
        location: the code location of this export, where it is known.
    """
    if not deployment.enabled:
        return f"enabled: false in deployment {deployment.name}"
    if not deployment.subscribers:
        return wording.NO_SUBSCRIBER.format(deployment=deployment.name)
    end_lost_runs(instance, deployment, ledger=ledger, location=location)
    job = deployment.names.export_job
    unfinished = of_export(instance, deployment, ledger=ledger, location=location, job=job)
    if unfinished:
        run = unfinished[0]
        return f"run {run.run_id[:8]} of {job} is still under way ({run.status.value.lower()})"
    return None


def new_files_sensor(deployment: Deployment, job: JobDefinition) -> SensorDefinition:
    """Where more files wait than one run takes, start the next run at once. Off by default."""

    @sensor(
        name=deployment.names.new_files,
        job=job,
        required_resource_keys=place_keys(deployment.names, [SOURCE, LEDGER]),
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.STOPPED,
        description="Its cursor shows the key up to which the source has been listed. Set it back to list once more "
        "from there; moved forward it changes nothing. Turned on, it starts the next run at once while a backlog "
        "waits, with catch_up_max_files.",
    )
    def new_files(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        places = Places(context.resources, deployment.names)
        with failures_without_secrets(deployment.secret_values()):
            repository = instigators.repository_of(context)
            reason = reason_to_skip(
                deployment,
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
                ops={deployment.names.list_new_files: {"config": {"max_files": deployment.catch_up_max_files}}}
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
        number = sources.source_id(tx, url)
        if number is None:
            return False
        more = sources.more_to_list(tx, number)
        failing = owed.failing_subscriptions(tx, number)
        well = [one for one in subscriptions.active(tx, number) if one.id not in failing]
        return any(more or owed.gets_on(tx, one) for one in well)
