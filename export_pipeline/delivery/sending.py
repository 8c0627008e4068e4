"""Send one batch to one subscriber: retries, bisection, and the account of what happened to every event.

What happens after each answer of a subscriber:

=====================  ==========================================================================================
returns                every event is accepted, except those that its Receipt names as refused
``TryLater``           the same batch is sent again after a pause, for ``retry_for_seconds``; then the error is raised
``Blocked``            raised at once
``Refused`` + events   those are refused; the others are sent again without them
``Refused``            the batch is halved, and its halves again, until the refused events are isolated
any other Exception    like ``TryLater``; a ``ConfigurationError`` like ``Blocked``
a Receipt with later   the events it names are sent again after a pause; the others are accepted
suspected everywhere   ``Blocked``: every event, or the first 100, was refused for the same reason, which may be an
                       error of the destination, and none was accepted
=====================  ==========================================================================================

Before that, the events are selected (``only``, ``except``, ``drop_fields``), and the batch is cut into what the
destination accepts in one call. A :class:`Memory` keeps how a batch was divided and what of it is settled, until all of
it is: the next attempt continues from there.
"""

import time
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery.memory import Memory, Steps
from export_pipeline.delivery.meter import Meter
from export_pipeline.delivery.pacing import Pace, PartAccepted, pace
from export_pipeline.delivery.subscriber import Cuts, Deliverer, Selects, ours
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.ledger.portions import Portions
from export_pipeline.subscribers.filters import Selected
from export_pipeline.subscribers.packing import Cut, Packed, part_id
from export_pipeline.subscribers.scrubbing import scrub


@dataclass(frozen=True, slots=True)
class Sent:
    """What happened to every event of a batch: ``accepted + len(refused) + filtered == batch.events``.

    Attributes:
        accepted: number of events that the destination has.
        refused: index in the batch → the destination's reason.
        filtered: number of events that the subscriber's configuration excludes.
        details: notes of the destination for the log, in the order received.
    """

    accepted: int
    refused: dict[int, str] = field(default_factory=dict)
    filtered: int = 0
    details: tuple[str, ...] = ()


def send_to(
    subscriber: Deliverer,
    batch: Batch,
    *,
    memory: Memory | None = None,
    secrets: Iterable[str] = (),
    on_wait: Callable[[TryLater, float], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    meter: Meter | None = None,
) -> Sent:
    """Call :func:`send` with *subscriber*'s configuration, for the events that it wants and that are not settled yet.

    Its own secrets, and *secrets* in addition, are removed from every reason.

    Args:
        batch: a complete planned batch.
        memory: of this batch and this subscriber.
        meter: counts the calls of ``deliver``.
    """
    hidden = (*subscriber.secret_values(), *secrets)

    def of(events: Batch, before: Portions | None) -> Sent:
        return _send_selected(
            subscriber, events, before, memory, hidden, on_wait=on_wait, sleep=sleep, clock=clock, meter=meter
        )

    before = memory.recall() if memory is not None else None
    if before is None:
        return of(batch, None)
    refused = dict(before.refused)
    rest = _rest(batch, before)
    sent = Sent(accepted=0) if rest is None else of(rest, before)
    if rest is not None:
        places = range(rest.events) if rest.positions is None else rest.positions
        refused |= {places[index]: reason for index, reason in sent.refused.items()}
    return replace(sent, accepted=len(before.accepted) + sent.accepted, refused=dict(sorted(refused.items())))


def _rest(batch: Batch, before: Portions) -> Batch | None:
    """The events of *batch* that no earlier attempt has settled; None if there are none."""
    left = [number for number in range(batch.events) if number not in before.accepted and number not in before.refused]
    if len(left) == batch.events:
        return batch
    lines = batch.lines()
    return batch.holding((lines[number] for number in left), id=batch.id, positions=left) if left else None


def _send_selected(
    subscriber: Deliverer,
    batch: Batch,
    before: Portions | None,
    memory: Memory | None,
    hidden: Sequence[str],
    *,
    on_wait: Callable[[TryLater, float], None] | None,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
    meter: Meter | None,
) -> Sent:
    """Call :func:`send` for the events of *batch* that *subscriber* wants."""
    selecting = subscriber.select if isinstance(subscriber, Selects) else None
    selected = ours(hidden, lambda: selecting(batch)) if selecting else Selected(batch, range(batch.events))
    refused = dict(selected.refused)
    if selected.batch is None:
        return Sent(accepted=0, refused=refused, filtered=batch.events - len(refused))
    sent = send(
        selected.batch,
        subscriber.deliver if meter is None else meter.timing(subscriber.deliver),
        cut=subscriber.cut if isinstance(subscriber, Cuts) else None,
        retry_for_seconds=subscriber.retry_for_seconds,
        memory=memory,
        before=before,
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
    memory: Memory | None = None,
    before: Portions | None = None,
    secrets: Iterable[str] = (),
    on_wait: Callable[[TryLater, float], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Sent:
    """Send *batch* through *deliver* until every event of it is accepted or refused.

    A part of a batch has a separate id, derived from the batch's id and the events in it, so that the same part
    has the same id in every attempt.

    Args:
        batch: what to send.
        deliver: ``Subscriber.deliver``, or any callable with its contract.
        cut: ``Subscriber.cut``; None: the batch is sent whole.
        retry_for_seconds: how long one call is retried, waits included; 0: one attempt.
        base_wait_seconds: the first wait is random between 0 and this, the next between 0 and twice this, …
        max_wait_seconds: … up to this (full jitter).
        retry_after_cap_seconds: if a destination requests a longer pause than this, or than ``retry_for_seconds``
            leaves, the batch is left to the next run at once.
        blocked_after_refusals: while bisecting, or if all are refused for the same reason, which may be an error of
            the destination: after this many refused events and none accepted, the destination refuses everything,
            and the events are not the cause: ``Blocked``.
        memory: keeps how the batch is divided, and what of it is settled, until all of it is.
        before: what *memory* has of earlier attempts: *batch* contains only the events that they left.
        secrets: values that must not appear in any reason.
        on_wait: called with the error and the seconds before each wait.
        sleep: waits for the given number of seconds.
        clock: seconds, monotonic.

    Raises:
        TryLater: not accepted within ``retry_for_seconds``.
        Blocked: the user must act first; also if the subscriber contradicts itself.
    """
    numbers = range(batch.events) if batch.positions is None else batch.positions
    return _Sending(
        batch=batch,
        numbers=numbers,
        before=before,
        steps=Steps(memory, numbers, clock),
        deliver=deliver,
        cut=cut,
        pace=pace(
            retry_for_seconds,
            base_wait_seconds=base_wait_seconds,
            max_wait_seconds=max_wait_seconds,
            retry_after_cap_seconds=retry_after_cap_seconds,
            on_wait=on_wait,
            sleep=sleep,
            clock=clock,
        ),
        blocked_after_refusals=blocked_after_refusals,
        secrets=tuple(secrets),
    ).run()


_Request = tuple[Sequence[int], Batch]
"""Indices of events, and the request for them."""


@dataclass(slots=True)
class _Sending:
    """The account of one batch while it is sent."""

    batch: Batch
    numbers: Sequence[int]
    before: Portions | None
    steps: Steps
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
        waiting = deque(self._begin())
        try:
            while waiting:
                self.steps.write_in_time()
                waiting.extendleft(reversed(self._send_part(*waiting.popleft())))
                self._suspect_destination(at_least=self.blocked_after_refusals)
            # A single event does not show whether the event or the destination is the cause.
            self._suspect_destination(at_least=2)
            if self.refused or self.before is not None or self.steps.is_divided_by_answers:
                # Before the refused events are quarantined: after a crash they must not be sent again.
                self.steps.write()
        except BaseException:
            self.steps.write()
            raise
        if self.accepted + len(self.refused) + self.filtered != self.batch.events:
            raise Blocked(
                f"batch {self.batch.id} has {self.batch.events} events, but {self.accepted} were accepted, "
                f"{len(self.refused)} refused and {self.filtered} filtered"
            )
        return Sent(self.accepted, dict(sorted(self.refused.items())), self.filtered, tuple(self.details))

    def _begin(self) -> list[_Request]:
        """The requests of an earlier attempt that may have arrived, unchanged, and what is left between them.

        A request that exceeds the present limits is cut again.
        """
        if self.before is None:
            requests = self._cut(range(self.batch.events))
            if len(requests) > 1:
                self.steps.divide((part.id, own) for own, part in requests)
            return requests
        index_of = {number: index for index, number in enumerate(self.numbers)}
        again: list[_Request] = []
        for identity, numbers in self.before.requests:
            indices = [index_of[number] for number in numbers if number in index_of]
            if indices and len(indices) == len(numbers):
                again += self._as_it_was(indices, identity)
        known = {index for indices, _ in again for index in indices}
        starts = sorted(indices[0] for indices, _ in again)
        loose = (index for index in range(self.batch.events) if index not in known)
        for _, between in groupby(loose, key=lambda index: bisect(starts, index)):
            again += self._cut(list(between))
        again.sort(key=lambda request: request[0][0])
        as_they_are = [(part.id, [self.numbers[index] for index in indices]) for indices, part in again]
        if as_they_are != self.before.requests:
            self.steps.divide((part.id, indices) for indices, part in again)
        return again

    def _as_it_was(self, indices: Sequence[int], identity: str) -> list[_Request]:
        """The request with the id *identity* for the events at *indices*; none if the present limits divide it."""
        whole = replace(self._part(indices), id=identity)
        if self.cut is None:
            return [(indices, whole)]
        cutting = self.cut
        cut = ours(self.secrets, lambda: cutting(whole))
        if len(cut.parts) != 1 or len(cut.parts[0][0]) != len(indices):
            return []
        return [(indices, replace(cut.parts[0][1], id=identity))]

    def _cut(self, indices: Sequence[int]) -> list[_Request]:
        """The requests for the events at *indices*, each with its own indices."""
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

    def _send_part(self, indices: Sequence[int], part: Batch) -> list[_Request]:
        """Send *part*; return the requests for those of its events that are still to be sent."""

        def call() -> Receipt:
            nonlocal indices, part
            receipt = ours(self.secrets, lambda: self.deliver(part)) or Receipt()
            if receipt.later:
                before, of = indices, part.id
                left = self._named(indices, receipt.later)
                indices = [before[position] for position in left]
                part = part.pick(left, self._id(indices)) if isinstance(part, Packed) else self._part(indices)
                self._settle(of, before, receipt, [(part.id, indices)] if len(left) < len(before) else [])
                self.steps.write_in_time()
                first = receipt.later[left[0]]
                text = scrub(f"{len(left)} events not accepted yet: {first}", self.secrets)
                raise PartAccepted(text) if len(left) < len(before) else TryLater(text)
            return receipt

        try:
            receipt = self.pace.keep_trying(call)
        except Refused as refusal:
            if refusal.events is None:
                return self._bisect(indices, part, refusal)
            rest = self._refuse(indices, refusal.events)
            requests = self._cut(rest) if rest else []
            refused = {indices[position]: self.refused[indices[position]] for position in refusal.events}
            self.steps.settle(part.id, refused=refused, requests=[(one.id, own) for own, one in requests])
            return requests
        self._settle(part.id, indices, receipt)
        return []

    def _settle(
        self, of: str, indices: Sequence[int], receipt: Receipt, requests: Sequence[tuple[str, Sequence[int]]] = ()
    ) -> None:
        """Record what *receipt* says about the events at *indices*, which were the request *of*."""
        self._refuse(indices, receipt.refused)
        self.suspected |= {indices[position]: trouble for position, trouble in receipt.suspected.items()}
        not_taken = receipt.refused.keys() | receipt.later.keys()
        taken = [index for position, index in enumerate(indices) if position not in not_taken] if not_taken else indices
        self.accepted += len(taken)
        if receipt.detail:
            self.details.append(scrub(receipt.detail, self.secrets))
        # A refusal that may be due to an error of the destination is retried, as long as nothing else is settled.
        certain = {indices[position] for position in receipt.refused if position not in receipt.suspected}
        refused = {index: self.refused[index] for index in certain}
        if taken or refused or requests:
            self.steps.settle(of, accepted=taken, refused=refused, requests=requests)

    def _bisect(self, indices: Sequence[int], part: Batch, refusal: Refused) -> list[_Request]:
        if len(indices) > 1:
            middle = len(indices) // 2
            requests = [*self._cut(indices[:middle]), *self._cut(indices[middle:])]
            self.steps.settle(part.id, requests=[(one.id, own) for own, one in requests])
            return requests
        self.refused[indices[0]] = str(refusal)
        if refusal.suspected:
            self.suspected[indices[0]] = refusal.suspected
        else:
            self.steps.settle(part.id, refused={indices[0]: str(refusal)})
        self.alone_refused += 1
        if self.alone_refused >= self.blocked_after_refusals and not self.accepted:
            self.steps.forget_refusals()
            raise Blocked(
                f"each of the first {self.alone_refused} events was refused, the last one with: {refusal}",
                status=refusal.status,
                answer=refusal.answer,
            )
        return []

    def _suspect_destination(self, *, at_least: int) -> None:
        """Raise Blocked if all events refused so far, *at_least* this many, have the same suspected reason.

        Events that were never sent, because they do not fit the destination's format, do not count.
        """
        refused = len(self.refused) - self.unsent
        if self.accepted or refused < at_least or len(self.suspected) < refused:
            return
        troubles = set(self.suspected.values())
        if len(troubles) == 1:
            first = min(self.suspected)
            self.steps.forget_refusals()
            raise Blocked(
                f"{refused} of {refused} events were refused for a reason that is not in the events "
                f"({troubles.pop()}), the first one with: {self.refused[first]}"
            )

    def _refuse(self, indices: Sequence[int], events: Mapping[int, str]) -> Sequence[int]:
        """Record *events* (position in the part → reason) as refused; return the indices of the others."""
        self._named(indices, events)
        for position, reason in events.items():
            self.refused[indices[position]] = scrub(reason, self.secrets)
        if not events:
            return indices
        return [index for position, index in enumerate(indices) if position not in events]

    def _named(self, indices: Sequence[int], named: Mapping[int, str]) -> list[int]:
        """The positions that the subscriber *named*, in order.

        Raises:
            Blocked: one of them is not in the part.
        """
        foreign = [position for position in named if not 0 <= position < len(indices)]
        if foreign:
            raise Blocked(
                f"the subscriber reported event {min(foreign)} as not accepted, in a batch of {len(indices)} events"
            )
        return sorted(named)

    def _id(self, indices: Sequence[int]) -> str:
        """An id that is always the same for these events of the planned batch, and differs for all others."""
        if len(indices) == self.batch.events and self.before is None:
            return self.batch.id
        return part_id(self.batch.id, [self.numbers[index] for index in indices])

    def _part(self, indices: Sequence[int]) -> Batch:
        """A batch of the events at *indices*, under an id that identifies them."""
        if len(indices) == self.batch.events:
            return self.batch if self.before is None else replace(self.batch, id=self._id(indices))
        self.lines = self.lines or self.batch.lines()
        lines = (self.lines[index] for index in indices)
        return self.batch.holding(lines, id=self._id(indices), positions=indices)
