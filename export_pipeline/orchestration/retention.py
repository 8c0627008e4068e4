"""Housekeeping in runs: each folds some old days of the ledger; an idle run also purges a few old idle runs."""

from datetime import timedelta

from dagster import DagsterRunStatus, OpExecutionContext, RunsFilter

from export_pipeline.deployment import Deployment
from export_pipeline.ledger import database
from export_pipeline.ledger.database import utc_now
from export_pipeline.orchestration import instigators, wording
from export_pipeline.orchestration.names import FOUND_TAG, LEDGER_IDENTITY_TAG, NOTHING
from export_pipeline.orchestration.resources import Places
from export_pipeline.secrets import scrub
from export_pipeline.steps import retention

# Deleting a run costs 0.1 s of CPU with SQLite.
_MOST_RUNS = 20


def fold_old_days(context: OpExecutionContext, places: Places, deployment: Deployment) -> None:
    """Fold days older than ``ledger.keep_days``, and log how many manifests were folded."""
    if deployment.ledger.keep_days is None:
        return
    count = retention.fold_old_days(
        places.source.open(), places.ledger.open(), keep_days=deployment.ledger.keep_days, now=utc_now()
    )
    if count:
        context.log.info(wording.after_folding(count, deployment.ledger.keep_days))


def purge_idle_runs(context: OpExecutionContext, places: Places, deployment: Deployment) -> None:
    """Delete the oldest runs that found nothing from Dagster's storage, once they are older than ``runs_days``.

    Dagster purges ticks, but never runs: an idle run leaves 166 KiB and four files, every ten minutes. Only runs tagged
    with the identity of this ledger are deleted, so those of other deployments stay.
    """
    if deployment.retention.runs_days is None:
        return
    with places.ledger.open().read() as tx:
        ours = {FOUND_TAG: NOTHING, LEDGER_IDENTITY_TAG: database.identity(tx)}
    old = RunsFilter(
        job_name=deployment.names.export_job,
        statuses=[DagsterRunStatus.SUCCESS],
        tags=ours,
        created_before=utc_now() - timedelta(days=deployment.retention.runs_days),
    )
    try:
        for run in context.instance.get_runs(old, limit=_MOST_RUNS, ascending=True):
            instigators.forget_run(context.instance, run.run_id)
    except Exception as error:  # noqa: BLE001 (storage can fail; the export continues, and logs why)
        reason = scrub(f"{type(error).__name__}: {error}", deployment.secret_values())
        context.log.warning(f"old runs were not purged from Dagster's storage, the next run retries: {reason}")
