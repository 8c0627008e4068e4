"""Deliver several batches at once to a destination that is loaded: a load costs it more than its rows do.

What happens after each answer to a load:

=====================  ==========================================================================================
receipts               one per batch: accepted, except the events that it names as refused
``TryLater``           the same load is sent again after a pause, for ``retry_for_seconds``; then the error is raised
``Blocked``            raised at once
``Refused``            each batch is sent alone, as if there were no loads
a receipt with later,  that batch is sent alone: a repeat of what was accepted is harmless, otherwise the subscriber
or suspicions          would not offer loads
=====================  ==========================================================================================

A batch that was partly settled before is sent alone, too.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery.memory import Memory
from export_pipeline.delivery.meter import Meter
from export_pipeline.delivery.pacing import pace
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.delivery.subscriber import Loads, Selects, ours
from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.filters import Selected
from export_pipeline.subscribers.scrubbing import scrub

T = TypeVar("T")

MAX_EVENTS = 50_000
MAX_BYTES = 64 << 20
"""A load is sent once it has this many selected events, or bytes of all events; the batch that reaches it included."""


@dataclass(slots=True)
class _Waiting(Generic[T]):
    own: T
    batch: Batch
    kept: Memory | None
    selected: Selected | None
    """None: to send alone."""


@dataclass(slots=True)
class _Load(Generic[T]):
    batches: list[_Waiting[T]] = field(default_factory=list)
    events: int = 0
    size_bytes: int = 0

    def add(self, one: _Waiting[T]) -> None:
        self.batches.append(one)
        # All bytes: the batch stays in memory until its outcome is reported.
        self.size_bytes += len(one.batch.data)
        if one.selected is not None and one.selected.batch is not None:
            self.events += one.selected.batch.events

    @property
    def is_full(self) -> bool:
        return self.events >= MAX_EVENTS or self.size_bytes >= MAX_BYTES


def send_loads(
    subscriber: Loads,
    batches: Iterable[tuple[T, Batch]],
    *,
    memory: Callable[[T], Memory] | None = None,
    secrets: Sequence[str] = (),
    on_wait: Callable[[TryLater, float], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    meter: Meter | None = None,
) -> Iterator[tuple[T, Batch, Sent | DeliveryError]]:
    """Like :func:`~export_pipeline.delivery.window.send_many`, in loads of several batches, one load at a time."""
    hidden = (*subscriber.secret_values(), *secrets)
    deliver_many = meter.timing(subscriber.deliver_many) if meter is not None else subscriber.deliver_many

    def alone(one: _Waiting[T]) -> Sent | DeliveryError:
        try:
            return send_to(
                subscriber,
                one.batch,
                memory=one.kept,
                secrets=secrets,
                on_wait=on_wait,
                sleep=sleep,
                clock=clock,
                meter=meter,
            )
        except DeliveryError as error:
            return error

    def load(wanted: Sequence[Batch]) -> list[Receipt]:
        receipts = [receipt or Receipt() for receipt in ours(hidden, lambda: deliver_many(wanted))]
        if len(receipts) != len(wanted):
            raise Blocked(f"the subscriber returned {len(receipts)} receipts for {len(wanted)} batches")
        return receipts

    def outcomes(group: Sequence[_Waiting[T]]) -> Iterator[Sent | DeliveryError]:
        wanted = [one.selected.batch for one in group if one.selected is not None and one.selected.batch is not None]
        receipts: Iterator[Receipt] = iter(())
        try:
            if len(wanted) > 1:
                keeping = pace(subscriber.retry_for_seconds, on_wait=on_wait, sleep=sleep, clock=clock)
                receipts = iter(keeping.keep_trying(lambda: load(wanted)))
            else:
                wanted = []
        except Refused:
            wanted = []
        except DeliveryError as error:
            yield error
            return
        for one in group:
            receipt: Receipt | None = Receipt()
            if one.selected is None or (one.selected.batch is not None and not wanted):
                receipt = None
            elif one.selected.batch is not None:
                receipt = next(receipts)
            if receipt is None or one.selected is None or receipt.later or receipt.suspected:
                yield alone(one)
            else:
                yield _told(one.batch, one.selected, receipt, hidden)

    for group in _groups(subscriber, batches, memory, hidden):
        for one, outcome in zip(group, outcomes(group), strict=False):  # a failed load has one outcome
            yield one.own, one.batch, outcome
            if isinstance(outcome, DeliveryError):
                return


def _groups(
    subscriber: Loads,
    batches: Iterable[tuple[T, Batch]],
    memory: Callable[[T], Memory] | None,
    hidden: Sequence[str],
) -> Iterator[list[_Waiting[T]]]:
    load: _Load[T] = _Load()
    selecting = subscriber.select if isinstance(subscriber, Selects) else None
    for own, batch in batches:
        kept = memory(own) if memory is not None else None
        one = _Waiting(own, batch, kept, None)
        if kept is None or kept.recall() is None:
            one.selected = Selected(batch, range(batch.events))
            if selecting is not None:
                try:
                    one.selected = ours(hidden, lambda batch=batch: selecting(batch))  # type: ignore[misc]
                except DeliveryError:
                    one.selected = None  # sending it alone reports the error
        load.add(one)
        if load.is_full:
            yield load.batches
            load = _Load()
    if load.batches:
        yield load.batches


def _told(batch: Batch, selected: Selected, receipt: Receipt, hidden: Sequence[str]) -> Sent | DeliveryError:
    """What happened to the events of *batch*."""
    events = selected.batch.events if selected.batch is not None else 0
    foreign = [position for position in receipt.refused if not 0 <= position < events]
    if foreign:
        return Blocked(f"the subscriber reported event {min(foreign)} as not accepted, in a batch of {events} events")
    refused = dict(selected.refused)
    refused |= {selected.indices[position]: scrub(reason, hidden) for position, reason in receipt.refused.items()}
    return Sent(
        accepted=events - len(receipt.refused),
        refused=dict(sorted(refused.items())),
        filtered=batch.events - events - len(selected.refused),
        details=(scrub(receipt.detail, hidden),) if receipt.detail else (),
    )
