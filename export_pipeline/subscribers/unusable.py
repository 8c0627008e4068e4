"""Replaces a subscriber that cannot be configured, so that all others continue."""

from pydantic import Field

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.base import Subscriber


class Unusable(Subscriber):
    """A subscriber of the deployment file with an environment variable that is not set, or has an unusable value.

    Nothing is delivered to it, and all stays owed, until the variable is set and the code location is reloaded.
    """

    reason: str = Field(description="What is wrong, and with which variable.")

    def deliver(self, batch: Batch) -> None:
        """Refuse every batch.

        Raises:
            Blocked: always.
        """
        raise Blocked(f"{self.reason}; set it where the run's process starts, and reload the code location")
