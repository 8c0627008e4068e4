"""Several batches at once: what each answer to a load leads to."""

import json
from collections.abc import Callable, Iterator, Sequence

import pytest

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery import loads
from export_pipeline.delivery.sending import Sent
from export_pipeline.delivery.window import send_many
from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.ledger.portions import Step
from export_pipeline.subscribers.filters import Selected, select
from export_pipeline.testing import RecordingSubscriber
from export_pipeline_tests.delivery.test_memory import Kept
from export_pipeline_tests.delivery.test_sending import Clock, batch_of

Answer = Callable[[Sequence[Batch]], Sequence[Receipt | None]]


class Warehouse(RecordingSubscriber):
    """Answers loads as instructed; records separately what came in loads and what came alone."""

    def __init__(self, *answers: Answer, retry_for_seconds: float = 0, only: Sequence[int] = ()) -> None:
        super().__init__(retry_for_seconds=retry_for_seconds)
        self.answers = list(answers)
        self.loads: list[list[str]] = []
        self.only = only

    def select(self, batch: Batch) -> Selected:
        return select(batch, only={"n": self.only} if self.only else {}, but={}, drop_fields=())

    def deliver_many(self, batches: Sequence[Batch]) -> Sequence[Receipt | None]:
        self.loads.append([batch.id for batch in batches])
        return self.answers.pop(0)(batches) if self.answers else [None] * len(batches)

    @property
    def alone(self) -> list[str]:
        return [batch.id for batch in self.batches]


def some(count: int, events: int = 2) -> Iterator[tuple[int, Batch]]:
    return ((n, batch_of(events, f"b-{n}")) for n in range(count))


def raising(error: Exception) -> Answer:
    def answer(batches: Sequence[Batch]) -> Sequence[Receipt]:
        raise error

    return answer


def told(subscriber: Warehouse, count: int = 3) -> list[Sent | DeliveryError]:
    return [outcome for _, _, outcome in send_many(subscriber, some(count), sleep=Clock().sleep)]


def test_batches_come_together_and_each_is_told() -> None:
    """One call for all of them, one outcome for each, in order."""
    subscriber = Warehouse(lambda batches: [None, Receipt(refused={1: "bad"}, detail="load 7"), None])
    assert told(subscriber) == [Sent(2), Sent(1, {1: "bad"}, details=("load 7",)), Sent(2)]
    assert subscriber.loads == [["b-0", "b-1", "b-2"]]
    assert subscriber.alone == []


@pytest.mark.parametrize(("events", "size_bytes"), [(4, 10**9), (10**9, 30)])
def test_a_load_has_a_size(monkeypatch: pytest.MonkeyPatch, events: int, size_bytes: int) -> None:
    """A load is sent after this many events or bytes, and the next batch is fetched only then."""
    monkeypatch.setattr(loads, "MAX_EVENTS", events)
    monkeypatch.setattr(loads, "MAX_BYTES", size_bytes)
    subscriber = Warehouse()
    fetched = []
    batches = ((n, batch) for n, batch in some(5) if fetched.append(n) is None)  # type: ignore[func-returns-value]
    sent = send_many(subscriber, batches)
    next(sent)
    assert fetched == [0, 1]
    assert [own for own, _, _ in sent] == [1, 2, 3, 4]
    assert subscriber.loads == [["b-0", "b-1"], ["b-2", "b-3"]]
    assert subscriber.alone == ["b-4"], "one batch is no load"


def test_try_later_repeats_the_same_load() -> None:
    """Within retry_for_seconds, then the run fails, and nothing of the load counts as accepted."""
    later = raising(TryLater("busy"))
    subscriber = Warehouse(later, later, retry_for_seconds=100)
    assert told(subscriber) == [Sent(2)] * 3
    assert subscriber.loads == [["b-0", "b-1", "b-2"]] * 3
    subscriber = Warehouse(later)
    (outcome,) = told(subscriber)
    assert isinstance(outcome, TryLater)


def test_blocked_stops() -> None:
    """No batch is sent alone then, nor another load begun."""
    subscriber = Warehouse(raising(Blocked("no such database")))
    (outcome,) = told(subscriber)
    assert isinstance(outcome, Blocked)
    assert subscriber.alone == []


def test_a_refused_load_is_sent_batch_by_batch() -> None:
    """Each by the way it would have gone without loads, which finds the events at fault."""
    subscriber = Warehouse(raising(Refused("one of them")))
    assert told(subscriber) == [Sent(2)] * 3
    assert subscriber.alone == ["b-0", "b-1", "b-2"]


@pytest.mark.parametrize("receipt", [Receipt(later={0: "busy"}), Receipt(refused={0: "x"}, suspected={0: "full"})])
def test_a_batch_that_was_not_settled_is_sent_alone(receipt: Receipt) -> None:
    """What is to come again, or may be refused for trouble of the destination's own, takes the exact way."""
    subscriber = Warehouse(lambda batches: [None, receipt, None])
    assert told(subscriber) == [Sent(2)] * 3
    assert subscriber.alone == ["b-1"]


def test_a_batch_that_was_settled_in_part_before_is_sent_alone() -> None:
    """Only the rest of it, though the others come in a load."""
    kept = {n: Kept() for n in range(3)}
    kept[1].steps = [Step(of="b-1", accepted=((0, 1),))]
    subscriber = Warehouse()
    outcomes = [sent for _, _, sent in send_many(subscriber, some(3), memory=lambda n: kept[n])]
    assert outcomes == [Sent(2)] * 3
    assert subscriber.loads == [["b-0", "b-2"]]
    assert [json.loads(line)["n"] for batch in subscriber.batches for line in batch.lines()] == [1]


def test_only_what_is_wanted_is_loaded() -> None:
    """A batch with no selected events is not part of a load, and reasons refer to positions in the whole batch."""
    subscriber = Warehouse(lambda batches: [Receipt(refused={0: "bad"}), None], only=[1])
    batches = [(0, batch_of(2, "b-0")), (1, batch_of(1, "b-1")), (2, batch_of(2, "b-2"))]
    outcomes = [sent for _, _, sent in send_many(subscriber, batches)]
    assert outcomes == [Sent(0, {1: "bad"}, filtered=1), Sent(0, filtered=1), Sent(1, filtered=1)]
    assert subscriber.loads == [["b-0", "b-2"]]


@pytest.mark.parametrize("answer", [lambda _: [None], lambda _: [None, None, Receipt(refused={2: "?"})]])
def test_a_subscriber_that_contradicts_itself_is_blocked(answer: Answer) -> None:
    """Too few receipts, or one that names an event which is not there."""
    assert isinstance(told(Warehouse(answer))[-1], Blocked)
