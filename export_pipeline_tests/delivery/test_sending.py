"""Sending a batch: retries, bisecting and the account."""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

import pytest
from dagster import DagsterExecutionInterruptedError
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery.sending import Sent, send, send_to
from export_pipeline.errors import Blocked, ConfigurationError, Refused, TryLater
from export_pipeline.subscribers.packing import MAX_ID_CHARACTERS, Cut, part_id
from export_pipeline.testing import FlakySubscriber, RecordingSubscriber


def batch_of(count: int, batch_id: str = "m1-0") -> Batch:
    lines = [json.dumps({"n": n}).encode() for n in range(count)]
    return Batch(
        id=batch_id,
        data=b"".join(line + b"\n" for line in lines),
        events=count,
        files=("2026/11/23/a.gz",),
        date=date(2026, 11, 23),
    )


class Clock:
    """A clock that only moves during sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Picky:
    """Refuses every batch that holds one of the bad events; knows an id by heart, as a deduplicating receiver does."""

    def __init__(self, bad: set[int], *, names_them: bool = False) -> None:
        self.bad = bad
        self.names_them = names_them
        self.taken: dict[str, bytes] = {}
        self.calls: list[str] = []

    def deliver(self, batch: Batch) -> None:
        assert batch.data.count(b"\n") == batch.events
        self.calls.append(batch.id)
        numbers = [json.loads(line)["n"] for line in batch.lines()]
        found = {position: f"{n} is bad" for position, n in enumerate(numbers) if n in self.bad}
        if found:
            raise Refused("422 bad events", events=found if self.names_them else None)
        assert self.taken.setdefault(batch.id, batch.data) == batch.data, "one id for two different batches"

    def numbers(self) -> list[int]:
        return [json.loads(line)["n"] for data in self.taken.values() for line in data.splitlines()]


def test_an_accepted_batch_is_sent_once_as_it_is() -> None:
    """A destination that takes the batch gets that very batch, once."""
    subscriber = RecordingSubscriber()
    batch = batch_of(3)
    assert send(batch, subscriber.deliver) == Sent(accepted=3)
    assert subscriber.batches == [batch]


def test_try_later_is_tried_again_with_the_same_id_until_accepted() -> None:
    """After TryLater the same batch comes again, after a wait of full jitter."""
    clock = Clock()
    subscriber = FlakySubscriber([TryLater("503"), TryLater("503"), None])
    batch = batch_of(2)
    assert send(batch, subscriber.deliver, sleep=clock.sleep, clock=clock).accepted == 2
    assert subscriber.calls == [batch, batch, batch]
    assert len(clock.waits) == 2


def test_waits_are_full_jitter_below_a_doubling_cap() -> None:
    """The n-th wait is random between 0 and min(max_wait_seconds, base * 2^n)."""
    first_waits: list[float] = []
    for _ in range(60):
        clock = Clock()
        subscriber = FlakySubscriber([TryLater("503")] * 6 + [None])
        send(
            batch_of(1),
            subscriber.deliver,
            retry_for_seconds=1000,
            base_wait_seconds=1,
            max_wait_seconds=4,
            sleep=clock.sleep,
            clock=clock,
        )
        for wait, ceiling in zip(clock.waits, [1, 2, 4, 4, 4, 4], strict=True):
            assert 0 <= wait <= ceiling
        first_waits.append(clock.waits[0])
    assert max(first_waits) - min(first_waits) > 0.5, "no jitter"


def test_gives_up_when_the_time_is_over_and_says_how_often_it_tried() -> None:
    """A destination that stays down ends in TryLater within retry_for_seconds, never later."""
    clock = Clock()
    subscriber = FlakySubscriber([TryLater("503 from example.com")] * 1000)
    with pytest.raises(TryLater, match=r"503 from example\.com \(tried \d+ times in \d+\.\d s\)"):
        send(batch_of(1), subscriber.deliver, retry_for_seconds=30, sleep=clock.sleep, clock=clock)
    assert 15 < clock.now <= 30


def test_no_time_means_one_try() -> None:
    """With retry_for_seconds 0 a batch is sent once."""
    subscriber = FlakySubscriber([TryLater("503"), None])
    with pytest.raises(TryLater, match=r"^503$"):
        send(batch_of(1), subscriber.deliver, retry_for_seconds=0)
    assert len(subscriber.calls) == 1


def test_retry_after_is_obeyed_exactly() -> None:
    """A destination that asks for a pause within the limits gets just that."""
    clock = Clock()
    subscriber = FlakySubscriber([TryLater("429", retry_after_seconds=7.5), None])  # beyond the first jitter
    send(batch_of(1), subscriber.deliver, sleep=clock.sleep, clock=clock)
    assert clock.waits == [7.5]


@pytest.mark.parametrize(("retry_for_seconds", "asked"), [(30, 31), (1000, 61)])
def test_a_longer_pause_than_allowed_is_left_to_the_next_run(retry_for_seconds: float, asked: float) -> None:
    """A pause beyond the cap or the time left ends the try at once, and the error still tells the pause."""
    clock = Clock()
    subscriber = FlakySubscriber([TryLater("429", retry_after_seconds=asked), None])
    with pytest.raises(TryLater) as caught:
        send(batch_of(1), subscriber.deliver, retry_for_seconds=retry_for_seconds, sleep=clock.sleep, clock=clock)
    assert caught.value.retry_after_seconds == asked
    assert clock.waits == []


@pytest.mark.parametrize("asked", [0, 0.01, -5, None])
def test_a_destination_that_asks_for_no_pause_is_not_hammered(asked: float | None) -> None:
    """``Retry-After: 0``, a moment in the past, or less: the waits still grow as without a Retry-After."""
    clock = Clock()
    subscriber = FlakySubscriber([TryLater("503", retry_after_seconds=asked)] * 1_000)
    with pytest.raises(TryLater):
        send(batch_of(1), subscriber.deliver, retry_for_seconds=60, sleep=clock.sleep, clock=clock)
    assert len(subscriber.calls) < 40
    assert sum(clock.waits[8:]) / len(clock.waits[8:]) > 1


@pytest.mark.parametrize("asked", [61, 1e9, float("inf")])
def test_a_pause_without_end_is_left_to_the_next_run(asked: float) -> None:
    """Whatever is asked for, nobody waits for it inside a run."""
    clock = Clock()
    subscriber = FlakySubscriber([TryLater("503", retry_after_seconds=asked)] * 9)
    with pytest.raises(TryLater):
        send(batch_of(1), subscriber.deliver, sleep=clock.sleep, clock=clock)
    assert (len(subscriber.calls), clock.waits) == (1, [])


def test_each_wait_is_told() -> None:
    """on_wait gets the error and the seconds, so that the log shows why nothing happens."""
    clock = Clock()
    told: list[tuple[str, float]] = []
    subscriber = FlakySubscriber([TryLater("429", retry_after_seconds=2), None])
    send(
        batch_of(1),
        subscriber.deliver,
        on_wait=lambda error, seconds: told.append((str(error), seconds)),
        sleep=clock.sleep,
        clock=clock,
    )
    assert told == [("429", 2)]


def test_a_foreign_exception_is_try_later_without_its_secrets() -> None:
    """Whatever a subscriber raises is retried; its type, place and text are reported, secrets and causes are not."""
    subscriber = FlakySubscriber([KeyError("no s3cr3t-value at https://u:pw@h/p?sig=1")] * 2)
    with pytest.raises(TryLater) as caught:
        send(batch_of(1), subscriber.deliver, retry_for_seconds=0, secrets=["s3cr3t-value"])
    text = str(caught.value)
    assert text.startswith("KeyError: ")
    assert re.search(r"\(in doubles\.py, line \d+\)", text)
    assert not {"s3cr3t-value", "u:pw", "sig=1"} & set(re.split(r"[ @?'/]", text))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("error", [Blocked("401 wrong key k3y-k3y"), ConfigurationError("no such thing k3y-k3y")])
def test_blocked_is_raised_at_once(error: Exception) -> None:
    """Blocked, and a wrong configuration, end the sending without a second try, and without the secret."""
    subscriber = FlakySubscriber([error, None])
    with pytest.raises(Blocked) as caught:
        send(batch_of(1), subscriber.deliver, secrets=["k3y-k3y"])
    assert "k3y" not in str(caught.value)
    assert len(subscriber.calls) == 1


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, DagsterExecutionInterruptedError])
def test_interruptions_pass_untouched(interrupt: type[BaseException]) -> None:
    """An exception that ends the process is not retried."""
    subscriber = FlakySubscriber([interrupt(), None])
    with pytest.raises(interrupt):
        send(batch_of(1), subscriber.deliver)
    assert len(subscriber.calls) == 1


def test_named_events_are_refused_and_the_rest_is_sent_again() -> None:
    """Where the destination names the events it refuses, one more call delivers all others, in order."""
    picky = Picky({1, 3}, names_them=True)
    sent = send(batch_of(5), picky.deliver)
    assert sent == Sent(accepted=3, refused={1: "1 is bad", 3: "3 is bad"})
    assert picky.numbers() == [0, 2, 4]
    assert len(picky.calls) == 2


def test_events_named_one_at_a_time_are_found_by_their_place_in_the_batch() -> None:
    """A destination that names only the first bad event each time still gets the right ones quarantined."""

    class FirstOnly(Picky):
        def deliver(self, batch: Batch) -> None:
            try:
                super().deliver(batch)
            except Refused as refusal:
                first = min(refusal.events or {})
                raise Refused("422", events={first: "first bad"}) from None

    picky = FirstOnly({0, 4, 5}, names_them=True)
    sent = send(batch_of(8), picky.deliver)
    assert sent.refused == {0: "first bad", 4: "first bad", 5: "first bad"}
    assert picky.numbers() == [1, 2, 3, 6, 7]


def test_a_receipt_names_refused_events() -> None:
    """Partial success in one call: the named events are refused, nothing is sent again."""
    subscriber = FlakySubscriber([Receipt(refused={2: "too old"}, detail="load 17")])
    assert send(batch_of(4), subscriber.deliver) == Sent(accepted=3, refused={2: "too old"}, details=("load 17",))
    assert len(subscriber.calls) == 1


@given(count=st.integers(1, 60), data=st.data())
def test_bisecting_finds_exactly_the_bad_events(count: int, data: st.DataObject) -> None:
    """Whatever events are bad: just these are refused, all others arrive once and in order, under fitting ids."""
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    picky = Picky(bad, names_them=data.draw(st.booleans()))
    sent = send(batch_of(count), picky.deliver)
    assert set(sent.refused) == bad
    assert sent.accepted + len(sent.refused) == count
    assert picky.numbers() == [n for n in range(count) if n not in bad]
    assert all(re.fullmatch(r"[0-9a-z-]{1,64}", call) for call in picky.calls)


def test_one_bad_event_of_many_costs_few_calls() -> None:
    """Bisecting finds one bad event of 1,024 in at most 2 * log2(1,024) + 1 calls."""
    picky = Picky({700})
    assert send(batch_of(1024), picky.deliver).accepted == 1023
    assert len(picky.calls) <= 21


def test_a_repeat_sends_the_same_parts_under_the_same_ids() -> None:
    """A receiver that remembers ids processes no event twice when the batch is sent again."""
    picky = Picky({2, 9})
    send(batch_of(16), picky.deliver)
    before = dict(picky.taken)
    send(batch_of(16), picky.deliver)
    assert picky.taken == before


def test_a_part_knows_where_its_events_were_in_the_planned_batch() -> None:
    """However often it was divided, and whatever a filter left of it before."""
    batch = batch_of(20)
    lines = batch.lines()
    filtered = batch.holding(lines[3:17], id=batch.id, positions=range(3, 17))
    seen: list[Batch] = []

    def deliver(part: Batch) -> None:
        seen.append(part)
        if lines[5] in part.lines() or lines[11] in part.lines():
            raise Refused("one of them")

    assert list(send(filtered, deliver).refused) == [2, 8]
    for part in seen:
        assert part.whole_id == batch.id
        assert part.positions is not None
        assert [lines[position] for position in part.positions] == part.lines()
    assert (batch.whole_id, batch.positions) == (None, None)


def test_a_part_that_meets_a_passing_failure_is_tried_again_alone() -> None:
    """While bisecting, TryLater repeats the one part; what was accepted is not sent again."""
    clock = Clock()
    subscriber = FlakySubscriber([Refused("422"), None, TryLater("503"), None])
    assert send(batch_of(4), subscriber.deliver, sleep=clock.sleep, clock=clock).accepted == 4
    assert [call.id for call in subscriber.calls] == ["m1-0", "m1-0-r0-2", "m1-0-r2-4", "m1-0-r2-4"]


def test_a_destination_that_refuses_everything_is_blocked() -> None:
    """Where not one event was accepted and 100 were refused, no event is at fault: nothing goes to the quarantine."""
    picky = Picky(set(range(1000)))
    with pytest.raises(Blocked, match="each of the first 100 events was refused, the last one with: 422 bad events"):
        send(batch_of(1000), picky.deliver)


@pytest.mark.parametrize("answer", [Receipt(refused={3: "?"}), Refused("422", events={-1: "?"})])
def test_a_subscriber_that_names_foreign_events_is_blocked(answer: Receipt | Refused) -> None:
    """A subscriber that refuses an event which is not in the batch is wrong, and no event is lost over it."""
    with pytest.raises(Blocked, match=r"reported event .+ as not accepted, in a batch of 3 events"):
        send(batch_of(3), FlakySubscriber([answer]).deliver)


SHARDS = "the cluster is at its limit"


def suspecting(batch: Batch, refused: Sequence[int], *, trouble: str = SHARDS) -> Receipt:
    """A receipt that refuses the events at these positions for a trouble that may be the destination's."""
    return Receipt(refused=dict.fromkeys(refused, "400: full"), suspected=dict.fromkeys(refused, trouble))


@pytest.mark.parametrize("count", [2, 99, 500])
def test_a_trouble_of_the_destinations_own_that_meets_every_event_blocks(count: int) -> None:
    """Where all events of a batch are refused for the same suspected trouble, no event is at fault: all stay owed."""
    with pytest.raises(Blocked, match=rf"{count} of {count} events .* \({SHARDS}\), the first one with: 400: full"):
        send(batch_of(count), lambda batch: suspecting(batch, range(batch.events)))


def test_a_hundred_are_enough_to_suspect_the_destination() -> None:
    """Of a batch in many requests only this many are sent while none is accepted."""
    parts: list[int] = []

    def deliver(batch: Batch) -> Receipt:
        parts.append(batch.events)
        return suspecting(batch, range(batch.events))

    def cut(batch: Batch) -> Cut:
        halves = [range(start, start + 50) for start in range(0, batch.events, 50)]
        return Cut([(half, batch.holding([batch.lines()[n] for n in half], id="x")) for half in halves])

    with pytest.raises(Blocked, match="100 of 100 events"):
        send(batch_of(500), deliver, cut=cut)
    assert parts == [50, 50]


@pytest.mark.parametrize("refused", [[0], [0, 1, 2], list(range(199))])
def test_one_accepted_event_clears_the_destination(refused: list[int]) -> None:
    """Then the trouble is that of the events that were refused, which go to the quarantine."""
    sent = send(batch_of(200), lambda batch: suspecting(batch, refused))
    assert (sent.accepted, list(sent.refused)) == (200 - len(refused), refused)


def test_two_troubles_or_an_ordinary_refusal_clear_the_destination() -> None:
    """Every event has to be refused for the same trouble; one event alone tells nothing."""

    def two(batch: Batch) -> Receipt:
        return Receipt(refused={0: "a", 1: "b"}, suspected={0: SHARDS, 1: "another"})

    def partly(batch: Batch) -> Receipt:
        return Receipt(refused={0: "a", 1: "b"}, suspected={0: SHARDS})

    for deliver in (two, partly):
        assert list(send(batch_of(2), deliver).refused) == [0, 1]
    assert list(send(batch_of(1), lambda batch: suspecting(batch, [0])).refused) == [0]


def test_suspicion_counts_while_bisecting_too() -> None:
    """A refusal of whole requests, halved until each event stands alone, is the destination's where it meets all."""

    def deliver(batch: Batch) -> Receipt | None:
        raise Refused("395: throws", suspected=SHARDS)

    with pytest.raises(Blocked, match="5 of 5 events"):
        send(batch_of(5), deliver)


def test_reasons_hold_no_secret() -> None:
    """The reasons that go to the quarantine are scrubbed too."""
    subscriber = FlakySubscriber([Refused("422", events={0: "key k3y-k3y is bad"}), Receipt(detail="by k3y-k3y")])
    sent = send(batch_of(2), subscriber.deliver, secrets=["k3y-k3y"])
    assert "k3y" not in str(sent)


def test_only_what_was_not_taken_yet_comes_again() -> None:
    """A destination that accepts a part and postpones the rest gets just the rest again, and the retry time starts
    again.
    """
    clock = Clock()
    answers = [
        Receipt(later={1: "throttled", 3: "throttled"}, refused={0: "too large"}),
        Receipt(later={1: "throttled"}),
        None,
    ]
    subscriber = FlakySubscriber(answers)
    sent = send(batch_of(5), subscriber.deliver, sleep=clock.sleep, clock=clock)
    assert sent == Sent(accepted=4, refused={0: "too large"})
    assert [call.lines() for call in subscriber.calls[1:]] == [[b'{"n": 1}', b'{"n": 3}'], [b'{"n": 3}']]
    assert len({call.id for call in subscriber.calls}) == 3


def test_postponed_for_ever_is_try_later() -> None:
    """Where the rest is never taken, the batch is left to the next run."""
    clock = Clock()
    subscriber = FlakySubscriber([Receipt(later={0: "throttled"})] + [TryLater("throttled")] * 1000)
    with pytest.raises(TryLater, match="throttled"):
        send(batch_of(2), subscriber.deliver, sleep=clock.sleep, clock=clock)


def test_a_destination_that_postpones_everything_is_given_up_in_time() -> None:
    """The retry time starts again only if something was accepted."""
    clock = Clock()
    subscriber = FlakySubscriber([Receipt(later={0: "throttled", 1: "throttled"})] * 1000)
    with pytest.raises(TryLater, match="2 events not accepted yet: throttled"):
        send(batch_of(2), subscriber.deliver, retry_for_seconds=30, sleep=clock.sleep, clock=clock)
    assert clock.now <= 30


def pairs(batch: Batch) -> Cut:
    """Two events a request; the event 7 fits into none, and 8 is not wanted."""
    lines = batch.lines()
    numbers = [json.loads(line)["n"] for line in lines]
    fitting = [position for position, n in enumerate(numbers) if n not in (7, 8)]
    chunks = [fitting[start : start + 2] for start in range(0, len(fitting), 2)]
    parts: list[tuple[Sequence[int], Batch]] = [
        (c, replace(batch, data=b"".join(lines[p] + b"\n" for p in c), events=len(c))) for c in chunks
    ]
    return Cut(
        parts,
        refused={position: "too large" for position, n in enumerate(numbers) if n == 7},
        filtered=[position for position, n in enumerate(numbers) if n == 8],
    )


@given(count=st.integers(1, 30), bad=st.sets(st.integers(0, 29)), names=st.booleans())
def test_a_cut_batch_is_sent_part_by_part_in_order(count: int, bad: set[int], names: bool) -> None:
    """Parts are sent one after the other under separate ids, a refused one is bisected in place, and all adds up."""
    bad = {n for n in bad if n < count and n not in (7, 8)}
    picky = Picky(bad, names_them=names)
    sent = send(batch_of(count), picky.deliver, cut=pairs)
    assert set(sent.refused) == bad | ({7} if count > 7 else set())
    assert sent.filtered == (1 if count > 8 else 0)
    assert sent.accepted + len(sent.refused) + sent.filtered == count
    assert picky.numbers() == [n for n in range(count) if n not in bad | {7, 8}]


@pytest.mark.parametrize(("error", "meaning"), [(KeyError("k3y-k3y"), TryLater), (Blocked("k3y-k3y"), Blocked)])
def test_what_goes_wrong_while_cutting_is_told_like_the_rest(error: Exception, meaning: type[Exception]) -> None:
    """An error before the first call is one of ours too, and holds no secret."""

    def fails(batch: Batch) -> Cut:
        raise error

    with pytest.raises(meaning) as caught:
        send(batch_of(2), RecordingSubscriber().deliver, cut=fails, secrets=["k3y-k3y"])
    assert "k3y" not in str(caught.value)


def test_send_to_takes_its_limits_and_secrets_from_the_subscriber() -> None:
    """send_to obeys the subscriber's retry_for_seconds and keeps its secrets out of errors."""
    clock = Clock()
    subscriber = FlakySubscriber(
        [TryLater("no k3y-k3y", retry_after_seconds=5), None], retry_for_seconds=4, secrets=("k3y-k3y",)
    )
    with pytest.raises(TryLater) as caught:
        send_to(subscriber, batch_of(1), sleep=clock.sleep, clock=clock)
    assert "k3y" not in str(caught.value)
    assert clock.waits == []


def test_a_real_sleep_waits() -> None:
    """Without a given clock, waiting takes real time."""
    subscriber = FlakySubscriber([TryLater("429", retry_after_seconds=0.2), None])
    started = time.monotonic()
    send(batch_of(1), subscriber.deliver)
    assert time.monotonic() - started >= 0.2


@given(
    batch_id=st.from_regex(r"[0-9a-z][0-9a-z-]{0,63}", fullmatch=True),
    one=st.sets(st.integers(0, 10_000), min_size=1),
    other=st.sets(st.integers(0, 10_000), min_size=1),
)
def test_ids_of_parts(batch_id: str, one: set[int], other: set[int]) -> None:
    """The id of a part fits the rules of an id, and differs for different parts."""
    make: Callable[[set[int]], str] = lambda indices: part_id(batch_id, sorted(indices))  # noqa: E731
    assert re.fullmatch(r"[0-9a-z-]+", make(one))
    assert len(make(one)) <= MAX_ID_CHARACTERS
    assert (make(one) == make(other)) == (one == other)
