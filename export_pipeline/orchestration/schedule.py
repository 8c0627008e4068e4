"""When the export runs: the schedule, the sensor ``new_files``, and the reasons to skip a tick."""

from collections.abc import Callable
from datetime import datetime

from dagster import (
    DagsterInstance,
    DefaultScheduleStatus,
    JobDefinition,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from export_pipeline.deployment import Deployment
from export_pipeline.ledger import database
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.orchestration import wording
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.instigators import sensor_is_on
from export_pipeline.orchestration.resources import LEDGER, Places, place_keys
from export_pipeline.orchestration.underway import end_lost_runs, location_of_latest, of_export
from export_pipeline.steps.lookout import sweep_of


def export_schedule(deployment: Deployment, job: JobDefinition, *, cron: str, timezone: str) -> ScheduleDefinition:
    """The schedule of ``export_job``; on by default unless the deployment says ``enabled: false``."""

    @schedule(
        name=deployment.names.export_schedule,
        job=job,
        required_resource_keys=place_keys(deployment.names, [LEDGER]),
        cron_schedule=cron,
        execution_timezone=timezone,
        default_status=DefaultScheduleStatus.RUNNING if deployment.enabled else DefaultScheduleStatus.STOPPED,
        description=f"Runs {deployment.names.export_job} ({deployment.frequency}). A skipped tick shows the reason.",
    )
    def tick(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        places = Places(context.resources, deployment.names)
        with failures_without_secrets(deployment.secret_values()):
            reason = reason_to_skip(deployment, context.instance, ledger=places.ledger.open)
            reason = reason or reason_to_leave_it_to_sensor(
                deployment, context.instance, places.ledger.open(), now=utc_now()
            )
        return SkipReason(reason) if reason else RunRequest()

    return tick


def reason_to_leave_it_to_sensor(
    deployment: Deployment, instance: DagsterInstance, ledger: Ledger, *, now: datetime
) -> str | None:
    """Why the schedule can leave this tick to the sensor; None if it is off, something is owed, or a listing is due.

    The sensor starts no run for deliveries or reads that failed before: these wait for the schedule.
    """
    with ledger.read() as tx:
        location = location_of_latest(instance, database.identity(tx))
    name = deployment.names.new_files
    if not sensor_is_on(instance, name, location=location):
        return None
    sweep = sweep_of(deployment, ledger)
    if sweep.reason(now) or sweep.listed_at is None:
        return None
    return (
        f"the sensor {name} is on and starts the runs; nothing is owed, and the last complete listing was at "
        f"{sweep.listed_at:%Y-%m-%d %H:%M} UTC. The schedule lists again after {sweep.due_at:%Y-%m-%d %H:%M} UTC "
        f"({sweep.setting})"
    )


def reason_to_skip(
    deployment: Deployment, instance: DagsterInstance, *, ledger: Callable[[], Ledger], location: str | None = None
) -> str | None:
    """Why no run should start now; None if one should. First ends runs whose processes have died.

    Args:
        ledger: of this export; opened only if there is a run to check.
        location: the code location of this export; None if unknown.
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
