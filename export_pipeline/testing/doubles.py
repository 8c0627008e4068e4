"""Subscribers that record, or fail as told."""

from collections.abc import Iterable

from export_pipeline.batching.batch import Batch, Receipt


class RecordingSubscriber:
    """Accepts everything and keeps it.

    Passed where a resource is expected. It is a plain object on purpose: Dagster copies a ``ConfigurableResource``
    before it uses it, and what the copy records is never seen.

    Attributes:
        calls: every batch handed over, in order, whatever became of it.
        batches: those that were accepted.
    """

    since: str | None = None

    def __init__(self, *, retry_for_seconds: float = 30.0, secrets: tuple[str, ...] = ()) -> None:
        self.retry_for_seconds = retry_for_seconds
        self.calls: list[Batch] = []
        self.batches: list[Batch] = []
        self.closed = 0
        self._secrets = secrets

    def deliver(self, batch: Batch) -> Receipt | None:
        """Record and accept."""
        self.calls.append(batch)
        self.batches.append(batch)
        return None

    def check(self) -> None:
        """All is well."""

    def close(self) -> None:
        """Count how often it was closed."""
        self.closed += 1

    def secret_values(self) -> tuple[str, ...]:
        """As given."""
        return self._secrets

    @property
    def lines(self) -> list[bytes]:
        """Every accepted event, in order."""
        return [line for batch in self.batches for line in batch.lines()]


class FlakySubscriber(RecordingSubscriber):
    """Answers as the script says, call by call; accepts everything when the script is over."""

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
        """Record, then raise or return what comes next in the script."""
        self.calls.append(batch)
        outcome = next(self._outcomes, None)
        if isinstance(outcome, BaseException):
            raise outcome
        self.batches.append(batch)
        return outcome
