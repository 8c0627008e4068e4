"""Send every event to PostHog (POST /batch/, https://posthog.com/docs/api/capture)."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

from pydantic import Field

from export_pipeline.errors import Blocked, Refused
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import Answer, accept
from export_pipeline.subscribers.mapped import MappedSubscriber
from export_pipeline.subscribers.mapping import to_json
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.parsing import Unfit

NOT_EVENTS = frozenset({"recordings", "feature_flags"})


class Posthog(MappedSubscriber):
    """Captures each event in PostHog. ``uuid`` is made of the event's bytes, so a repeat replaces what is there.

    An event without name or ``distinct_id`` goes to the quarantine: PostHog would answer 200 and drop it.
    """

    api_key: str = Field(description="API key of the project (phc_…).", json_schema_extra=SECRET)
    region: str = Field(default="us", description="Where the project is hosted: us or eu; else give api_url.")
    historical_migration: bool = Field(
        default=False, description="Say that these are old events, which PostHog then keeps out of its live path."
    )
    max_request_bytes: int = Field(
        default=10_000_000, ge=1, le=20_000_000, description="Largest request, before compression."
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
                    # Else every person gets the place of whoever sends: the exporter's.
                    "$geoip_disable": {"$value": True},
                    "$set": {
                        "$merge": ["endpoint.Attributes", "endpoint.User.UserAttributes", "endpoint.Metrics"],
                    },
                },
            ]
        },
    }

    def look_at(self, call: Mapping[str, Any]) -> None:
        """Refuse what PostHog drops."""
        for needed in ("event", "distinct_id"):
            if not str(call.get(needed) or "").strip():
                raise Unfit(f"no {needed}: PostHog drops an event without")

    def post(self, request: Packed) -> None:
        """One request.

        Raises:
            Blocked: also where the project is over its quota: PostHog answers 200 then, and drops the events.
        """
        answer = accept(self._send(b",".join(request.items)))
        if limited := _over_quota(answer):
            raise Blocked(
                f"{answer.url}: the project is over its quota of {', '.join(limited)}, and PostHog drops what comes: "
                "raise the limit, or wait for the next period",
                status=answer.status,
                answer=answer.said(),
            )

    def check(self) -> None:
        """Capture nothing: PostHog need not like it, but it has to be there and to take the key."""
        with suppress(Refused):
            accept(self._send(b""))

    def _send(self, events: bytes) -> Answer:
        rest = to_json({"api_key": self.api_key, "historical_migration": self.historical_migration})
        return self.send_body(self.endpoint, b'{"batch":[' + events + b"]," + rest[1:])


def _over_quota(answer: Answer) -> list[str]:
    """What of the events an *answer* says there is no quota for; recordings and flags are none of ours."""
    try:
        told: Any = json.loads(answer.body)
    except ValueError:
        return []
    limited = told.get("quota_limited") if isinstance(told, dict) else None
    return [str(one) for one in limited if one not in NOT_EVENTS] if isinstance(limited, list) else []
