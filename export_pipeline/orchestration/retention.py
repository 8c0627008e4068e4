"""Each run folds a piece of the ledger's old days; one that finds nothing purges a few old ones that found nothing."""

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

# To delete one costs 0.1 s of CPU with SQLite.
_MOST_RUNS = 20


def fold_old_days(context: OpExecutionContext, places: Places, deployment: Deployment) -> None:
    """Fold what ``ledger.keep_days`` allows, and say so where anything was."""
    if deployment.ledger.keep_days is None:
        return
    count = retention.fold_old_days(
        places.source.open(), places.ledger.open(), keep_days=deployment.ledger.keep_days, now=utc_now()
    )
    if count:
        context.log.info(wording.after_folding(count, deployment.ledger.keep_days))


def purge_idle_runs(context: OpExecutionContext, places: Places, deployment: Deployment) -> None:
    """Delete from Dagster's storage the oldest runs that found nothing, once they are older than ``runs_days``.

    Dagster purges ticks, and never runs: one that finds nothing leaves 166 KiB and four files, every ten minutes. Only
    runs that bear the identity of this ledger are looked at, so it takes none of another deployment's.
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
    except Exception as error:  # noqa: BLE001 (a store of logs may refuse; the export goes on, and the log says why)
        reason = scrub(f"{type(error).__name__}: {error}", deployment.secret_values())
        context.log.warning(f"old runs were not purged from Dagster's storage, the next run tries again: {reason}")
