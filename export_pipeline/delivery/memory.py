"""What is recorded of a batch while it is sent, so that the next attempt sends only the rest, under the same ids."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from export_pipeline.ledger.portions import Portions, Step, ranges

WRITE_EVERY_SECONDS = 1.0
"""At most this much of a batch that is sent in many requests is sent again after the process was killed."""


class Memory(Protocol):
    """Where the steps of one batch are kept until it is accepted as a whole."""

    def recall(self) -> Portions | None:
        """The result of earlier attempts; None: there is nothing to continue."""

    def keep(self, steps: Sequence[Step]) -> None:
        """Keep *steps*, even if the process is killed right after."""


class Steps:
    """The steps of one batch, collected and recorded in time.

    A division of the batch is recorded before any request of it is sent. It follows from the answer to an earlier
    request, which may differ next time, and from the limits, which may be changed. What was accepted is recorded from
    time to time, and when sending ends early; in a batch that answers have divided, before each further request.

    Args:
        memory: where steps are kept; None: nowhere.
        numbers: for each event sent, its number in the planned batch.
        clock: seconds, monotonic.

    Attributes:
        is_divided_by_answers: in this attempt.
    """

    def __init__(self, memory: Memory | None, numbers: Sequence[int], clock: Callable[[], float]) -> None:
        self._memory = memory
        self._numbers = numbers
        self._clock = clock
        self._waiting: list[Step] = []
        self._is_urgent = False
        self.is_divided_by_answers = False
        self._written = clock()

    def divide(self, requests: Iterable[tuple[str, Sequence[int]]]) -> None:
        """The batch is sent as *requests*, each an id and indices."""
        self._add(Step(requests=self._ranges(requests)))
        self._is_urgent = True

    def settle(
        self,
        of: str,
        *,
        accepted: Sequence[int] = (),
        refused: Mapping[int, str] | None = None,
        requests: Iterable[tuple[str, Sequence[int]]] = (),
    ) -> None:
        """The request *of* was answered; *requests* replace it."""
        numbered = {self._numbers[index]: reason for index, reason in (refused or {}).items()}
        step = Step(of, self._range(accepted), numbered, self._ranges(requests))
        self._add(step)
        self.is_divided_by_answers |= bool(step.requests)
        # If a request was partly accepted, it is unknown how a repeat would end.
        self._is_urgent |= bool(refused and accepted)

    def forget_refusals(self) -> None:
        """Send what was refused again in the next attempt."""
        self._add(Step(forgets_refusals=True))

    def write_in_time(self) -> None:
        """Record what is due; called before each request."""
        if self._is_urgent or self.is_divided_by_answers or self._clock() - self._written >= WRITE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Record what has been collected."""
        if self._memory is not None and self._waiting:
            self._memory.keep(self._waiting)
            self._waiting = []
        self._is_urgent = False
        self._written = self._clock()

    def _add(self, step: Step) -> None:
        if self._memory is not None:
            self._waiting.append(step)

    def _ranges(
        self, requests: Iterable[tuple[str, Sequence[int]]]
    ) -> tuple[tuple[str, tuple[tuple[int, int], ...]], ...]:
        return tuple((identity, self._range(indices)) for identity, indices in requests)

    def _range(self, indices: Sequence[int]) -> tuple[tuple[int, int], ...]:
        numbers = self._numbers
        if indices and numbers[indices[-1]] - numbers[indices[0]] + 1 == len(indices):  # both ascend
            return ((numbers[indices[0]], numbers[indices[-1]] + 1),)
        return ranges([numbers[index] for index in indices])
