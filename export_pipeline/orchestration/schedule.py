"""When the export runs, and why it sometimes does not."""

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    JobDefinition,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from export_pipeline.orchestration import wording
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.names import LEDGER_TAG

_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


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
    # Another code location may have a job of this name, for another deployment.
    ours = RunsFilter(job_name=job, statuses=_UNFINISHED, tags={LEDGER_TAG: export.names.prefixed(export.deployment)})
    unfinished = instance.get_runs(filters=ours, limit=1)
    if unfinished:
        run = unfinished[0]
        return f"run {run.run_id[:8]} of {job} is still under way ({run.status.value.lower()})"
    return None
