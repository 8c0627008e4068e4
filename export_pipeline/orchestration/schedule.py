"""When the export runs, and why it sometimes does not."""

from collections.abc import Callable

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

from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration import wording
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.lost_runs import end_lost_runs
from export_pipeline.orchestration.places import LEDGER, Places, place_keys
from export_pipeline.orchestration.underway import of_export


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
