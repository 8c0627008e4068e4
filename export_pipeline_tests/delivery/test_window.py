"""Several batches at once."""

import threading
import time
from collections.abc import Iterator

import pytest

from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.sending import Sent
from export_pipeline.delivery.window import send_many
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.testing import FlakySubscriber, RecordingSubscriber, batch_of, sample_event


def some(count: int) -> Iterator[tuple[int, Batch]]:
    return ((n, batch_of([sample_event(n)], f"b-{n}")) for n in range(count))


class Gate(RecordingSubscriber):
    """Takes its time, and counts how many are inside at once."""

    def __init__(self, seconds: float = 0.02, fails: str | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.fails = fails
        self.inside = 0
        self.most = 0
        self.lock = threading.Lock()

    def deliver(self, batch: Batch) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(self.seconds)
        with self.lock:
            self.inside -= 1
        if batch.id == self.fails:
            raise Blocked("401")
        super().deliver(batch)


@pytest.mark.parametrize("max_in_flight", [1, 3, 64])
def test_all_are_sent_and_told_in_order(max_in_flight: int) -> None:
    """Every batch is sent once, and outcomes are reported in the given order, whichever ends first."""
    gate = Gate()
    told = list(send_many(gate, some(12), max_in_flight=max_in_flight))
    assert [own for own, _, _ in told] == list(range(12))
    assert all(outcome == Sent(accepted=1) for _, _, outcome in told)
    assert sorted(batch.id for batch in gate.batches) == sorted(batch.id for _, batch in some(12))
    assert gate.most <= max_in_flight
    assert gate.most >= min(max_in_flight, 3)


def test_one_at_a_time_keeps_the_order() -> None:
    """With 1 in flight the batches arrive as they were given, from the caller's own thread."""
    threads = set()

    class Here(RecordingSubscriber):
        def deliver(self, batch: Batch) -> None:
            threads.add(threading.current_thread())
            super().deliver(batch)

    here = Here()
    list(send_many(here, some(5), max_in_flight=1))
    assert [batch.id for batch in here.batches] == [f"b-{n}" for n in range(5)]
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("max_in_flight", [1, 4])
def test_after_a_failure_nothing_is_begun_and_what_was_under_way_is_told(max_in_flight: int) -> None:
    """The failure is reported in its place, batches accepted beside it as accepted, and no more are started."""
    gate = Gate(fails="b-2")
    told = {own: outcome for own, _, outcome in send_many(gate, some(100), max_in_flight=max_in_flight)}
    assert isinstance(told[2], Blocked)
    accepted = {f"b-{own}" for own, outcome in told.items() if isinstance(outcome, Sent)}
    assert accepted == {batch.id for batch in gate.batches}
    assert len(told) <= 2 + max_in_flight


def test_batches_are_read_no_further_than_they_are_sent() -> None:
    """The window bounds what is in memory: a batch is asked for only when there is room."""
    asked = 0

    def counted() -> Iterator[tuple[int, Batch]]:
        nonlocal asked
        for pair in some(100):
            asked += 1
            yield pair

    for told, _ in enumerate(send_many(RecordingSubscriber(), counted(), max_in_flight=4), start=1):
        assert asked <= told + 4


class Checked(RecordingSubscriber):
    """Counts its checks, and answers them as told."""

    checks = 0
    answer: Exception | None = None

    def check_once(self) -> None:
        self.checks += 1
        if self.answer is not None:
            raise self.answer


@pytest.mark.parametrize("max_in_flight", [1, 4])
def test_a_subscriber_is_checked_before_its_first_batch(max_in_flight: int) -> None:
    """Once, and not at all without a batch."""
    subscriber = Checked()
    assert list(send_many(subscriber, some(0), max_in_flight=max_in_flight)) == []
    assert subscriber.checks == 0
    assert len(list(send_many(subscriber, some(5), max_in_flight=max_in_flight))) == 5
    assert subscriber.checks == 1


def test_a_check_that_blocks_keeps_every_batch_back() -> None:
    """Nothing is sent where the subscriber knows that nothing gets through; the secret in its reason is not told."""
    subscriber = Checked(secrets=("k3y-k3y",))
    subscriber.answer = Blocked("401 for k3y-k3y")
    [(own, _, outcome)] = send_many(subscriber, some(5))
    assert own == 0
    assert isinstance(outcome, Blocked)
    assert str(outcome) == "401 for [secret]"
    assert subscriber.calls == []


@pytest.mark.parametrize("answer", [TryLater("503"), ZeroDivisionError("oops")])
def test_a_check_that_fails_otherwise_holds_nothing_up(answer: Exception) -> None:
    """Whether it passes, the batch itself will tell, with retries."""
    subscriber = Checked()
    subscriber.answer = answer
    assert [outcome for _, _, outcome in send_many(subscriber, some(2))] == [Sent(accepted=1)] * 2


def test_stopping_ends_the_waits_of_all() -> None:
    """Who closes the iteration, as an interrupted run does, is not held up by a batch that waits for its next try."""
    subscriber = FlakySubscriber([None] + [TryLater("429", retry_after_seconds=25)] * 10)
    outcomes = send_many(subscriber, some(8), max_in_flight=4)
    next(outcomes)
    started = time.monotonic()
    outcomes.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("deliver"):
            thread.join(5)
    assert time.monotonic() - started < 5
    assert not [t for t in threading.enumerate() if t.name.startswith("deliver")]
