"""Progress of long ops, and what a listing left out, as lines of the event log."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime

from dagster import OpExecutionContext

from export_pipeline.errors import TryLater
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.run_totals import run_totals
from export_pipeline.orchestration import wording
from export_pipeline.source.store import Source
from export_pipeline.steps.deliver import Delivered
from export_pipeline.steps.progress import Amount, Progress, RunProgress

EVERY_SECONDS = 10.0


def listing(context: OpExecutionContext) -> Progress:
    """For an op that lists the source."""
    return _progress(context, lambda done, planned, seconds: wording.listed_so_far(done))


def left_out(context: OpExecutionContext, source: Source) -> None:
    """Log what the listings of this step ignored, and what they could not list."""
    found = source.take_left_out()
    if found.ignored:
        context.log.info(wording.ignored(found))
    if found.troubles:
        context.log.warning(wording.not_listed(found))


def reading(context: OpExecutionContext) -> Progress:
    """For an op that reads a manifest."""
    return _progress(context, wording.read_so_far)


def delivering(context: OpExecutionContext, name: str) -> Progress:
    """For an op that delivers to the subscriber called *name*."""
    return _progress(context, lambda done, planned, seconds: wording.delivered_so_far(name, done, planned, seconds))


def every_few_seconds(context: OpExecutionContext) -> Callable[[Callable[[], str]], None]:
    """A function that logs the sentence it is given a function for, every ten seconds at most."""
    due = time.monotonic() + EVERY_SECONDS

    def say(sentence: Callable[[], str]) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + EVERY_SECONDS
            context.log.info(sentence())

    return say


def waiting(context: OpExecutionContext, name: str) -> Callable[[TryLater, float], None]:
    """Logs the first retry of a delivery to the subscriber called *name*, and then how many there were, if it lasts.

    What comes of them is logged in any case: that it was accepted, or the error.
    """
    retries, logged_at = 0, 0.0

    def on_wait(error: TryLater, seconds: float) -> None:
        nonlocal retries, logged_at
        retries += 1
        now = time.monotonic()
        if retries == 1 or now - logged_at >= EVERY_SECONDS:
            logged_at = now
            context.log.info(wording.retrying(name, error, seconds, retries))

    return on_wait


def run_ended(ledger: Ledger, url: str, run_id: str, *, since: datetime) -> str:
    """The last line of a run: what it found, delivered and set aside, and what is still owed."""
    with ledger.read() as tx:
        totals = run_totals(tx, url, run_id, since=since)
    return wording.run_ended(totals)


# Run id → progress. The steps of a run share this process; with other executors each step has its own, and reports only
# its own work. A worker that runs for months sees runs start, but may never see them end, so the oldest are dropped.
_RUNS: dict[str, RunProgress] = {}
_MOST_RUNS = 16


def run_begins(context: OpExecutionContext, chosen: Iterable[OwedManifest]) -> None:
    """Record what a run will deliver."""
    planned: dict[str, Amount] = {}
    for manifest in chosen:
        for name in manifest.subscribers:
            amount = planned.setdefault(name, Amount())
            amount.files += manifest.files
            amount.size_bytes += manifest.size_bytes
    log = context.log
    while len(_RUNS) >= _MOST_RUNS:
        del _RUNS[next(iter(_RUNS))]
    _RUNS[context.run_id] = RunProgress(
        planned,
        lambda done, planned: log.info(wording.run_so_far(done, planned)),
        every_seconds=EVERY_SECONDS,
    )


def manifest_delivered(context: OpExecutionContext, name: str, done: Delivered) -> None:
    """Add a manifest that the subscriber called *name* has received, and log the run's progress if it is due."""
    if context.run_id in _RUNS:
        files = done.manifest.files
        size_bytes = sum(file.size_bytes for file in files)
        _RUNS[context.run_id].delivered(name, files=len(files), events=done.totals.accepted, size_bytes=size_bytes)


def run_ends(context: OpExecutionContext) -> None:
    """Drop the progress of the run."""
    _RUNS.pop(context.run_id, None)


def _progress(context: OpExecutionContext, sentence: Callable[[Amount, Amount, float], str]) -> Progress:
    started = time.monotonic()
    return Progress(
        lambda done, planned: context.log.info(sentence(done, planned, time.monotonic() - started)),
        every_seconds=EVERY_SECONDS,
    )
