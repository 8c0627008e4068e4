"""What every subscriber over HTTP has in common: the ways in which a server and a network fail."""

import base64
import json
from collections.abc import Mapping

import pytest

from export_pipeline.delivery.sending import send_to
from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.testing import SubscriberContract, batch_of
from export_pipeline_tests.servers.http import (
    Drip,
    DripBefore,
    Fault,
    Reply,
    ResetWhileAnswering,
    ResetWhileReading,
    Server,
    Silence,
)


class HttpContract(SubscriberContract):
    """Set ``self.server`` in the fixture, and write :meth:`make`."""

    server: Server
    largest_event_bytes = 900_000
    failures: Mapping[str, type[DeliveryError]] = {
        "500": TryLater,
        "429": TryLater,
        "silent": TryLater,
        "dripping": TryLater,
        "dripping head": TryLater,
        "one 1xx after another": TryLater,
        "reset while reading": TryLater,
        "reset while answering": TryLater,
        "nobody listens": TryLater,
        "wrong key": Blocked,
        "404": Blocked,
        "redirect": Blocked,
        "408": TryLater,
        "425": TryLater,
        "502": TryLater,
        "503": TryLater,
        "504": TryLater,
        "401": Blocked,
        "403": Blocked,
        "410": Blocked,
        "400": Refused,
        "413": Refused,
        "422": Refused,
    }
    tells_retry_after = True
    # Only these end by the client's timeout; all others must have the same outcome on a slow machine.
    untimely = frozenset({"silent", "dripping", "dripping head", "one 1xx after another"})
    faults: Mapping[str, Fault] = {
        "500": Reply(500, b"out of order"),
        "429": Reply(429, headers={"retry-after": "1"}),
        "silent": Silence(),
        "dripping": Drip(),
        "dripping head": DripBefore("head"),
        "one 1xx after another": DripBefore("1xx"),
        "reset while reading": ResetWhileReading(),
        "reset while answering": ResetWhileAnswering(),
        "404": Reply(404),
        "redirect": Reply(308, headers={"location": "https://elsewhere.example/x?key=1"}),
        "422": Reply(422, b"what is that?"),
        "503": Reply(
            503, b"<html>busy</html>", {"content-type": "text/html", "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}
        ),
        **{status: Reply(int(status)) for status in ("400", "401", "403", "408", "410", "413", "425", "502", "504")},
    }

    def make(self, *, url: str | None = None, key: str | None = None, timeout_seconds: float = 60) -> Subscriber:
        """The subscriber, with another address, another credential or less patience."""
        raise NotImplementedError

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        if failure == "wrong key":
            return self.make(key="another-k3y-altogether")
        if failure == "nobody listens":
            return self.make(url="http://127.0.0.1:9")
        self.server.standing = self.faults[failure]
        return self.make(timeout_seconds=0.5) if failure in self.untimely else subscriber

    def mend(self) -> None:
        self.server.standing = None

    @pytest.mark.parametrize("status", [429, 503])
    def test_the_pause_that_was_asked_for_is_told(self, subscriber: Subscriber, status: int) -> None:
        """Retry-After reaches the code that decides when to retry."""
        if not self.tells_retry_after:
            pytest.skip("this client does not tell headers")
        self.server.script.append(Reply(status, headers={"retry-after": "7"}))
        with pytest.raises(TryLater) as caught:
            subscriber.deliver(batch_of(self.events(2)))
        assert caught.value.retry_after_seconds == 7

    @pytest.mark.parametrize(
        "pause",
        [
            "0",
            "9" * 400,
            *(
                pytest.param(pause, marks=pytest.mark.thorough)
                for pause in ("-5", "Wed, 21 Oct 2015 07:28:00 GMT", "soon")
            ),
        ],
    )
    def test_a_server_that_asks_for_no_pause_is_not_hammered(self, subscriber: Subscriber, pause: str) -> None:
        """Whatever its Retry-After says, it gets few requests; one without end is left to the next run."""
        self.server.standing = Reply(503, headers={"retry-after": pause})
        moment, before = [0.0], len(self.server.requests)

        def sleep(seconds: float) -> None:
            moment[0] += seconds

        with pytest.raises(TryLater):
            send_to(subscriber, batch_of(self.events(1)), sleep=sleep, clock=lambda: moment[0])
        assert 1 <= len(self.server.requests) - before < 60

    def test_no_spelling_of_a_secret_that_the_server_repeats_is_told(self, subscriber: Subscriber) -> None:
        """An echo in JSON as PHP writes it, in HTML, in hexadecimal digits, in a URL, or in wrapped base64."""
        secrets = [secret for secret in subscriber.secret_values() if len(secret) >= 8]
        spelled = {
            spelling(secret)
            for secret in secrets
            for spelling in (
                lambda text: json.dumps(text)[1:-1].replace("/", r"\/"),
                lambda text: "".join(f"&#{ord(one)};" for one in text),
                lambda text: text.encode().hex(),
                lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
            )
        }
        wrapped = [base64.encodebytes(b"user:" + secret.encode() * 3).decode() for secret in secrets]
        for echo in (*spelled, *wrapped):
            self.server.script.append(Reply(403, f"you sent {echo}".encode()))
            with pytest.raises((Blocked, TryLater)) as caught:
                send_to(subscriber, batch_of(self.events(1)), sleep=lambda seconds: None)
            told = f"{caught.value} {caught.value.answer}"
            assert echo not in told
            assert not [secret for secret in secrets if secret in told]
        self.server.script.clear()

    def test_a_batch_goes_on_after_every_kind_of_trouble(self, subscriber: Subscriber) -> None:
        """A reset, a busy server and a request that is too large in one run: all events arrive, once, none refused."""
        batch = batch_of(self.events(8))
        self.server.script.extend([ResetWhileReading(), Reply(503, headers={"retry-after": "0"}), Reply(413)])
        sent = send_to(subscriber, batch, sleep=lambda seconds: None)
        assert (sent.accepted, sent.refused) == (8, {})
        self.assert_holds(batch)
