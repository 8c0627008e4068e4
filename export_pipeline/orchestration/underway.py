"""Runs in progress: which belong to this export, when to stop, and which have lost their process."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from dagster import (
    DagsterExecutionInterruptedError,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    OpExecutionContext,
    RunsFilter,
)

# Not public. Dagster's executors use it; a test terminates a run through the UI's own call.
from export_pipeline.dagster_internals import capture_interrupts, check_captured_interrupt
from export_pipeline.deployment import Deployment
from export_pipeline.ledger import database
from export_pipeline.ledger.claims import someone_is_at_work
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration.names import EXECUTOR_TAG, LEDGER_IDENTITY_TAG, LEDGER_TAG, RANGE_TAG
from export_pipeline.printable import printable_lines
from export_pipeline.secrets import scrub
from export_pipeline.steps.stopping import Stop, deadline

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
LONGEST_STEP_SECONDS = 3_600
"""A run starts nothing new once its time budget is used up, but a file or a warehouse load can take this long."""

LEAST_SHARE_OF_A_READING = 0.5
"""Share of max_run_seconds that reading a manifest gets in any case. So a run ends at most half its time late, and a
manifest whose turn always comes late in a run is read eventually."""

TERMINATED = "the run was terminated"
# With the other executors, Dagster's own run launchers monitor the containers.
_WITH_CLAIMS = ("in_process", "multiprocess", "celery")

# A step takes its lock when it opens the ledger and releases it just before it ends; between two steps there are
# seconds without one. After a lost connection to PostgreSQL a live process takes its lock again within two seconds;
# while PostgreSQL is down there are no locks, but active steps write to the log every ten seconds.
_SILENT_SECONDS = 120.0

_BEGUN = (DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
_GONE = (
    "The process of this run died without an error message: it was killed, or its machine stopped. Nothing is lost: "
    "the next run delivers what this one did not."
)


def of_export(
    instance: DagsterInstance,
    deployment: Deployment,
    *,
    ledger: Callable[[], Ledger],
    location: str | None,
    job: str | None = None,
) -> list[DagsterRun]:
    """Runs of this export that are not over, the latest first.

    Other exports can have jobs and deployment files with the same names, in another code location or another folder. A
    run that has started is tagged with the identity of its ledger; before that, its code location decides.

    Args:
        ledger: of this export; opened only if a run has the tag of a ledger.
        location: the code location of this export; None: that of its latest run, if there is one.
        job: only runs of this job; None: of all, and those that materialize assets.
    """
    name = deployment.names.prefixed(deployment.name)
    found = [
        run
        for tag in (LEDGER_TAG, *(() if job is not None else (RANGE_TAG,)))
        for run in instance.get_runs(RunsFilter(job_name=job, statuses=UNFINISHED, tags={tag: name}))
    ]
    ours = _Ours(instance, ledger, location)
    return [run for run in found if ours.has(run)]


def other_runs(context: OpExecutionContext, deployment: Deployment, ledger: Ledger) -> list[str]:
    """Ids of the other runs of this export that are not over."""
    runs = of_export(context.instance, deployment, ledger=lambda: ledger, location=location_of(context.run))
    return [run.run_id for run in runs if run.run_id != context.run_id]


def mark_with_ledger(context: OpExecutionContext, ledger: Ledger) -> None:
    """Tag the run with the identity of its ledger, which does not depend on the ledger's URL."""
    with ledger.read() as tx:
        mine = database.identity(tx)
    # A re-execution has the tags of the first run, which may have used another ledger.
    if context.run.tags.get(LEDGER_IDENTITY_TAG) != mine:
        context.instance.add_run_tags(context.run_id, {LEDGER_IDENTITY_TAG: mine})


class _Ours:
    """Distinguishes the runs of one export from those of other exports with the same name."""

    def __init__(self, instance: DagsterInstance, ledger: Callable[[], Ledger], location: str | None) -> None:
        self._instance = instance
        self._ledger = ledger
        self._location = location

    def has(self, run: DagsterRun) -> bool:
        named = run.tags.get(LEDGER_IDENTITY_TAG)
        if named is not None:
            return named == self._identity
        there = location_of(run)
        return there is None or self._here in (None, there)

    @cached_property
    def _identity(self) -> str:
        with self._ledger().read() as tx:
            return database.identity(tx)

    @cached_property
    def _here(self) -> str | None:
        """A schedule does not know its own code location, but its latest run does."""
        return self._location or location_of_latest(self._instance, self._identity)


def location_of_latest(instance: DagsterInstance, identity: str) -> str | None:
    """The code location of the latest run with the ledger of this identity; None if unknown."""
    latest = instance.get_runs(RunsFilter(tags={LEDGER_IDENTITY_TAG: identity}), limit=1)
    return location_of(latest[0]) if latest else None


def location_of(run: DagsterRun) -> str | None:
    """The code location that a run was launched from; None for a run from the command line."""
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin is not None else None


def run_is_over(context: OpExecutionContext, deployment: Deployment) -> Stop:
    """A reason to start nothing more once the run was terminated, or its process has died.

    A step in the run's own process gets a signal, and ends with it. Any other step checks Dagster's storage, every two
    seconds at most.
    """
    if deployment.executor.type == "in_process":
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


@contextmanager
def between_batches(context: OpExecutionContext, deployment: Deployment) -> Iterator[Stop]:
    """Inside the block, termination is not raised: it is a reason to stop, and is raised at the end of the block.

    Also if the block fails meanwhile: otherwise the run would continue, and the request would be forgotten.
    """
    over = nothing_more(context, deployment)
    with capture_interrupts():
        try:
            yield lambda: TERMINATED if check_captured_interrupt() else over()
        except Exception as error:
            if not check_captured_interrupt():
                raise
            context.log.error(printable_lines(scrub(f"{error} ({TERMINATED} meanwhile)", deployment.secret_values())))
            raise DagsterExecutionInterruptedError from None
        if check_captured_interrupt():
            raise DagsterExecutionInterruptedError


def nothing_more(context: OpExecutionContext, deployment: Deployment) -> Stop:
    """A reason to start nothing more: the run is over, or its time budget is used up."""
    ended, late = run_is_over(context, deployment), run_deadline(context, deployment)
    return lambda: ended() or late()


def run_deadline(context: OpExecutionContext, deployment: Deployment, *, share: float = 1.0) -> Stop:
    """A reason to start nothing more after the end of the run's time budget, or of a *share* of it."""
    record = context.instance.get_run_record_by_id(context.run_id)
    started = record.start_time if record is not None else None
    return deadline((started or time.time()) + share * deployment.run_seconds, share * deployment.run_seconds)


def subscriber_seconds(deployment: Deployment, own: float | None) -> float:
    """A subscriber's time budget in a run: its *own* ``max_run_seconds``, otherwise an equal share of the run's."""
    return own if own is not None else deployment.run_seconds / max(1, len(deployment.subscribers))


def end_lost_runs(
    instance: DagsterInstance, deployment: Deployment, *, ledger: Callable[[], Ledger], location: str | None
) -> list[DagsterRun]:
    """Report runs of this export whose processes have died as failed; returns these runs.

    Only runs whose processes hold locks in the ledger are checked.

    Args:
        ledger: of this export; its locks show which processes are alive, so runs of other exports are not checked.
        location: the code location of this export; None if unknown.
    """
    lost = []
    for run in of_export(instance, deployment, ledger=ledger, location=location):
        if run.status not in _BEGUN or run.tags.get(EXECUTOR_TAG) not in _WITH_CLAIMS:
            continue
        # Silent both before and after: it may have continued, or ended, while its locks were checked.
        if (
            _is_silent(instance, run)
            and not someone_is_at_work(ledger().claims, run.run_id)
            and _is_silent(instance, run)
        ):
            instance.report_run_failed(run, _GONE)
            lost.append(run)
    return lost


def _is_silent(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether the run is in progress, but has not written to its log for a long time."""
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.status not in _BEGUN:
        return False
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    return bool(last) and last[0].timestamp < time.time() - _SILENT_SECONDS
