"""How a delivery that failed shows on the page of its run."""

from typing import Any

from dagster import Failure, MetadataValue

from export_pipeline.errors import Blocked, DeliveryError
from export_pipeline.steps.deliver import HeldBack

_TRIED_AGAIN = "the next run tries the same batches again, under the same ids"
_PERSON = "a person must act; nothing is lost, all data stays owed"


def delivery_failure(name: str, error: DeliveryError) -> Failure:
    """The Failure of an op: who did not take which batch, what it answered, and what happens next.

    Args:
        name: the subscriber's.
    """
    if isinstance(error, HeldBack):
        # Nothing was sent, so there is no answer to show.
        metadata: dict[str, Any] = {"subscriber": name, "what happens next": _TRIED_AGAIN}
        return Failure(str(error), metadata=metadata, allow_retries=False)
    next_step = _PERSON if isinstance(error, Blocked) else _TRIED_AGAIN
    metadata = {
        "subscriber": name,
        "batch": error.batch_id,
        "status": MetadataValue.text("none: it did not answer" if error.status is None else str(error.status)),
        "answer": MetadataValue.text(error.answer),
        "what happens next": next_step,
    }
    told = {label: value for label, value in metadata.items() if value not in ("", MetadataValue.text(""))}
    return Failure(f"{name} did not accept a batch: {error} ({next_step})", metadata=told, allow_retries=False)
