"""When a step leaves the rest to the next run: the run's time budget, and termination from the UI.

Dagster ends a step by an exception wherever it stands, also between a receiver's answer and the ledger's record of it.
Inside :func:`between_batches` the request to end is kept until the batch in flight is recorded.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterExecutionInterruptedError, OpExecutionContext

# Not public. It is what the executors themselves work with; a test ends a run through the UI's own call.
from export_pipeline.dagster_internals import capture_interrupts, check_captured_interrupt
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.underway import run_is_over
from export_pipeline.steps.stopping import Stop, deadline

TERMINATED = "the run was terminated"


@contextmanager
def between_batches(context: OpExecutionContext, export: Export) -> Iterator[Stop]:
    """Inside the block termination raises nothing: it becomes a reason to stop, and is raised at the block's end."""
    over = nothing_more(context, export)
    with capture_interrupts():
        yield lambda: TERMINATED if check_captured_interrupt() else over()
        if check_captured_interrupt():
            raise DagsterExecutionInterruptedError


def nothing_more(context: OpExecutionContext, export: Export) -> Stop:
    """A reason to begin nothing more: the run is over, or its time."""
    ended, late = run_is_over(context, export), run_deadline(context, export)
    return lambda: ended() or late()


def run_deadline(context: OpExecutionContext, export: Export) -> Stop:
    """A reason to begin nothing more from the end of the run's time budget on."""
    record = context.instance.get_run_record_by_id(context.run_id)
    started = record.start_time if record is not None else None
    return deadline((started or time.time()) + export.max_run_seconds, export.max_run_seconds)


def subscriber_seconds(export: Export, own: float | None) -> float:
    """A subscriber's time budget in a run: its *own* ``max_run_seconds``, else an equal share of the run's."""
    return own if own is not None else export.max_run_seconds / max(1, len(export.subscribers))
