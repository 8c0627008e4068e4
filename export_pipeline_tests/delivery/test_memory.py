"""A batch that was settled in part: what the next try sends, and under which ids."""

import json
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery.memory import WRITE_EVERY_SECONDS
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.ledger.portions import Portions, Step
from export_pipeline.subscribers.filters import Selected, select
from export_pipeline.subscribers.packing import Cut, Limits, pack
from export_pipeline.testing import RecordingSubscriber
from export_pipeline_tests.delivery.test_sending import SHARDS, Clock, batch_of, suspecting

# Another process may have the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
Answer = Callable[[Batch], Receipt | None]


class Killed(BaseException):
    """The process is no more."""


class Kept:
    """A ledger of one batch. What is to be kept after the process was killed is not."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.writes = 0
        self.is_dead = False

    def recall(self) -> Portions | None:
        if not self.steps:
            return None
        found = Portions()
        for step in self.steps:
            found.take(step)
        return found

    def keep(self, steps: Sequence[Step]) -> None:
        if not self.is_dead:
            self.writes += 1
            self.steps += steps


class Receiver(RecordingSubscriber):
    """Answers as instructed, and remembers ids: what it has, it accepts again unchanged.

    Attributes:
        most: events in one request.
        taken: id → the numbers of its events.
    """

    def __init__(self, most: int | None = None, only: Sequence[int] | None = None) -> None:
        super().__init__(retry_for_seconds=0)
        self.most = most
        self.only = only
        self.answers: list[Answer] = []
        self.taken: dict[str, list[int]] = {}
        self.ids: list[str] = []

    def select(self, batch: Batch) -> Selected:
        return select(batch, only={"n": self.only} if self.only else {}, but={}, drop_fields=())

    def cut(self, batch: Batch) -> Cut:
        if self.most is None:
            return Cut([(range(batch.events), batch)])
        return pack(batch, lambda line: (line,), Limits(max_events=self.most, max_bytes=10**9, max_event_bytes=10**9))

    def deliver(self, batch: Batch) -> Receipt | None:
        self.ids.append(batch.id)
        if batch.id in self.taken:
            assert set(self.taken[batch.id]) <= set(numbers_in(batch)), "one id for two different requests"
            if len(self.taken[batch.id]) == batch.events:
                return None
        answer = self.answers.pop(0) if self.answers else None
        receipt = answer(batch) if answer else None
        told = receipt or Receipt()
        self.take(batch, {*told.refused, *told.later})
        return receipt

    def take(self, batch: Batch, but: set[int] | None = None) -> None:
        numbers = [number for place, number in enumerate(numbers_in(batch)) if place not in (but or set())]
        if numbers:
            self.taken[batch.id] = numbers

    def times_taken(self) -> Counter[int]:
        """Number of an event → under how many ids it was taken."""
        return Counter(number for numbers in self.taken.values() for number in numbers)


def numbers_in(batch: Batch) -> list[int]:
    return [json.loads(line)["n"] for line in batch.lines()]


def raising(error: BaseException) -> Answer:
    def answer(batch: Batch) -> None:
        raise error

    return answer


def send_on(receiver: Receiver, kept: Kept, count: int = 8, clock: Clock | None = None) -> Sent | BaseException:
    """One attempt, by a separate process."""
    clock = clock or Clock()
    try:
        return send_to(receiver, batch_of(count), memory=kept, sleep=clock.sleep, clock=clock)
    except (DeliveryError, Killed) as error:
        return error


TOO_LARGE, LATER = raising(Refused("413")), raising(TryLater("503"))


def test_after_one_half_was_taken_the_next_try_sends_the_other_under_its_id() -> None:
    """A batch that was refused as a whole, and of which one half was taken, never comes as a whole again."""
    receiver, kept = Receiver(), Kept()
    receiver.answers = [TOO_LARGE, lambda _: None, LATER]
    assert isinstance(send_on(receiver, kept), TryLater)
    assert send_on(receiver, kept) == Sent(accepted=8)
    assert receiver.ids == ["m1-0", "m1-0-r0-4", "m1-0-r4-8", "m1-0-r4-8"]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_process_killed_between_two_halves_is_gone_on_from(after: int) -> None:
    """Killed at any request after the batch was halved, the next run sends the half in flight, and what follows it."""
    receiver, kept = Receiver(), Kept()
    answers: list[Answer] = [lambda _: None] * after

    def kill(batch: Batch) -> None:
        receiver.take(batch)
        kept.is_dead = True
        raise Killed

    receiver.answers = [TOO_LARGE, TOO_LARGE, *answers[1:], kill]
    assert isinstance(send_on(receiver, kept), Killed)
    kept.is_dead = False
    in_flight = receiver.ids[-1]
    receiver.ids.clear()
    assert send_on(receiver, kept) == Sent(accepted=8)
    assert receiver.ids[0] == in_flight
    assert set(receiver.times_taken().values()) == {1}


def test_a_new_round_begins_afresh() -> None:
    """A replay, which has a separate memory, sends the whole batch under its id."""
    receiver, kept = Receiver(), Kept()
    receiver.answers = [TOO_LARGE, lambda _: None, LATER]
    send_on(receiver, kept)
    receiver.ids.clear()
    assert send_on(receiver, Kept()) == Sent(accepted=8)
    assert receiver.ids == ["m1-0"]


@pytest.mark.parametrize(
    ("most", "calls"),
    [
        (4, ["m1-0-r3-6", "m1-0-r6-9"]),  # what may have come through goes as it was, also where more would fit
        (9, ["m1-0-r3-6", "m1-0-r6-9"]),
        (2, ["m1-0-r3-5", "m1-0-r5-7", "m1-0-r7-9"]),  # it does not fit any more
    ],
)
def test_limits_that_change_between_two_tries(most: int, calls: list[str]) -> None:
    """What was taken stays so, and a request that fits the new limits goes as it was."""
    receiver, kept = Receiver(3), Kept()
    receiver.answers = [lambda _: None, LATER]
    send_on(receiver, kept, 9)
    receiver.most = most
    receiver.ids.clear()
    assert send_on(receiver, kept, 9) == Sent(accepted=9)
    assert receiver.ids == calls
    assert set(receiver.times_taken().values()) == {1}


def test_other_filters_at_the_next_try_leave_what_was_taken() -> None:
    """An event that was accepted and is no longer selected stays accepted; a newly selected one gets another id."""
    receiver, kept = Receiver(only=[0, 1, 2, 3]), Kept()
    receiver.answers = [TOO_LARGE, lambda _: None, LATER]
    send_on(receiver, kept)
    wider = Receiver(only=[2, 3, 4, 5])
    assert send_on(wider, kept) == Sent(accepted=6, filtered=2)
    assert wider.taken == {"m1-0-r2-4": [2, 3], "m1-0-r4-6": [4, 5]}


def test_what_was_refused_is_told_with_the_rest() -> None:
    """The reasons of an earlier attempt are in the account of the batch, and the events are not sent again."""
    receiver, kept = Receiver(), Kept()
    receiver.answers = [lambda _: Receipt(refused={1: "bad"}, later={5: "busy"}), LATER]
    assert isinstance(send_on(receiver, kept), TryLater)
    assert isinstance(send_on(receiver, kept), TryLater)
    assert send_on(receiver, kept) == Sent(accepted=7, refused={1: "bad"})
    assert receiver.ids == ["m1-0", "m1-0-r5-6", "m1-0-r5-6"]


def test_a_refusal_for_trouble_of_the_destinations_own_is_not_remembered() -> None:
    """Once the destination is in order, everything it refused before comes again."""
    receiver, kept = Receiver(4), Kept()
    every = range(4)
    receiver.answers = [lambda batch: suspecting(batch, every), LATER]
    send_on(receiver, kept)
    receiver.answers = [lambda batch: suspecting(batch, every)] * 2
    assert isinstance(send_on(receiver, kept), Blocked)
    assert send_on(receiver, kept) == Sent(accepted=8)
    assert SHARDS


def test_events_refused_one_by_one_until_the_destination_was_suspected_come_again() -> None:
    """A hundred events refused and none accepted: nobody believes the refusals."""
    receiver, kept = Receiver(), Kept()
    receiver.answers = [raising(Refused("400 no"))] * 300
    assert isinstance(send_on(receiver, kept, 128), Blocked)
    receiver.answers = []
    assert send_on(receiver, kept, 128) == Sent(accepted=128)


def test_nothing_is_written_for_a_batch_that_goes_out_in_one_request() -> None:
    """The usual batch costs the ledger nothing, whether it is accepted or not."""
    receiver, kept = Receiver(), Kept()
    receiver.answers = [LATER, lambda _: None]
    send_on(receiver, kept)
    send_on(receiver, kept)
    assert kept.writes == 0


def test_a_batch_of_many_requests_is_written_once_and_then_now_and_then() -> None:
    """Its division is kept before the first request, then no more than once a second what was taken."""
    receiver, kept, clock = Receiver(1), Kept(), Clock()

    def slow(batch: Batch) -> None:
        clock.now += WRITE_EVERY_SECONDS / 3

    receiver.answers = [slow] * 9
    assert send_on(receiver, kept, 9, clock) == Sent(accepted=9)
    assert kept.writes == 1 + 2


@UNHURRIED
@given(st.data())
def test_no_event_is_taken_under_two_ids(data: st.DataObject) -> None:
    """Whatever a receiver that honours ids answers, whenever the process is killed, and however limits grow."""
    count = data.draw(st.integers(1, 12), label="events")
    most = data.draw(st.integers(1, 12), label="most")
    kept = Kept()
    receiver = Receiver(most)
    refused: set[int] = set()

    def answer(batch: Batch) -> Receipt | None:
        places = range(batch.events)
        kind = data.draw(st.sampled_from(["take", "later", "lost", "kill", "killed", "413", "named", "told"]))
        if kind in ("lost", "killed"):
            receiver.take(batch)
        if kind in ("kill", "killed"):
            kept.is_dead = True
            raise Killed
        if kind in ("later", "lost"):
            raise TryLater("503")
        if kind == "413" and (batch.events > 1 or numbers_in(batch)[0] == 0):
            refused.update(numbers_in(batch) if batch.events == 1 else ())
            raise Refused("413")
        if kind in ("named", "told"):
            bad = data.draw(st.sets(st.sampled_from(places), max_size=2))
            later = data.draw(st.sets(st.sampled_from(places))) - bad
            refused.update(numbers_in(batch)[place] for place in bad)
            if kind == "named":
                raise Refused("400", events=dict.fromkeys(bad, "bad"))
            return Receipt(refused=dict.fromkeys(bad, "bad"), later=dict.fromkeys(later, "busy"))
        return None

    for _ in range(data.draw(st.integers(0, 8), label="tries")):
        kept.is_dead = False
        receiver.answers = [answer] * 100
        if isinstance(send_on(receiver, kept, count), Sent):
            break
        receiver.most = max(receiver.most or 1, data.draw(st.integers(1, 12), label="most"))
    kept.is_dead = False
    receiver.answers = []
    sent = send_on(receiver, kept, count)
    assert isinstance(sent, Sent)
    times = receiver.times_taken()
    assert sent.accepted + len(sent.refused) == count
    assert set(times.values()) <= {1}
    assert {*range(count)} - set(sent.refused) <= set(times)
