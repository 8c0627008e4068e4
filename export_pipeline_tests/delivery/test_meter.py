"""Calls of a subscriber, counted and timed."""

from collections.abc import Iterator

import pytest

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery.meter import Meter
from export_pipeline.delivery.sending import Sent
from export_pipeline.delivery.window import send_many
from export_pipeline.errors import Blocked, DeliveryError, TryLater
from export_pipeline.ledger.counters import Counters
from export_pipeline.testing import FlakySubscriber, RecordingSubscriber, batch_of, sample_event
from export_pipeline_tests.delivery.test_sending import Clock


def some(count: int) -> Iterator[tuple[int, Batch]]:
    return ((n, batch_of([sample_event(n)], f"b-{n}")) for n in range(count))


def send(subscriber: RecordingSubscriber, meter: Meter, *, count: int = 1, most: int = 1) -> list[Sent | DeliveryError]:
    sent = send_many(
        subscriber,
        some(count),
        max_in_flight=most,
        on_wait=meter.waiting(None),
        sleep=lambda _seconds: None,
        meter=meter,
    )
    return [outcome for _, _, outcome in sent]


def test_a_retry_is_a_call_too() -> None:
    """A batch that is accepted at the third call is three calls and two retries."""
    meter = Meter()
    assert send(FlakySubscriber([TryLater("503"), TryLater("503")]), meter) == [Sent(accepted=1)]
    taken = meter.take(Counters(delivered_events=1))
    assert (taken.delivered_events, taken.calls, taken.retries) == (1, 3, 2)


def test_a_call_that_raises_takes_time_too() -> None:
    """The seconds are those inside the calls, whether they return or raise, and are taken once."""
    clock = Clock()

    class Slow(RecordingSubscriber):
        def deliver(self, batch: Batch) -> Receipt | None:
            clock.sleep(2.5)
            raise Blocked("401")

    meter = Meter(clock)
    assert isinstance(send(Slow(), meter)[0], Blocked)
    taken = meter.take(Counters())
    assert taken.calls == 1
    assert taken.call_seconds == pytest.approx(2.5)
    assert not meter.take(Counters())


def test_calls_of_several_threads_are_counted() -> None:
    """With several batches in flight each call counts."""
    meter = Meter()
    send(RecordingSubscriber(), meter, count=40, most=8)
    assert meter.take(Counters()).calls == 40


def test_a_load_is_one_call() -> None:
    """A destination that takes several batches at once is called once for all of them."""

    class Loaded(RecordingSubscriber):
        def deliver_many(self, batches: list[Batch]) -> list[None]:
            return [None for _ in batches]

    meter = Meter()
    assert len(send(Loaded(), meter, count=5)) == 5
    assert meter.take(Counters()).calls == 1
