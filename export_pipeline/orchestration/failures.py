"""How a delivery that failed shows on the page of its run."""

from typing import Any

from dagster import Failure, MetadataValue

from export_pipeline.errors import DeliveryError
from export_pipeline.orchestration.guard import NEXT
from export_pipeline.steps.deliver import HeldBack


def delivery_failure(name: str, error: DeliveryError) -> Failure:
    """The Failure of an op: who did not take which batch, what it answered, and what happens next.

    Args:
        name: the subscriber's.
    """
    if isinstance(error, HeldBack):
        # Nothing was sent, so there is no answer to show.
        metadata: dict[str, Any] = {"subscriber": name, NEXT: error.next_step}
        return Failure(str(error), metadata=metadata, allow_retries=False)
    metadata = {
        "subscriber": name,
        "batch": error.batch_id,
        "status": MetadataValue.text("none" if error.status is None else str(error.status)),
        "answer": MetadataValue.text(error.answer),
        NEXT: error.next_step,
    }
    told = {label: value for label, value in metadata.items() if value not in ("", MetadataValue.text(""))}
    return Failure(f"{name} did not accept a batch: {error} ({error.next_step})", metadata=told, allow_retries=False)
