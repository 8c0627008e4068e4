"""The bulk API of OpenSearch, as its documentation describes it."""

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

from export_pipeline_tests.servers.http import Reply, Request, Server, loads


class SearchServer(Server):
    """Holds documents by index and id; ``event_timestamp`` is a number in every index.

    Attributes:
        indices: index → id → the document's text, as it arrived.
        busy: whether a document meets a full queue; called with its text.
    """

    def __init__(self, password: str) -> None:
        super().__init__()
        self.authorization = "Basic " + base64.b64encode(f"writer:{password}".encode()).decode()
        self.indices: dict[str, dict[str, bytes]] = {}
        self.busy: Callable[[bytes], bool] = lambda document: False
        self.is_read_only = False

    def documents(self) -> list[bytes]:
        """What the index holds."""
        return [document for index in self.indices.values() for document in index.values()]

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != self.authorization:
            return self._json({"error": {"type": "security_exception"}, "status": 401}, 401)
        if (request.method, request.path) == ("GET", "/"):
            return self._json({"version": {"distribution": "opensearch", "number": "3.3.0"}})
        if request.path != "/_bulk":
            return self._json({"error": "no handler found"}, 400)
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        if not body.endswith(b"\n"):
            reason = {"type": "illegal_argument_exception", "reason": "must be terminated by a newline [\\n]"}
            return self._json({"error": reason, "status": 400}, 400)
        lines = body.split(b"\n")[:-1]
        items = [self._create(json.loads(a)["create"], d) for a, d in zip(lines[::2], lines[1::2], strict=True)]
        return self._json({"took": 1, "errors": any("error" in item["create"] for item in items), "items": items})

    def _create(self, action: dict[str, Any], document: bytes) -> dict[str, Any]:
        name, identity = action["_index"], action["_id"]
        index = self.indices.setdefault(name, {})
        told: dict[str, Any] = {"_index": name, "_id": identity, "status": 201, "result": "created"}
        wrong = None
        if self.is_read_only:
            wrong = (403, "cluster_block_exception", "index blocked by: [FORBIDDEN/8/index write (api)]")
        elif self.busy(document):
            wrong = (429, "rejected_execution_exception", "rejected execution of coordinating operation")
        elif identity in index:
            wrong = (409, "version_conflict_engine_exception", "document already exists")
        elif not isinstance(loads(document).get("event_timestamp", 0), int):
            wrong = (400, "mapper_parsing_exception", "failed to parse field [event_timestamp] of type [long]")
        if wrong is not None:
            told |= {"status": wrong[0], "error": {"type": wrong[1], "reason": wrong[2]}}
        else:
            index[identity] = document
        return {"create": told}

    def _json(self, told: Any, status: int = 200) -> Reply:
        return Reply(status, json.dumps(told).encode(), {"content-type": "application/json; charset=UTF-8"})
