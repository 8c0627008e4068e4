"""What every subscriber over HTTP has in common: the ways in which a server and a network fail."""

from collections.abc import Mapping

from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.testing import SubscriberContract
from export_pipeline_tests.servers.http import (
    Drip,
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
        "reset while reading": TryLater,
        "reset while answering": TryLater,
        "nobody listens": TryLater,
        "wrong key": Blocked,
        "404": Blocked,
        "redirect": Blocked,
        "422": Refused,
    }
    faults: Mapping[str, Fault] = {
        "500": Reply(500, b"out of order"),
        "429": Reply(429, headers={"retry-after": "1"}),
        "silent": Silence(),
        "dripping": Drip(),
        "reset while reading": ResetWhileReading(),
        "reset while answering": ResetWhileAnswering(),
        "404": Reply(404),
        "redirect": Reply(308, headers={"location": "https://elsewhere.example/x?key=1"}),
        "422": Reply(422, b"what is that?"),
    }

    def make(self, *, url: str | None = None, key: str | None = None) -> Subscriber:
        """The subscriber, with another address or another credential."""
        raise NotImplementedError

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        if failure == "wrong key":
            return self.make(key="another-k3y-altogether")
        if failure == "nobody listens":
            return self.make(url="http://127.0.0.1:9")
        self.server.standing = self.faults[failure]
        return subscriber

    def mend(self) -> None:
        self.server.standing = None
