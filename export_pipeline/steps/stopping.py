"""When a run leaves the rest to the next one: time budgets, or termination by a user. Always between two batches."""

import time
from collections.abc import Callable
from functools import partial

from export_pipeline.errors import TryLater
from export_pipeline.ledger import subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Subscription

Stop = Callable[[], str]
"""Why to stop, as the end of a sentence; empty: continue."""

_POLL_SECONDS = 0.2


def never() -> str:
    """Never stop."""
    return ""


class Allowance:
    """The rest of a subscriber's time budget in one run.

    The ledger keeps it, so that steps in different processes or on different machines share it.

    Args:
        seconds: for all its deliveries of the run together; None: no limit.
        stop: other reasons to stop.
        clock: seconds that never go back.

    Attributes:
        cut_short: *stop* ended a pause between two attempts of a batch.
    """

    def __init__(
        self,
        ledger: Ledger,
        subscription: Subscription,
        *,
        run_id: str,
        seconds: float | None = None,
        stop: Stop = never,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._subscription = subscription
        self._run_id = run_id
        self._seconds = seconds
        self._stop = stop
        self._clock = clock
        self._started: float | None = None
        self.cut_short = False
        self._spent_before = 0.0
        if seconds is not None:
            with ledger.read() as tx:
                self._spent_before = subscriptions.spent_seconds(tx, subscription.id, run_id)

    def reason(self) -> str:
        """Why not to begin another batch; empty: it may begin."""
        if reason := self._stop():
            return reason
        if self._seconds is None:
            return ""
        if self._spent_before + self._used() < self._seconds:
            return ""
        return f"{self._subscription.name} has used its {self._seconds:g} s of this run"

    def keep(self) -> None:
        """Record the time used since the first call of :meth:`reason`; called once."""
        if self._seconds is None:
            return
        with self._ledger.write() as tx:
            subscriptions.set_spent(tx, self._subscription.id, self._run_id, self._spent_before + self._used())

    def _used(self) -> float:
        """Seconds since the first call: a budget shorter than a query of the ledger still allows one batch."""
        now = self._clock()
        if self._started is None:
            self._started = now
        return now - self._started

    def sleep(self, seconds: float) -> None:
        """Wait between two attempts of a batch; the subscriber's own budget does not end a batch in progress.

        Raises:
            TryLater: *stop* gave a reason, which does not count as a failure of the subscriber: ``cut_short``.
        """
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
            if reason := self._stop():
                self.cut_short = True
                raise TryLater(f"not retried, because {reason}")


def deadline(ends_at: float, seconds: float, *, clock: Callable[[], float] = time.time) -> Stop:
    """A reason to stop, from *ends_at* (seconds since 1970) on: a run's budget of *seconds* is used up."""
    return partial(_over, ends_at, seconds, clock)


def _over(ends_at: float, seconds: float, clock: Callable[[], float]) -> str:
    return "" if clock() < ends_at else f"the run has used its {seconds:g} s (max_run_seconds)"
