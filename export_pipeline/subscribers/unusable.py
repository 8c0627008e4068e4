"""What stands in for a subscriber that cannot be set up, so that all others go on."""

from pydantic import Field

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.base import Subscriber


class Unusable(Subscriber):
    """A subscriber of the deployment file of which a variable is not set, or has a value that cannot be used.

    Nothing is delivered to it, and all stays owed, until the variable is set and the code location is loaded again.
    """

    reason: str = Field(description="What is wrong, and with which variable.")

    def deliver(self, batch: Batch) -> None:
        """Take nothing.

        Raises:
            Blocked: always.
        """
        raise Blocked(f"{self.reason}; set it where the run's process starts, and reload the code location")
