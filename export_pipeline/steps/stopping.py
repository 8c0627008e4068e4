"""When a run leaves the rest to the next one: time budgets, and a person who ends it. Only ever between two batches."""

import time
from collections.abc import Callable
from functools import partial

from export_pipeline.errors import TryLater
from export_pipeline.ledger import subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Subscription

Stop = Callable[[], str]
"""Why to go no further, as the end of a sentence; empty: go on."""

_POLL_SECONDS = 0.2


def never() -> str:
    """There is no reason to stop."""
    return ""


class Allowance:
    """What a subscriber may still use of its time in one run.

    It is kept in the ledger, so that steps in processes, or on machines, of their own share it.

    Args:
        seconds: for all its deliveries of the run together; None: without end.
        stop: what else may end them.
        clock: seconds that never go back.

    Attributes:
        cut_short: a batch was given up in a pause between two tries, because of *stop*.
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
        """Why no further batch is begun; empty: it may be."""
        if reason := self._stop():
            return reason
        if self._seconds is None:
            return ""
        if self._spent_before + self._used() < self._seconds:
            return ""
        return f"{self._subscription.name} has used its {self._seconds:g} s of this run"

    def keep(self) -> None:
        """Write down what was used since this was first asked; called once."""
        if self._seconds is None:
            return
        with self._ledger.write() as tx:
            subscriptions.set_spent(tx, self._subscription.id, self._run_id, self._spent_before + self._used())

    def _used(self) -> float:
        """Seconds since this was first asked: a budget shorter than a look into the ledger still lets one batch in."""
        now = self._clock()
        if self._started is None:
            self._started = now
        return now - self._started

    def sleep(self, seconds: float) -> None:
        """Wait between two tries of a batch; the subscriber's own budget is no reason to give up a batch under way.

        Raises:
            TryLater: there came another reason to stop, which is no failure of the subscriber: ``cut_short``.
        """
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
            if reason := self._stop():
                self.cut_short = True
                raise TryLater(f"not tried again, because {reason}")


def deadline(ends_at: float, seconds: float, *, clock: Callable[[], float] = time.time) -> Stop:
    """A reason to stop from *ends_at* (seconds since 1970) on: a run's budget of *seconds* is used up."""
    return partial(_over, ends_at, seconds, clock)


def _over(ends_at: float, seconds: float, clock: Callable[[], float]) -> str:
    return "" if clock() < ends_at else f"the run has used its {seconds:g} s (max_run_seconds)"
