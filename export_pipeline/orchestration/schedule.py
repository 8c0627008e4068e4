"""When the export runs, and why it sometimes does not."""

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

from export_pipeline.orchestration import wording
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.underway import of_export


def export_schedule(export: Export, job: JobDefinition, *, cron: str, timezone: str) -> ScheduleDefinition:
    """The schedule that kicks off ``export_job``; on from the start unless the deployment says ``enabled: false``."""

    @schedule(
        name=export.names.export_schedule,
        job=job,
        cron_schedule=cron,
        execution_timezone=timezone,
        default_status=DefaultScheduleStatus.RUNNING if export.enabled else DefaultScheduleStatus.STOPPED,
        description=f"Runs {export.names.export_job} ({export.frequency}). A tick is skipped, and says why, where "
        "there is nothing to run for.",
    )
    def tick(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        reason = reason_to_skip(export, context.instance)
        return SkipReason(reason) if reason else RunRequest()

    return tick


def reason_to_skip(export: Export, instance: DagsterInstance) -> str | None:
    """Why no run should start now; None where one should."""
    if not export.enabled:
        return f"enabled: false in deployment {export.deployment}"
    if not export.subscribers:
        return wording.NO_SUBSCRIBER.format(deployment=export.deployment)
    job = export.names.export_job
    unfinished = of_export(instance, export, job=job, limit=1)
    if unfinished:
        run = unfinished[0]
        return f"run {run.run_id[:8]} of {job} is still under way ({run.status.value.lower()})"
    return None
