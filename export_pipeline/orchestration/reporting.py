"""Progress of long ops, as lines of the event log."""

import time
from collections.abc import Callable

from dagster import OpExecutionContext

from export_pipeline.orchestration import wording
from export_pipeline.steps.progress import Amount, Progress

EVERY_SECONDS = 10.0


def listing(context: OpExecutionContext) -> Progress:
    """For an op that lists the source."""
    return _progress(context, lambda done, planned, seconds: wording.listed_so_far(done))


def reading(context: OpExecutionContext) -> Progress:
    """For an op that reads a manifest."""
    return _progress(context, wording.read_so_far)


def delivering(context: OpExecutionContext, name: str) -> Progress:
    """For an op that delivers to the subscriber called *name*."""
    return _progress(context, lambda done, planned, seconds: wording.delivered_so_far(name, done, planned, seconds))


def _progress(context: OpExecutionContext, sentence: Callable[[Amount, Amount, float], str]) -> Progress:
    started = time.monotonic()
    return Progress(
        lambda done, planned: context.log.info(sentence(done, planned, time.monotonic() - started)),
        every_seconds=EVERY_SECONDS,
    )
