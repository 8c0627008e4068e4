"""An HTTP API such as a company writes for itself: NDJSON, arrays or objects; a token; idempotency keys."""

import gzip
import json
from typing import Any

from export_pipeline_tests.servers.http import Reply, Request, Server, loads


class Api(Server):
    """Takes each request once by its Idempotency-Key, all or nothing; with ``partial`` it names what it refuses.

    Attributes:
        taken: key → the events, as bytes where they came as lines, else as objects.
    """

    def __init__(self, token: str, *, partial: bool = False, max_bytes: int = 10_000_000) -> None:
        super().__init__()
        self.token = token
        self.partial = partial
        self.max_bytes = max_bytes
        self.taken: dict[str, list[Any]] = {}

    def held(self) -> list[Any]:
        return [event for events in self.taken.values() for event in events]

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401, b'{"ok":false,"error":"who are you?"}')
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        if len(body) > self.max_bytes:
            return Reply(413)
        events = self._events(request, body)
        bad = [n for n, event in enumerate(events) if self._object(event).get("bad")]
        if bad and not self.partial:
            return Reply(422, b'{"ok":false,"error":"there is a bad event"}')
        self.taken.setdefault(request.headers["idempotency-key"], [e for n, e in enumerate(events) if n not in bad])
        errors = [{"at": {"index": n}, "message": f"number {n} is bad"} for n in bad]
        return Reply(200, json.dumps({"ok": not bad, "errors": errors}).encode())

    def _events(self, request: Request, body: bytes) -> list[Any]:
        if request.headers["content-type"] == "application/x-ndjson":
            return body.split(b"\n")[:-1]
        found = loads(body)
        events: list[Any] = found["records"] if isinstance(found, dict) else found
        return events

    def _object(self, event: Any) -> dict[str, Any]:
        found: dict[str, Any] = loads(event) if isinstance(event, bytes) else event
        return found
