"""Send every event to PostHog (POST /batch/, https://posthog.com/docs/api/capture)."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

from pydantic import Field

from export_pipeline.errors import Blocked, Refused
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import Answer, accept_saying
from export_pipeline.subscribers.mapped import MappedSubscriber
from export_pipeline.subscribers.mapping import to_json
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.parsing import Unfit

NOT_EVENTS = frozenset({"recordings", "feature_flags"})


class Posthog(MappedSubscriber):
    """Captures each event in PostHog. ``uuid`` is derived from the event's bytes, so a repeat replaces the event.

    An event without a name or ``distinct_id`` goes to the quarantine: PostHog would answer 200 and drop it.
    """

    api_key: str = Field(description="API key of the project (phc_…).", json_schema_extra=SECRET)
    region: str = Field(default="us", description="Where the project is hosted: us or eu; otherwise set api_url.")
    historical_migration: bool = Field(
        default=False, description="Mark the events as historical; PostHog keeps those out of its live processing."
    )
    max_request_bytes: int = Field(
        default=10_000_000, ge=1, le=20_000_000, description="Maximum request size in bytes, before compression."
    )
    hosts: ClassVar[Mapping[str, str]] = {"us": "https://us.i.posthog.com", "eu": "https://eu.i.posthog.com"}
    path: ClassVar[str] = "/batch/"
    overhead_bytes: ClassVar[int] = 300
    default_mapping: ClassVar[Mapping[str, Any]] = {
        "event": {"$string": "event_type"},
        "distinct_id": {"$first_id": ["endpoint.User.UserId", "endpoint.Id"]},
        "timestamp": {"$iso": "event_timestamp"},
        "uuid": {"$uuid": "event"},
        "properties": {
            "$merge": [
                "attributes",
                "metrics",
                {
                    "$current_url": "attributes.url",
                    "$referrer": {"$first": ["attributes.referer", "attributes.referrer"]},
                    "title": "attributes.title",
                    "session_id": "session.session_id",
                    "$device_id": {"$first_id": ["endpoint.Id"]},
                    "$os": "endpoint.Demographic.Platform",
                    "$os_version": "endpoint.Demographic.PlatformVersion",
                    "$app_version": "endpoint.Demographic.AppVersion",
                    "$geoip_country_code": "endpoint.Location.Country",
                    "$geoip_city_name": "endpoint.Location.City",
                    "utm_source": "attributes.qv_utm_source",
                    "utm_medium": "attributes.qv_utm_medium",
                    "utm_campaign": "attributes.qv_utm_campaign",
                    "utm_term": "attributes.qv_utm_term",
                    "utm_content": "attributes.qv_utm_content",
                    "$lib": {"$value": "export-pipeline"},
                    # Otherwise PostHog would locate every user at the exporter's address.
                    "$geoip_disable": {"$value": True},
                    "$set": {
                        "$merge": ["endpoint.Attributes", "endpoint.User.UserAttributes", "endpoint.Metrics"],
                    },
                },
            ]
        },
    }

    def look_at(self, call: Mapping[str, Any]) -> None:
        """Refuse events that PostHog would drop."""
        for needed in ("event", "distinct_id"):
            if not str(call.get(needed) or "").strip():
                raise Unfit(f"no {needed}: PostHog drops an event without it")

    def post(self, request: Packed) -> None:
        """Send one request.

        Raises:
            Blocked: also if the project is over its quota: PostHog then answers 200 and drops the events.
        """
        answer = _accept(self._send(b",".join(request.items)))
        if limited := _over_quota(answer):
            raise Blocked(
                f"{answer.url}: the project is over its quota of {', '.join(limited)}, and PostHog drops all events: "
                "raise the limit, or wait for the next billing period",
                status=answer.status,
                answer=answer.said(),
            )

    def check(self) -> None:
        """Capture no events: PostHog may refuse the request, but must be reachable and accept the key."""
        with suppress(Refused):
            _accept(self._send(b""))

    def _send(self, events: bytes) -> Answer:
        rest = to_json({"api_key": self.api_key, "historical_migration": self.historical_migration})
        return self.send_body(self.endpoint, b'{"batch":[' + events + b"]," + rest[1:])


def _accept(answer: Answer) -> Answer:
    """PostHog confirms by a status, which versions spell in two ways."""
    return accept_saying(answer, '"status": 1 or "Ok"', lambda told: str(told.get("status")).lower() in ("1", "ok"))


def _over_quota(answer: Answer) -> list[str]:
    """What an *answer* says there is no quota for, except recordings and feature flags, which are not events."""
    limited = answer.fields().get("quota_limited")
    return [str(one) for one in limited if one not in NOT_EVENTS] if isinstance(limited, list) else []
