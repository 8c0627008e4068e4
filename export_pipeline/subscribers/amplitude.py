"""Send every event to Amplitude (POST /batch, https://amplitude.com/docs/apis/analytics/batch-event-upload)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import Answer, accept_saying, retry_after_seconds
from export_pipeline.subscribers.mapped import MappedSubscriber
from export_pipeline.subscribers.mapping import to_json
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.parsing import Unfit

PAUSE_SECONDS = 30.0
"""The pause that Amplitude requests after a 429."""
NAMED = ("events_with_invalid_fields", "events_with_missing_fields", "events_with_invalid_id_lengths")


class Amplitude(MappedSubscriber):
    """Uploads each event to Amplitude. Amplitude rejects a request that contains an invalid event, and names the event.

    ``insert_id`` is derived from the event's bytes; Amplitude ignores repeats within 7 days. An event without a
    ``user_id`` or ``device_id`` of at least ``min_id_characters`` goes to the quarantine: Amplitude might accept the
    request and drop the event.
    """

    api_key: str = Field(description="API key of the project.", json_schema_extra=SECRET)
    region: str = Field(default="us", description="Where the project is hosted: us or eu.")
    min_id_characters: int = Field(
        default=5, ge=1, description="Shortest valid user_id and device_id; a shorter one is left out of the event."
    )
    retry_for_seconds: float = Field(
        default=120.0,
        ge=0,
        description="How long one call is retried within a run before its batch is left to the next run, in seconds; "
        "Amplitude requests pauses of 30 seconds.",
    )
    max_request_events: int = Field(default=2_000, ge=1, description="Maximum number of events per request.")
    max_request_bytes: int = Field(
        default=10_000_000, ge=1, le=20_000_000, description="Maximum request size in bytes, before compression."
    )
    hosts: ClassVar[Mapping[str, str]] = {"us": "https://api2.amplitude.com", "eu": "https://api.eu.amplitude.com"}
    path: ClassVar[str] = "/batch"
    overhead_bytes: ClassVar[int] = 200
    default_mapping: ClassVar[Mapping[str, Any]] = {
        "user_id": {"$first_id": ["endpoint.User.UserId"]},
        "device_id": {"$first_id": ["endpoint.Id"]},
        "event_type": {"$string": "event_type"},
        "time": {"$milliseconds": "event_timestamp"},
        "insert_id": {"$id": 40},
        "event_properties": {"$merge": ["attributes", "metrics"]},
        "user_properties": {"$merge": ["endpoint.Attributes", "endpoint.User.UserAttributes", "endpoint.Metrics"]},
        "session_id": {"$milliseconds": "session.start_timestamp"},
        "app_version": "endpoint.Demographic.AppVersion",
        "platform": "endpoint.Demographic.Platform",
        "os_name": "endpoint.Demographic.Platform",
        "os_version": "endpoint.Demographic.PlatformVersion",
        "device_manufacturer": "endpoint.Demographic.Make",
        "device_model": "endpoint.Demographic.Model",
        "language": "endpoint.Demographic.Locale",
        "country": "endpoint.Location.Country",
        "city": "endpoint.Location.City",
    }

    def look_at(self, call: Mapping[str, Any]) -> None:
        """Refuse an event without a valid id: Amplitude drops ids that are too short, and events without an id."""
        for name in ("user_id", "device_id"):
            found = call.get(name)
            if isinstance(found, str) and len(found) >= self.min_id_characters:
                return
        raise Unfit(f"neither user_id nor device_id has at least {self.min_id_characters} characters")

    def post(self, request: Packed) -> None:
        """Send one request; Amplitude accepts all of it or nothing."""
        items = request.items
        answer = self._send(b",".join(items))
        if answer.status == 400:
            raise _refusal(answer)
        if answer.status == 429:
            asked = retry_after_seconds(answer.headers.get("retry-after"))
            raise TryLater(
                answer.told(),
                retry_after_seconds=PAUSE_SECONDS if asked is None else asked,
                status=answer.status,
                answer=answer.said(),
            )
        _accept(answer, len(items))

    def check(self) -> None:
        """Upload no events: Amplitude reports a wrong key before it reports that events are missing."""
        answer = self._send(b"")
        if answer.status == 400:
            told = _refusal(answer)
            if isinstance(told, Blocked):
                raise told
            return
        _accept(answer, 0)

    def _send(self, events: bytes) -> Answer:
        rest = to_json({"api_key": self.api_key, "options": {"min_id_length": self.min_id_characters}})
        return self.send_body(self.endpoint, b'{"events":[' + events + b"]," + rest[1:])


def _accept(answer: Answer, events: int) -> None:
    """Amplitude confirms how many events it took."""

    def is_said(told: Mapping[str, Any]) -> bool:
        ingested = told.get("events_ingested", events)
        return told.get("code") == 200 and isinstance(ingested, int) and ingested >= events

    accept_saying(answer, f'"code": 200 and "events_ingested": {events}', is_said)


def _refusal(answer: Answer) -> Refused | Blocked:
    """What a 400 means: the key is wrong, or the named events are, or unnamed events are."""
    told = answer.fields()
    if told.get("missing_field") == "api_key" or "api key" in str(told.get("error", "")).lower():
        return Blocked(answer.told(), status=answer.status, answer=answer.said())
    named: dict[int, str] = {}
    for kind in NAMED:
        fields = told.get(kind)
        for name, indices in fields.items() if isinstance(fields, dict) else ():
            for index in _numbers(indices):
                named.setdefault(index, f"{kind.removeprefix('events_with_').replace('_', ' ')}: {name}")
    for index in _numbers(told.get("silenced_events")):
        named.setdefault(index, "its device is silenced in Amplitude")
    return Refused(answer.told(), events=named, status=answer.status, answer=answer.said())


def _numbers(found: Any) -> list[int]:
    return [one for one in found if isinstance(one, int)] if isinstance(found, list) else []
