"""Send one batch to one subscriber: retries, bisecting, and the account of what became of every event.

What each answer of a subscriber leads to:

=====================  ==========================================================================================
returns                every event is accepted, but those that its Receipt names as refused
``TryLater``           the same batch again after a pause, for ``retry_for_seconds``; then the error is raised
``Blocked``            raised at once
``Refused`` + events   those are refused; the others are sent again without them
``Refused``            the batch is halved, and its halves again, until the refused events stand alone
any other Exception    as ``TryLater``; a ``ConfigurationError`` as ``Blocked``
a Receipt with later   the events it names again after a pause; the others are accepted
suspected everywhere   ``Blocked``: every event, or the first 100, was refused for the same trouble that may be the
                       destination's own, and none was accepted
=====================  ==========================================================================================

Before that the events are chosen (``only``, ``except``, ``drop_fields``), and the batch is cut into what the
destination takes in one call.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tenacity import wait_random_exponential

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery.pacing import Pace, PartAccepted
from export_pipeline.delivery.subscriber import Cuts, Deliverer, Selects, ours
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.subscribers.filters import Selected
from export_pipeline.subscribers.packing import Cut, Packed, part_id
from export_pipeline.subscribers.scrubbing import scrub


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of every event of a batch: ``accepted + len(refused) + filtered == batch.events``.

    Attributes:
        accepted: number of events that the destination has.
        refused: index in the batch → the destination's reason.
        filtered: number of events that the subscriber's configuration keeps from it.
        details: notes of the destination for the log, in the order they came.
    """

    accepted: int
    refused: dict[int, str] = field(default_factory=dict)
    filtered: int = 0
    details: tuple[str, ...] = ()


def send_to(
    subscriber: Deliverer,
    batch: Batch,
    *,
    secrets: Iterable[str] = (),
    on_wait: Callable[[TryLater, float], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Sent:
    """:func:`send` with what *subscriber* has configured, of the events that it wants.

    Its own secrets, and *secrets* beside them, are kept out of every reason.
    """
    hidden = (*subscriber.secret_values(), *secrets)
    selecting = subscriber.select if isinstance(subscriber, Selects) else None
    selected = ours(hidden, lambda: selecting(batch)) if selecting else Selected(batch, range(batch.events))
    refused = dict(selected.refused)
    if selected.batch is None:
        return Sent(accepted=0, refused=refused, filtered=batch.events - len(refused))
    sent = send(
        selected.batch,
        subscriber.deliver,
        cut=subscriber.cut if isinstance(subscriber, Cuts) else None,
        retry_for_seconds=subscriber.retry_for_seconds,
        secrets=hidden,
        on_wait=on_wait,
        sleep=sleep,
        clock=clock,
    )
    refused |= {selected.indices[index]: reason for index, reason in sent.refused.items()}
    return replace(
        sent,
        refused=dict(sorted(refused.items())),
        filtered=sent.filtered + batch.events - selected.batch.events - len(selected.refused),
    )


def send(
    batch: Batch,
    deliver: Callable[[Batch], Receipt | None],
    *,
    cut: Callable[[Batch], Cut] | None = None,
    retry_for_seconds: float = 30.0,
    base_wait_seconds: float = 0.5,
    max_wait_seconds: float = 10.0,
    retry_after_cap_seconds: float = 60.0,
    blocked_after_refusals: int = 100,
    secrets: Iterable[str] = (),
    on_wait: Callable[[TryLater, float], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Sent:
    """Hand *batch* to *deliver* until every event of it is accepted or refused.

    A part of a batch has an id of its own, made of the batch's and of which events it holds, so that the same
    part has the same id at every try.

    Args:
        batch: what to send.
        deliver: ``Subscriber.deliver``, or anything of its contract.
        cut: ``Subscriber.cut``; None: the batch is sent whole.
        retry_for_seconds: how long one call is tried again, waits included; 0: one try.
        base_wait_seconds: the first wait is random between 0 and this, the next between 0 and twice this, …
        max_wait_seconds: … up to this (full jitter).
        retry_after_cap_seconds: a destination that asks for a longer pause than this, or than ``retry_for_seconds``
            leaves, is left to the next run at once.
        blocked_after_refusals: while bisecting, or where all are refused for one trouble that may be the
            destination's own: after so many events refused and not one accepted the destination refuses everything,
            and no event is at fault: ``Blocked``.
        secrets: values that must not appear in any reason.
        on_wait: called with the error and the seconds before each wait.
        sleep: waits so many seconds.
        clock: seconds, monotonic.

    Raises:
        TryLater: not accepted within ``retry_for_seconds``.
        Blocked: a person must act first; also where the subscriber contradicts itself.
    """
    return _Sending(
        batch=batch,
        deliver=deliver,
        cut=cut,
        pace=Pace(
            retry_for_seconds=retry_for_seconds,
            retry_after_cap_seconds=retry_after_cap_seconds,
            jitter=wait_random_exponential(multiplier=base_wait_seconds, max=max_wait_seconds),
            on_wait=on_wait,
            sleep=sleep,
            clock=clock,
        ),
        blocked_after_refusals=blocked_after_refusals,
        secrets=tuple(secrets),
    ).run()


@dataclass(slots=True)
class _Sending:
    """The account of one batch while it is sent."""

    batch: Batch
    deliver: Callable[[Batch], Receipt | None]
    cut: Callable[[Batch], Cut] | None
    pace: Pace
    blocked_after_refusals: int
    secrets: tuple[str, ...]
    lines: list[bytes] = field(default_factory=list)
    accepted: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    filtered: int = 0
    alone_refused: int = 0
    unsent: int = 0
    suspected: dict[int, str] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)

    def run(self) -> Sent:
        """Send the batch, then what is left of it, in the order of its events."""
        waiting = deque(self._cut(range(self.batch.events)))
        while waiting:
            rest = self._send_part(*waiting.popleft())
            waiting.extendleft(reversed([part for indices in rest if indices for part in self._cut(indices)]))
            self._suspect_destination(at_least=self.blocked_after_refusals)
        # One event alone cannot tell whose fault it is.
        self._suspect_destination(at_least=2)
        if self.accepted + len(self.refused) + self.filtered != self.batch.events:
            raise Blocked(
                f"batch {self.batch.id} has {self.batch.events} events, but {self.accepted} were accepted, "
                f"{len(self.refused)} refused and {self.filtered} filtered"
            )
        return Sent(self.accepted, dict(sorted(self.refused.items())), self.filtered, tuple(self.details))

    def _cut(self, indices: Sequence[int]) -> list[tuple[Sequence[int], Batch]]:
        """The requests for the events at *indices*, each with the indices of its own."""
        whole = self._part(indices)
        if self.cut is None:
            return [(indices, whole)]
        cutting = self.cut
        cut = ours(self.secrets, lambda: cutting(whole))
        self._refuse(indices, cut.refused)
        self.unsent += len(cut.refused)
        self.filtered += len(cut.filtered)
        parts = [([indices[position] for position in positions], part) for positions, part in cut.parts]
        return [(own, replace(part, id=self._id(own))) for own, part in parts]

    def _send_part(self, indices: Sequence[int], part: Batch) -> list[Sequence[int]]:
        """Send *part*; return the indices of its events that are still to be sent, in parts."""

        def call() -> Receipt:
            nonlocal indices, part
            receipt = ours(self.secrets, lambda: self.deliver(part)) or Receipt()
            if receipt.later:
                before = len(indices)
                left = self._settle(indices, receipt)
                indices = [indices[position] for position in left]
                part = part.pick(left, self._id(indices)) if isinstance(part, Packed) else self._part(indices)
                first = receipt.later[left[0]]
                text = scrub(f"{len(left)} events not accepted yet: {first}", self.secrets)
                raise PartAccepted(text) if len(left) < before else TryLater(text)
            return receipt

        try:
            receipt = self.pace.keep_trying(call)
        except Refused as refusal:
            if refusal.events is not None:
                return [self._refuse(indices, refusal.events)]
            return self._bisect(indices, refusal)
        self._settle(indices, receipt)
        return []

    def _settle(self, indices: Sequence[int], receipt: Receipt) -> list[int]:
        """Note what *receipt* says of the events at *indices*; return the positions that come again."""
        self._check(indices, receipt.later)
        self._refuse(indices, receipt.refused)
        self.suspected |= {indices[position]: trouble for position, trouble in receipt.suspected.items()}
        self.accepted += len(indices) - len(receipt.refused) - len(receipt.later)
        if receipt.detail:
            self.details.append(scrub(receipt.detail, self.secrets))
        return sorted(receipt.later)

    def _bisect(self, indices: Sequence[int], refusal: Refused) -> list[Sequence[int]]:
        if len(indices) > 1:
            middle = len(indices) // 2
            return [indices[:middle], indices[middle:]]
        self.refused[indices[0]] = str(refusal)
        if refusal.suspected:
            self.suspected[indices[0]] = refusal.suspected
        self.alone_refused += 1
        if self.alone_refused >= self.blocked_after_refusals and not self.accepted:
            raise Blocked(
                f"each of the first {self.alone_refused} events was refused, the last with: {refusal}",
                status=refusal.status,
                answer=refusal.answer,
            )
        return []

    def _suspect_destination(self, *, at_least: int) -> None:
        """Raise Blocked where all that was refused so far, *at_least* so many events, is for one suspected trouble.

        What never left, as it cannot be said in the destination's terms, is no witness.
        """
        refused = len(self.refused) - self.unsent
        if self.accepted or refused < at_least or len(self.suspected) < refused:
            return
        troubles = set(self.suspected.values())
        if len(troubles) == 1:
            first = min(self.suspected)
            raise Blocked(
                f"{refused} of {refused} events were refused for what is no fault of theirs ({troubles.pop()}), the "
                f"first with: {self.refused[first]}"
            )

    def _refuse(self, indices: Sequence[int], events: Mapping[int, str]) -> Sequence[int]:
        """Note the *events* (position in the part → reason) as refused; return the indices of the others."""
        self._check(indices, events)
        for position, reason in events.items():
            self.refused[indices[position]] = scrub(reason, self.secrets)
        if not events:
            return indices
        return [index for position, index in enumerate(indices) if position not in events]

    def _check(self, indices: Sequence[int], named: Mapping[int, str]) -> None:
        foreign = [position for position in named if not 0 <= position < len(indices)]
        if foreign:
            raise Blocked(f"event {min(foreign)} was named as not accepted, in a batch of {len(indices)} events")

    def _id(self, indices: Sequence[int]) -> str:
        return self.batch.id if len(indices) == self.batch.events else part_id(self.batch.id, indices)

    def _part(self, indices: Sequence[int]) -> Batch:
        """The batch of the events at *indices*, under an id that says which they are."""
        if len(indices) == self.batch.events:
            return self.batch
        self.lines = self.lines or self.batch.lines()
        lines = (self.lines[index] for index in indices)
        return self.batch.holding(lines, id=self._id(indices), positions=indices)
