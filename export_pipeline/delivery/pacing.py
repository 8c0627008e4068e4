"""When a call is retried, how long it waits, and when it is given up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from export_pipeline.errors import TryLater

T = TypeVar("T")


class PartAccepted(TryLater):
    """A part was accepted, the rest is sent again: the time for retries starts again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When a call is retried, and when no longer."""

    retry_for_seconds: float
    retry_after_cap_seconds: float
    jitter: wait_random_exponential
    on_wait: Callable[[TryLater, float], None] | None
    sleep: Callable[[float], None]
    clock: Callable[[], float]

    def keep_trying(self, call: Callable[[], T]) -> T:
        """The result of *call*, which is repeated after each TryLater while there is time.

        Raises:
            TryLater: the last one, with the number of attempts and how long they took.
        """
        started = self.clock()
        tries = 0

        def out_of_time(state: RetryCallState) -> bool:
            nonlocal started
            asked = _asked(state)
            if isinstance(_error(state), PartAccepted):
                started = self.clock()
            if asked is not None and asked > self.retry_after_cap_seconds:
                return True
            return self.clock() - started + state.upcoming_sleep > self.retry_for_seconds

        def counted() -> T:
            nonlocal tries
            tries += 1
            return call()

        retrying = Retrying(
            retry=retry_if_exception_type(TryLater),
            wait=self._wait,
            stop=out_of_time,
            sleep=self.sleep,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return retrying(counted)
        except TryLater as error:
            if tries == 1:
                raise
            spent = f"tried {tries} times in {self.clock() - started:.1f} s"
            raise TryLater(
                f"{error} ({spent})",
                retry_after_seconds=error.retry_after_seconds,
                status=error.status,
                answer=error.answer,
            ) from None

    def _wait(self, state: RetryCallState) -> float:
        """Full jitter, so that many clients do not return at the same moment; longer if the destination requests it.

        A destination that repeatedly requests no pause is still not called without one.
        """
        return max(_asked(state) or 0.0, self.jitter(state))

    def _tell(self, state: RetryCallState) -> None:
        error = _error(state)
        if self.on_wait is not None and isinstance(error, TryLater):
            self.on_wait(error, state.upcoming_sleep)


def pace(
    retry_for_seconds: float,
    *,
    base_wait_seconds: float = 0.5,
    max_wait_seconds: float = 10.0,
    retry_after_cap_seconds: float = 60.0,
    on_wait: Callable[[TryLater, float], None] | None,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Pace:
    """The pace of one call, as :func:`~export_pipeline.delivery.sending.send` describes it."""
    return Pace(
        retry_for_seconds=retry_for_seconds,
        retry_after_cap_seconds=retry_after_cap_seconds,
        jitter=wait_random_exponential(multiplier=base_wait_seconds, max=max_wait_seconds),
        on_wait=on_wait,
        sleep=sleep,
        clock=clock,
    )


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked(state: RetryCallState) -> float | None:
    """The pause that the destination requested in the last attempt, in seconds."""
    error = _error(state)
    return error.retry_after_seconds if isinstance(error, TryLater) else None
