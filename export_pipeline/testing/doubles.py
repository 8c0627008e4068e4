"""Test doubles: subscribers that record batches, or fail by a script."""

from collections.abc import Iterable

from export_pipeline.batching.batch import Batch, Receipt


class RecordingSubscriber:
    """Accepts and keeps everything.

    Can be passed as a resource. It is deliberately a plain object: Dagster copies a ``ConfigurableResource`` before it
    uses it, and the test would not see what the copy records.

    Attributes:
        calls: every batch passed to ``deliver``, in order, accepted or not.
        batches: the accepted ones.
    """

    since: str | None = None

    def __init__(self, *, retry_for_seconds: float = 30.0, secrets: tuple[str, ...] = ()) -> None:
        self.retry_for_seconds = retry_for_seconds
        self.calls: list[Batch] = []
        self.batches: list[Batch] = []
        self.closed = 0
        self._secrets = secrets

    def deliver(self, batch: Batch) -> Receipt | None:
        """Record and accept the batch."""
        self.calls.append(batch)
        self.batches.append(batch)
        return None

    def check(self) -> None:
        """Always succeed."""

    def close(self) -> None:
        """Count the call."""
        self.closed += 1

    def secret_values(self) -> tuple[str, ...]:
        """The secrets that were passed to the constructor."""
        return self._secrets

    @property
    def lines(self) -> list[bytes]:
        """Every accepted event, in order."""
        return [line for batch in self.batches for line in batch.lines()]


class FlakySubscriber(RecordingSubscriber):
    """Answers call by call from a script; accepts everything after its end."""

    def __init__(
        self,
        outcomes: Iterable[BaseException | Receipt | None],
        *,
        retry_for_seconds: float = 30.0,
        secrets: tuple[str, ...] = (),
    ) -> None:
        super().__init__(retry_for_seconds=retry_for_seconds, secrets=secrets)
        self._outcomes = iter(outcomes)

    def deliver(self, batch: Batch) -> Receipt | None:
        """Record the batch, then raise or return the next item of the script."""
        self.calls.append(batch)
        outcome = next(self._outcomes, None)
        if isinstance(outcome, BaseException):
            raise outcome
        self.batches.append(batch)
        return outcome
