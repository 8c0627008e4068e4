"""Runs that are not over, as Dagster knows them."""

import time

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, OpExecutionContext, RunsFilter

from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.names import LEDGER_TAG
from export_pipeline.steps.stopping import Stop

UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_OVER = (
    DagsterRunStatus.CANCELING,
    DagsterRunStatus.CANCELED,
    DagsterRunStatus.FAILURE,
    DagsterRunStatus.SUCCESS,
)
_LOOK_SECONDS = 2.0


def of_export(
    instance: DagsterInstance, export: Export, *, job: str | None = None, limit: int | None = None
) -> list[DagsterRun]:
    """Runs of this export that are not over, the latest first.

    Args:
        job: only those of this job. Another code location may have one of this name, for another deployment.
    """
    ours = RunsFilter(job_name=job, statuses=UNFINISHED, tags={LEDGER_TAG: export.names.prefixed(export.deployment)})
    return list(instance.get_runs(filters=ours, limit=limit))


def other_runs(context: OpExecutionContext, export: Export) -> list[str]:
    """Ids of the other runs of this export that are not over."""
    return [run.run_id for run in of_export(context.instance, export) if run.run_id != context.run_id]


def location_of(run: DagsterRun) -> str | None:
    """The code location that a run was launched from; None for one by command line, which knows none."""
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin is not None else None


def run_is_over(context: OpExecutionContext, export: Export) -> Stop:
    """A reason to begin nothing more once somebody has ended the run, or its own process has died.

    A step in the run's own process is told by a signal, and dies with it. Any other looks at Dagster's storage, every
    two seconds at most.
    """
    if export.executor.type == "in_process":
        return lambda: ""
    looked_at, reason = 0.0, ""

    def look() -> str:
        nonlocal looked_at, reason
        now = time.monotonic()
        if not reason and now - looked_at >= _LOOK_SECONDS:
            looked_at = now
            run = context.instance.get_run_by_id(context.run_id)
            if run is None or run.status in _OVER:
                reason = "the run was ended"
        return reason

    return look
