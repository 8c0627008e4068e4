"""Two receivers of webhooks: one that honours ids, for any number of subscribers, and one that knows no ids."""

import json
from collections import Counter

from export_pipeline_tests.servers.http import Reply, Request, Server


class Honouring(Server):
    """Takes every id once for each path; the path is the subscriber's name.

    Attributes:
        taken: name → id → the NDJSON.
        contradictions: ids that came again with other bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, dict[str, bytes]] = {}
        self.contradictions: list[str] = []

    def answer(self, request: Request) -> Reply:
        identity = request.headers["webhook-id"]
        known = self.taken.setdefault(request.path.strip("/"), {}).setdefault(identity, request.body)
        if known != request.body:
            self.contradictions.append(identity)
        return Reply(204)

    def events(self, name: str) -> Counter[str]:
        """Event → how often it was taken."""
        with self.lock:
            return events_in(b"".join(self.taken.get(name, {}).values()))


class Forgetful(Server):
    """Takes whatever comes, as often as it comes.

    Attributes:
        arrivals: (id, NDJSON) of all that was taken, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[tuple[str, bytes]] = []

    def answer(self, request: Request) -> Reply:
        self.arrivals.append((request.headers["webhook-id"], request.body))
        return Reply(200)

    def repeats(self) -> int:
        """How many batches came again."""
        with self.lock:
            return len(self.arrivals) - len({identity for identity, _ in self.arrivals})

    def distinct(self) -> Counter[str]:
        """Event → in how many different batches it came."""
        with self.lock:
            return events_in(b"".join(body for _, body in set(self.arrivals)))


def events_in(ndjson: bytes) -> Counter[str]:
    """The names of the events in some NDJSON, counted."""
    return Counter(json.loads(line)["event"] for line in ndjson.split(b"\n")[:-1])
