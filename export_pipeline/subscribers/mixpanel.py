"""Send every event to Mixpanel (POST /import, https://docs.mixpanel.com/reference/import-events)."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

from pydantic import Field, model_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.errors import Refused
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import Answer, accept_saying
from export_pipeline.subscribers.mapped import MappedSubscriber
from export_pipeline.subscribers.packing import Packed


class Mixpanel(MappedSubscriber):
    """Imports each event into Mixpanel. Mixpanel validates each, names those it refuses, and accepts the others.

    ``$insert_id`` is derived from the event's bytes, so repeats are deduplicated. An event without user and device has
    an empty ``distinct_id``, as Mixpanel requires.
    """

    token: str | None = Field(
        default=None,
        description="Token of the project. Required without a service account.",
        json_schema_extra=SECRET,
    )
    service_account: str | None = Field(default=None, description="User name of a service account.")
    service_account_secret: str | None = Field(
        default=None, description="Secret of that service account.", json_schema_extra=SECRET
    )
    project_id: str | None = Field(default=None, description="Id of the project; required with a service account.")
    region: str = Field(default="us", description="Where the project is hosted: us, eu or in.")
    max_request_events: int = Field(default=2_000, ge=1, le=2_000, description="Maximum number of events per request.")
    max_request_bytes: int = Field(
        default=10_000_000, ge=1, le=10_485_760, description="Maximum request size in bytes, before compression."
    )
    hosts: ClassVar[Mapping[str, str]] = {
        "us": "https://api.mixpanel.com",
        "eu": "https://api-eu.mixpanel.com",
        "in": "https://api-in.mixpanel.com",
    }
    path: ClassVar[str] = "/import?strict=1"
    default_mapping: ClassVar[Mapping[str, Any]] = {
        "event": {"$string": "event_type"},
        "properties": {
            "$merge": [
                "attributes",
                "metrics",
                {
                    "time": {"$milliseconds": "event_timestamp"},
                    "distinct_id": {
                        "$first": [{"$first_id": ["endpoint.User.UserId", "endpoint.Id"]}, {"$value": ""}],
                    },
                    "$insert_id": {"$id": 36},
                    "$device_id": {"$first_id": ["endpoint.Id"]},
                    "$user_id": {"$first_id": ["endpoint.User.UserId"]},
                    "$current_url": "attributes.url",
                    "$os": "endpoint.Demographic.Platform",
                    "$os_version": "endpoint.Demographic.PlatformVersion",
                    "$app_version_string": "endpoint.Demographic.AppVersion",
                    "$city": "endpoint.Location.City",
                    "mp_country_code": "endpoint.Location.Country",
                    "utm_source": "attributes.qv_utm_source",
                    "utm_medium": "attributes.qv_utm_medium",
                    "utm_campaign": "attributes.qv_utm_campaign",
                    "utm_term": "attributes.qv_utm_term",
                    "utm_content": "attributes.qv_utm_content",
                },
            ]
        },
    }

    @model_validator(mode="after")
    def _check_credentials(self) -> "Mixpanel":
        if self.service_account is None and self.token is None:
            raise ValueError("token is missing, or service_account, service_account_secret and project_id")
        if self.service_account is not None and (self.service_account_secret is None or self.project_id is None):
            raise ValueError("a service_account needs service_account_secret and project_id")
        return self

    def look_at(self, call: Mapping[str, Any]) -> None:
        """Do nothing: Mixpanel names what it refuses."""

    def post(self, request: Packed) -> Receipt | None:
        """Send one request; a 400 that names events is a partial success."""
        items = request.items
        answer = self._send(b"\n".join(items))
        refused = _failed(answer)
        if refused:
            return Receipt(refused=refused)
        _accept(answer, len(items))
        return None

    def check(self) -> None:
        """Import no events: Mixpanel checks the credentials first."""
        with suppress(Refused):
            _accept(self._send(b""), 0)

    def _send(self, body: bytes) -> Answer:
        url = self.endpoint
        if self.project_id is not None:
            url += f"&project_id={self.project_id}"
        user = self.service_account or self.token or ""
        auth = (user, self.service_account_secret or "")
        return self.send_body(url, body, content_type="application/x-ndjson", auth=auth)


def _accept(answer: Answer, events: int) -> None:
    """Mixpanel confirms how many events it imported."""

    def is_said(told: Mapping[str, Any]) -> bool:
        imported = told.get("num_records_imported", events)
        return (
            (told.get("code") == 200 or told.get("status") == "OK") and isinstance(imported, int) and imported >= events
        )

    accept_saying(answer, f'"code": 200 and "num_records_imported": {events}', is_said)


def _failed(answer: Answer) -> dict[int, str]:
    """Number in the request → reason, for the events that a 400 names."""
    if answer.status != 400:
        return {}
    records = answer.fields().get("failed_records")
    named = [record for record in records or [] if isinstance(record, dict) and isinstance(record.get("index"), int)]
    return {record["index"]: f"{record.get('field')}: {record.get('message')}" for record in named}
