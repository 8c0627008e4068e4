"""Runs whose processes are gone, though Dagster takes them for started.

Dagster learns that a run's process died from whoever started it: a code server, a container service. Nobody tells of
``dagster job execute``, of a machine that lost power, or of a code server that died together with the runs it had
started, and such a run would keep the schedule waiting for hours. But each process of a run holds a claim in the
ledger, which the operating system or PostgreSQL gives back the moment it dies, or soon after its machine did.
"""

import time
from collections.abc import Callable

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from export_pipeline.ledger.claims import someone_is_at_work
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.names import EXECUTOR_TAG
from export_pipeline.orchestration.underway import of_export

# Of the others the containers are watched, by Dagster's own run launchers for them.
_WITH_CLAIMS = ("in_process", "multiprocess", "celery")

# A step takes its claim when it opens the ledger and gives it back a moment before it ends; from one step to the next
# it is seconds. Where a connection to PostgreSQL broke, a process that lives takes its claim anew within two; while
# PostgreSQL is away there are none, and what works writes into its log every ten seconds.
_SILENT_SECONDS = 120.0

_BEGUN = (DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
_GONE = (
    "The process of this run is gone, and did not say why: it was killed, or its machine stopped. Nothing is lost: "
    "what it had not delivered is owed to the next run."
)


def end_lost_runs(
    instance: DagsterInstance, export: Export, *, ledger: Callable[[], Ledger], location: str | None
) -> list[DagsterRun]:
    """Report as failed those runs of this export whose processes are gone; which these were.

    Only runs whose processes hold claims are looked at.

    Args:
        ledger: of this export; only it tells who is at work, so no run of another one is looked at.
        location: the code location of this export, where it is known.
    """
    lost = []
    for run in of_export(instance, export, ledger=ledger, location=location):
        if run.status not in _BEGUN or run.tags.get(EXECUTOR_TAG) not in _WITH_CLAIMS:
            continue
        # Silent both before and after: it may have gone on, or ended, while its claims were looked at.
        if (
            _is_silent(instance, run)
            and not someone_is_at_work(ledger().claims, run.run_id)
            and _is_silent(instance, run)
        ):
            instance.report_run_failed(run, _GONE)
            lost.append(run)
    return lost


def _is_silent(instance: DagsterInstance, run: DagsterRun) -> bool:
    """It is still under way, and has long written nothing into its log."""
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.status not in _BEGUN:
        return False
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    return bool(last) and last[0].timestamp < time.time() - _SILENT_SECONDS
