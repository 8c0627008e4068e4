"""What leaves an op as an error: a Dagster Failure that says what happens next, and holds no secret."""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dagster import DagsterExecutionInterruptedError, Failure, MetadataValue, RetryRequested

from export_pipeline.errors import ExportError
from export_pipeline.printable import as_code_block
from export_pipeline.secrets import scrub

NEXT = "what happens next"
"""The label of what every failure says."""

_PASSED = (Failure, RetryRequested, DagsterExecutionInterruptedError)


@contextmanager
def failures_without_secrets(secrets: Iterable[str]) -> Iterator[None]:
    """Turn what is raised inside into a Failure whose every text went through ``scrub``.

    Dagster stores the message and the traceback of whatever leaves an op, causes included. Libraries put addresses,
    headers and statements into their messages, so none of it may pass as it is.
    """
    try:
        yield
    except _PASSED:
        raise
    except ExportError as error:
        raise Failure(
            scrub(str(error), secrets), metadata={NEXT: MetadataValue.text(error.next_step)}, allow_retries=False
        ) from None
    except Exception as error:  # noqa: BLE001 (it is raised again, cleaned)
        trace = scrub("".join(traceback.format_exception(error)), secrets)
        raise Failure(
            scrub(f"{type(error).__name__}: {error}", secrets),
            metadata={
                NEXT: MetadataValue.text(ExportError.next_step),
                "traceback": MetadataValue.md(as_code_block(trace)),
            },
            allow_retries=False,
        ) from None
