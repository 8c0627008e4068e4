"""The contract suite that every subscriber passes: those of this package, and yours.

Subclass it in a test module, define how to create your subscriber and what its destination contains, and run pytest::

    class TestMine(SubscriberContract):
        @pytest.fixture
        def subscriber(self, tmp_path):
            self.file = tmp_path / "events.ndjson"
            return Mine(path=str(self.file))

        def held(self):
            return self.file.read_bytes().splitlines()
"""

import json
import re
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import dagster
import pytest

from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.delivery.subscriber import Loads
from export_pipeline.delivery.window import send_many
from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.testing.samples import (
    anonymous_events,
    awkward_events,
    batch_of,
    half_a_pair,
    hard_events,
    sample_event,
)

UNITS = re.compile(
    r"(_|^)(seconds|bytes|events|requests|records|attempts|in_flight|nesting|days|characters|columns|port|level)$"
)


class SubscriberContract:
    """Override :meth:`subscriber` and :meth:`held`; override the rest as your destination requires.

    Attributes:
        failures: name of each failure of the destination → the error that the subscriber raises; see :meth:`broken`.
        repeat_is_harmless: the destination recognizes a repeated batch, and contains its events once.
        largest_event_bytes: size of the largest event that is tested.
        batches_in_parallel: number of batches that four threads deliver; lower it if each takes long.
    """

    failures: Mapping[str, type[DeliveryError]] = {}
    repeat_is_harmless: bool = True
    largest_event_bytes: int = 1_000_000
    batches_in_parallel: int = 8

    @pytest.fixture
    def subscriber(self) -> Subscriber:
        """The subscriber, ready to deliver to a new, empty destination."""
        raise NotImplementedError("override the fixture 'subscriber'")

    def held(self) -> Iterable[object]:
        """What the destination contains now: for every event what :meth:`expected` returns, in any order."""
        raise NotImplementedError

    def expected(self, events: Sequence[bytes]) -> Iterable[object]:
        """What the destination contains after *events* were delivered once: by default their exact bytes."""
        return events

    def events(self, count: int) -> list[bytes]:
        """Ordinary events that the destination accepts."""
        return [sample_event(n) for n in range(count)]

    def awkward_events(self) -> list[bytes]:
        """Events that are hard to deliver unchanged, and that the destination accepts."""
        return awkward_events(self.largest_event_bytes)

    def bad_event(self) -> bytes | None:
        """An event that the destination refuses permanently; None if it accepts everything."""
        return None

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        """Make the destination fail in the way named *failure*; return a subscriber that delivers to it."""
        raise NotImplementedError

    def mend(self) -> None:
        """Undo :meth:`broken`."""

    def send(self, subscriber: Subscriber, batch: Batch) -> Sent:
        """Send as the pipeline does."""
        return send_to(subscriber, batch)

    def assert_holds(self, *batches: Batch) -> None:
        """Assert that the destination contains every event of *batches* once, and nothing else."""
        held = sorted(map(_comparable, self.held()))
        expected = sorted(_comparable(e) for batch in batches for e in self.expected(batch.lines()))
        assert held == expected

    def test_a_batch_is_delivered_whole(self, subscriber: Subscriber) -> None:
        """Every event of a batch is at the destination when deliver returns."""
        batch = batch_of(self.events(25))
        assert self.send(subscriber, batch).accepted == 25
        self.assert_holds(batch)

    def test_one_event_is_a_batch(self, subscriber: Subscriber) -> None:
        """The smallest batch is delivered like any other."""
        batch = batch_of(self.events(1))
        self.send(subscriber, batch)
        self.assert_holds(batch)

    def test_awkward_events_arrive_unchanged(self, subscriber: Subscriber) -> None:
        """Non-ASCII, tiny and huge events, big numbers and unusual whitespace arrive unchanged."""
        batch = batch_of(self.awkward_events())
        assert self.send(subscriber, batch).refused == {}
        self.assert_holds(batch)

    def test_a_repeat_is_harmless(self, subscriber: Subscriber) -> None:
        """A batch that is sent again under the same id, as by a new process, does not change the destination."""
        batch = batch_of(self.events(5))
        self.send(subscriber, batch)
        subscriber.close()
        again = type(subscriber)(**_options(subscriber))
        self.send(again, batch)
        again.close()
        if self.repeat_is_harmless:
            self.assert_holds(batch)
        else:
            self.assert_holds(batch, batch)

    def test_batches_in_parallel(self, subscriber: Subscriber) -> None:
        """Several threads can deliver through one subscriber."""
        batches = [
            batch_of([sample_event(100 * n + m) for m in range(4)], f"parallel-{n}")
            for n in range(self.batches_in_parallel)
        ]
        with ThreadPoolExecutor(4) as pool:
            sent = list(pool.map(lambda batch: self.send(subscriber, batch), batches))
        assert [one.accepted for one in sent] == [4] * self.batches_in_parallel
        self.assert_holds(*batches)

    def test_several_batches(self, subscriber: Subscriber) -> None:
        """Batches that come one after the other arrive, and where they come as one load, its repeat is harmless."""
        batches = [batch_of([sample_event(10 * n + m) for m in range(3)], f"several-{n}") for n in range(3)]
        for _ in range(2 if isinstance(subscriber, Loads) else 1):
            sent = [outcome for _, _, outcome in send_many(subscriber, enumerate(batches))]
            assert [one.accepted for one in sent if isinstance(one, Sent)] == [3, 3, 3]
            self.assert_holds(*batches)

    def test_a_bad_event_is_refused_and_all_others_accepted(self, subscriber: Subscriber) -> None:
        """An event that can never be accepted is reported with a reason, and all others are delivered."""
        bad = self.bad_event()
        if bad is None:
            pytest.skip("this destination takes every event")
        good = self.events(6)
        sent = self.send(subscriber, batch_of([*good[:4], bad, *good[4:]]))
        assert list(sent.refused) == [4]
        assert sent.refused[4]
        self.assert_holds(batch_of(good))

    def test_no_event_holds_up_the_others(self, subscriber: Subscriber) -> None:
        """Valid JSON that is hard to process is accepted or refused, and never blocks its batch."""
        hard = hard_events()
        good = self.events(4)
        sent = self.send(subscriber, batch_of([*good[:2], *hard, *good[2:]]))
        assert sent.accepted + len(sent.refused) + sent.filtered == len(hard) + 4
        assert set(sent.refused) <= set(range(2, 2 + len(hard)))
        assert all(sent.refused.values())
        held = Counter(map(_comparable, self.held()))
        expected = Counter(map(_comparable, self.expected(good)))
        assert expected <= held

    def test_visitors_without_a_user_id_arrive(self, subscriber: Subscriber) -> None:
        """Events whose user id is empty, blank, null or missing are accepted."""
        events = anonymous_events()
        sent = self.send(subscriber, batch_of(events))
        assert (sent.accepted, sent.refused) == (len(events), {})

    def test_an_unpaired_surrogate_in_an_id_does_not_block_other_events(self, subscriber: Subscriber) -> None:
        """The others arrive at the first attempt; the event arrives too, or is refused with a reason."""
        good = self.events(2)
        sent = self.send(subscriber, batch_of([good[0], half_a_pair(), good[1]]))
        assert set(sent.refused) <= {1}
        assert sent.accepted + len(sent.refused) == 3
        assert all(sent.refused.values())
        held = Counter(map(_comparable, self.held()))
        assert Counter(map(_comparable, self.expected(good))) <= held

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test with an argument ``failure`` once for every failure."""
        if "failure" in metafunc.fixturenames:
            metafunc.parametrize("failure", sorted(self.failures))

    def test_a_failure_raises_the_documented_error(self, subscriber: Subscriber, failure: str) -> None:
        """A failing destination raises the documented error, without secrets; once repaired, it gets every event."""
        batch = batch_of(self.events(5))
        broken = self.broken(subscriber, failure)
        with pytest.raises((TryLater, Blocked, Refused)) as caught:
            broken.deliver(batch)
        broken.close()
        assert caught.type is self.failures[failure], caught.value
        told = "".join(traceback.format_exception(caught.value))
        assert not [name for name in _secrets(broken) if name in told]
        assert str(caught.value)
        self.mend()
        self.send(subscriber, batch)
        if self.repeat_is_harmless:
            self.assert_holds(batch)

    def test_check_accepts_a_working_destination(self, subscriber: Subscriber) -> None:
        """check() succeeds if deliver would, and leaves nothing behind."""
        subscriber.check()
        self.assert_holds()

    def test_works_as_a_resource_of_a_job(
        self, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Dagster copies it, reads its secrets from the environment, closes it, and logs no secret."""
        batch = batch_of(self.events(3))
        values = _options(subscriber)
        for name in secret_fields(type(subscriber)):
            if isinstance(values[name], str):
                monkeypatch.setenv(f"CONTRACT_{name.upper()}", values[name])
                values[name] = dagster.EnvVar(f"CONTRACT_{name.upper()}")

        @dagster.op(required_resource_keys={"destination"})
        def deliver(context: dagster.OpExecutionContext) -> None:
            self.send(context.resources.destination, batch)
            context.log.info(f"{context.resources.destination!r}")

        @dagster.job(resource_defs={"destination": type(subscriber)(**values)})
        def export() -> None:
            deliver()

        result = export.execute_in_process()
        self.assert_holds(batch)
        told = "".join(map(repr, result.all_events)) + "".join(capfd.readouterr())
        assert not [secret for secret in _secrets(subscriber) if secret in told]

    def test_repr_holds_no_secret(self, subscriber: Subscriber) -> None:
        """Neither repr nor str shows a secret."""
        assert not [secret for secret in _secrets(subscriber) if secret in f"{subscriber!r} {subscriber!s}"]

    def test_every_option_is_described_and_has_units(self, subscriber: Subscriber) -> None:
        """Each option has a description, each number has its unit in its name, and the class has a docstring."""
        fields = type(subscriber).model_fields
        assert type(subscriber).__doc__
        assert [name for name, info in fields.items() if not info.description] == []
        numbers = [name for name, info in fields.items() if _is_number(info.annotation)]
        assert [name for name in numbers if not UNITS.search(name)] == []


def _options(subscriber: Subscriber) -> dict[str, Any]:
    """The options it was created with, by their names in the deployment file."""
    fields = type(subscriber).model_fields
    return {info.alias or name: getattr(subscriber, name) for name, info in fields.items()}


def _secrets(subscriber: Subscriber) -> list[str]:
    return [secret for secret in subscriber.secret_values() if len(secret) >= 4]


def _is_number(annotation: Any) -> bool:
    return any(kind in (int, float) for kind in (annotation, *get_args(annotation)))


def _comparable(held: object) -> bytes:
    """Bytes unchanged, anything else as JSON with sorted keys."""
    return held if isinstance(held, bytes) else json.dumps(held, sort_keys=True).encode()
