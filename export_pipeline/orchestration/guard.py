"""Errors of ops: Dagster Failures that say what happens next, and contain no secret."""

import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    DagsterExecutionInterruptedError,
    Failure,
    MetadataValue,
    OpExecutionContext,
    RetryRequested,
)

from export_pipeline.errors import DeliveryError, ExportError
from export_pipeline.printable import as_code_block, printable_lines
from export_pipeline.secrets import scrub
from export_pipeline.steps.deliver import HeldBack

NEXT = "what happens next"
"""Metadata label that every failure has."""

_LONGEST_LINE = 500
_PASSED = (Failure, RetryRequested, DagsterExecutionInterruptedError)


@contextmanager
def failures_without_secrets(secrets: Iterable[str]) -> Iterator[None]:
    """Turn an exception raised inside into a Failure, with secrets removed from all its texts.

    Dagster stores the message and the traceback of every exception that leaves an op, causes included. Libraries put
    addresses, headers and statements into their messages, so none of them is passed on unchanged.
    """

    def clean(text: str) -> str:
        return printable_lines(scrub(text, secrets))

    try:
        yield
    except _PASSED:
        raise
    except ExportError as error:
        raise Failure(
            clean(str(error)), metadata={NEXT: MetadataValue.text(error.next_step)}, allow_retries=False
        ) from None
    except Exception as error:  # noqa: BLE001 (re-raised without secrets)
        trace = scrub("".join(traceback.format_exception(error)), secrets)
        raise Failure(
            clean(f"{type(error).__name__}: {error}"),
            metadata={
                NEXT: MetadataValue.text(ExportError.next_step),
                "traceback": MetadataValue.md(as_code_block(trace)),
            },
            allow_retries=False,
        ) from None


class AlreadyTold(Failure):
    """A failure that only repeats an earlier one of the same run, which is in its log."""


@contextmanager
def failures_logged(context: OpExecutionContext | AssetCheckExecutionContext, secrets: Iterable[str]) -> Iterator[None]:
    """As :func:`failures_without_secrets`; each failure is also a line of the run's log, at level ERROR.

    The page of a run shows its lines without its events, and a failed step is an event.
    """
    try:
        with failures_without_secrets(secrets):
            yield
    except AlreadyTold:
        raise
    except Failure as failure:
        context.log.error(error_line(failure.description or "", failure.metadata))
        raise


def error_line(description: str, metadata: Mapping[str, MetadataValue[Any]]) -> str:
    """The line of a failure: what failed, which batch, status, what was answered, and what happens next.

    It is made of the failure alone, so that what reads a run's events can tell that both are the same.
    """
    given = {label: str(value.value) for label, value in metadata.items() if isinstance(value.value, str)}
    next_step = given.get(NEXT, "")
    first = next(iter(description.splitlines()), "").removesuffix(f" ({next_step})")
    first = first if len(first) <= _LONGEST_LINE else first[: _LONGEST_LINE - 1] + "…"
    where = []
    if batch := given.get("batch"):
        where.append(f"batch {batch}")
    if (status := given.get("status", "none")) != "none":
        where.append(f"status {status}")
    return first + (f" [{', '.join(where)}]" if where else "") + (f"; next: {next_step}" if next_step else "")


def delivery_failure(name: str, error: DeliveryError, *, is_told: bool = False) -> Failure:
    """The Failure of a delivery: the subscriber, the batch, the destination's answer, and what happens next.

    Args:
        name: name of the subscriber.
        is_told: an earlier line of this run's log has it.
    """
    if isinstance(error, HeldBack):
        # Nothing was sent, so there is no answer to show.
        metadata: dict[str, Any] = {"subscriber": name, NEXT: error.next_step}
        return AlreadyTold(str(error), metadata=metadata, allow_retries=False)
    metadata = {
        "subscriber": name,
        "batch": error.batch_id,
        "status": MetadataValue.text("none" if error.status is None else str(error.status)),
        "answer": MetadataValue.text(error.answer),
        NEXT: error.next_step,
    }
    told = {label: value for label, value in metadata.items() if value not in ("", MetadataValue.text(""))}
    kind = AlreadyTold if is_told else Failure
    return kind(f"{name} did not accept a batch: {error} ({error.next_step})", metadata=told, allow_retries=False)
