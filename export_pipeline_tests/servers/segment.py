"""Segment's tracking API as its documentation describes it."""

import base64
import gzip
import json
from typing import Any

from export_pipeline_tests.servers.http import Reply, Request, Server

MAX_BYTES = 500_000
MAX_EVENT_BYTES = 32_768
MAX_EVENTS = 2_500


class SegmentServer(Server):
    """Answers 200 whatever it thinks of single calls, drops the bad ones, and takes each messageId once.

    Attributes:
        calls: what it took.
        dropped: calls that it answered 200 to and threw away.
    """

    def __init__(self, write_key: str) -> None:
        super().__init__()
        self.authorization = "Basic " + base64.b64encode(f"{write_key}:".encode()).decode()
        self.calls: list[dict[str, Any]] = []
        self.dropped: list[dict[str, Any]] = []
        self.known: set[str] = set()

    def answer(self, request: Request) -> Reply:
        if (request.method, request.path) != ("POST", "/v1/batch"):
            return Reply(404, b"not found")
        if request.headers.get("authorization") != self.authorization:
            return Reply(401, b'{"error":"invalid write key"}')
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        try:
            batch = json.loads(body)["batch"]
        except (ValueError, KeyError):
            return Reply(400, b'{"success":false,"message":"malformed JSON"}')
        sizes = [len(json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode()) for call in batch]
        if len(body) > MAX_BYTES or len(batch) > MAX_EVENTS or max(sizes, default=0) > MAX_EVENT_BYTES:
            return Reply(400, b'{"success":false,"message":"exceeds the limit"}')
        if any("make Segment choke" in call.values() for call in batch):
            return Reply(400, b'{"success":false,"message":"choked"}')
        for call in batch:
            self._take(call)
        return Reply(200, b'{"success":true}')

    def _take(self, call: dict[str, Any]) -> None:
        is_whole = call.get("userId") or call.get("anonymousId")
        needs = {"track": "event", "group": "groupId"}.get(call.get("type", ""))
        if (
            not is_whole
            or (needs and not call.get(needs))
            or call["type"] not in ("identify", "group", "page", "track")
        ):
            self.dropped.append(call)
            return
        message_id = call.get("messageId")
        if message_id is None or message_id not in self.known:
            self.calls.append(call)
        self.known.add(str(message_id))
