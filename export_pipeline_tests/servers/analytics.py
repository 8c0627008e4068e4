"""The ingestion APIs of Mixpanel, Amplitude and PostHog, as their documentation describes them."""

import base64
import gzip
import json
from collections.abc import Iterable
from typing import Any

from export_pipeline_tests.servers.http import Reply, Request, Server


def body_of(request: Request) -> bytes:
    """The body of a request, unpacked where it is compressed."""
    return gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body


def as_json(status: int, /, **told: Any) -> Reply:
    """A reply with *told* as JSON."""
    return Reply(status, json.dumps(told).encode(), {"content-type": "application/json"})


class Deduplicating(Server):
    """Holds each event once, by the id that the service knows it by."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.by_id: dict[str, dict[str, Any]] = {}
        self.dropped: list[dict[str, Any]] = []

    def held(self) -> Iterable[dict[str, Any]]:
        return self.by_id.values()


class MixpanelServer(Deduplicating):
    """POST /import?strict=1: takes the good events and answers 400 for the others."""

    def answer(self, request: Request) -> Reply:
        if request.path != "/import" or request.query.get("strict") != "1":
            return as_json(404)
        given = request.headers.get("authorization", "").removeprefix("Basic ")
        if base64.b64decode(given).decode() not in (f"{self.key}:", f"robot:{self.key}"):
            return as_json(401, code=401, error="Invalid credentials", status="Unauthorized")
        if base64.b64decode(given).decode().startswith("robot:") and request.query.get("project_id") != "77":
            return as_json(401, code=401, error="project_id is missing", status="Unauthorized")
        body = body_of(request)
        lines = body.split(b"\n") if body else []
        if len(lines) > 2_000 or len(body) > 10_485_760:
            return as_json(413, code=413, error="request exceeds max limit of 10485760 bytes", status="Too Large")
        return self._take([json.loads(line) for line in lines])

    def _take(self, events: list[dict[str, Any]]) -> Reply:
        failed = [record for index, event in enumerate(events) if (record := self._failure(index, event))]
        bad = {record["index"] for record in failed}
        for index, event in enumerate(events):
            if index not in bad:
                self.by_id.setdefault(event["properties"]["$insert_id"], event)
        told: dict[str, Any] = {"code": 200, "num_records_imported": len(events) - len(failed), "status": "OK"}
        if failed:
            told |= {"code": 400, "error": "some data points in the request failed validation", "status": "Bad Request"}
            return as_json(400, **told, failed_records=failed)
        return as_json(200, **told)

    def _failure(self, index: int, event: dict[str, Any]) -> dict[str, Any] | None:
        properties = event.get("properties", {})
        wrong = None
        if not event.get("event"):
            wrong = ("event", "'event' must not be empty")
        elif not isinstance(properties.get("time"), int):
            wrong = ("properties.time", "'properties.time' is invalid: must be specified as seconds since epoch")
        elif properties.get("distinct_id") in ("anon", "null", "none"):
            wrong = ("properties.distinct_id", "'properties.distinct_id' is not allowed")
        elif not 0 < len(properties.get("$insert_id", "")) <= 36:
            wrong = ("properties.$insert_id", "'properties.$insert_id' is invalid: must not be missing")
        elif len(properties) > 255:
            wrong = ("properties", "'properties' has more than 255 keys")
        if wrong is None:
            return None
        return {"index": index, "insert_id": properties.get("$insert_id"), "field": wrong[0], "message": wrong[1]}


class AmplitudeServer(Deduplicating):
    """POST /batch: all of a request or nothing; names what is wrong."""

    def answer(self, request: Request) -> Reply:
        if request.path != "/batch":
            return as_json(404)
        body = body_of(request)
        if len(body) > 20_000_000:
            return as_json(413, code=413, error="Payload too large")
        told = json.loads(body)
        if told.get("api_key") != self.key:
            return as_json(400, code=400, error=f"Invalid API key: {told.get('api_key')}")
        if not told["events"]:
            return as_json(400, code=400, error="Request missing required field", missing_field="events")
        shortest = told.get("options", {}).get("min_id_length", 5)
        invalid: dict[str, list[int]] = {}
        missing: dict[str, list[int]] = {}
        for index, event in enumerate(told["events"]):
            ids = [one for one in (event.get("user_id"), event.get("device_id")) if one and len(one) >= shortest]
            if not event.get("event_type"):
                missing.setdefault("event_type", []).append(index)
            elif not isinstance(event.get("time"), int):
                invalid.setdefault("time", []).append(index)
            elif not ids:
                self.dropped.append(event)
        if invalid or missing:
            return as_json(
                400,
                code=400,
                error="Invalid field values on some events",
                events_with_invalid_fields=invalid,
                events_with_missing_fields=missing,
            )
        for event in told["events"]:
            self.by_id.setdefault(event["insert_id"] + str(event.get("device_id")), event)
        return as_json(200, code=200, events_ingested=len(told["events"]), payload_size_bytes=len(body))


class PosthogServer(Deduplicating):
    """POST /batch/: answers 200 and drops what has no name or no distinct_id."""

    def answer(self, request: Request) -> Reply:
        if request.path != "/batch/":
            return as_json(404)
        body = body_of(request)
        if len(body) > 20_000_000:
            return as_json(413)
        try:
            told = json.loads(body)
        except ValueError:
            return Reply(400, b"Malformed request data")
        if told.get("api_key") != self.key:
            return as_json(401, type="authentication_error", code="invalid_api_key", detail="Project API key invalid.")
        if any("choke" in event.get("properties", {}) for event in told["batch"]):
            return Reply(400, b"Invalid payload")
        for event in told["batch"]:
            if event.get("event") and event.get("distinct_id"):
                self.by_id[event["uuid"]] = event
            else:
                self.dropped.append(event)
        return as_json(200, status=1)
