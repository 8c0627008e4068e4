"""Send every event to Segment as identify, group, page and track calls (POST /v1/batch)."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.errors import Blocked, ConfigurationError
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.decoding import UNUSUAL, encode
from export_pipeline.subscribers.http_client import Answer, accept_saying
from export_pipeline.subscribers.importing import is_object_path, load_object
from export_pipeline.subscribers.mapping import Event, Reader, compile_mapping, extended, to_json
from export_pipeline.subscribers.mapping_compiler import Projection, as_function, projection_of
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.parsing import Unfit
from export_pipeline.subscribers.php_json import php_print
from export_pipeline.subscribers.requests import HttpRequestSubscriber

HOSTS = {"us": "https://api.segment.io", "eu": "https://events.eu1.segmentapis.com"}
PATH = "/v1/batch"

_TRAITS = {"$merge": ["endpoint.Attributes", "endpoint.User.UserAttributes", "endpoint.Metrics"]}
_COMMON = {
    "anonymousId": {"$first_id": ["endpoint.Id"]},
    "userId": {"$first_id": ["endpoint.User.UserId"]},
    "timestamp": {"$time": "event_timestamp"},
    "receivedAt": {"$time": "arrival_timestamp"},
}
_PAGE = {
    "search": "attributes.search",
    "title": "attributes.title",
    "url": "attributes.url",
    "referrer": {"$first": ["attributes.referer", "attributes.referrer"]},
}
_CONTEXT = {
    "active": "endpoint.EndpointStatus",
    "app": {"version": "endpoint.Demographic.AppVersion"},
    "campaign": {part: f"attributes.qv_utm_{part}" for part in ("source", "medium", "term", "content")}
    | {"name": "attributes.qv_utm_campaign"},
    "device": {
        "manufacturer": "endpoint.Attributes.DeviceMake.0",
        "model": "endpoint.Attributes.DeviceModel.0",
        "type": "endpoint.Attributes.DeviceType.0",
    },
    "locale": "endpoint.Demographic.Locale",
    "timezone": "endpoint.Demographic.Timezone",
    "location": {
        "country": "endpoint.Location.Country",
        "city": "endpoint.Location.City",
        "latitude": "endpoint.Location.Latitude",
        "longitude": "endpoint.Location.Longitude",
    },
    "os": {"name": "endpoint.Demographic.Platform", "version": "endpoint.Demographic.PlatformVersion"},
    "page": _PAGE,
    "traits": _TRAITS,
}
MAPPING: dict[str, dict[str, Any]] = {
    "identify": {**_COMMON, "traits": _TRAITS},
    "group": _COMMON,
    "page": {**_COMMON, "name": "attributes.title", "properties": _PAGE, "context": _CONTEXT},
    "track": {
        **_COMMON,
        "event": {"$string": "event_type"},
        "properties": {"$merge": ["attributes", "metrics"]},
        "context": _CONTEXT,
    },
}
"""The default mapping of each call, in the language of :mod:`export_pipeline.subscribers.mapping`."""

Call = dict[str, Any]
Transform = Callable[[list[Call], dict[str, Any]], list[Call]]


class Segment(HttpRequestSubscriber):
    """Sends each event to Segment as ``identify``, one ``group`` for each configured group, then ``page`` or ``track``.

    ``messageId`` is derived from the event's bytes, so Segment ignores repeats (it remembers ids for about a day). A
    call without userId and anonymousId, a track call without an event name, and a call of more than 32 KB go to the
    quarantine: Segment would answer 200 and drop them.
    """

    write_key: str = Field(description="Write key of the source in Segment.", json_schema_extra=SECRET)
    region: Literal["us", "eu"] = Field(default="us", description="Region of the Segment workspace.")
    api_url: str | None = Field(
        default=None,
        description=f"Address to use instead of the region's ({HOSTS['us']} or {HOSTS['eu']}), such as a proxy; {PATH} "
        "is appended if it is missing.",
    )
    page_event_types: list[str] = Field(
        default=["pageView"], description="Values of event_type sent as page calls; all others are sent as track calls."
    )
    mapping: dict[str, Any] = Field(
        default_factory=dict,
        description="Changes to the default mapping of identify, group, page and track calls: members given here "
        "replace those of the default, null removes one.",
        examples=[{"track": {"event": "attributes.name", "context": {"timezone": None}}}],
    )
    groups: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Group calls to send: groupId is a path, traits are names and paths. No call is sent for an event "
        "without a groupId.",
        examples=[[{"groupId": "attributes.blogId", "traits": {"name": "attributes.blog"}}]],
    )
    transform: str | None = Field(
        default=None,
        description='Your own function, "package.module:name", called as function(calls, event) with the calls for '
        "an event; returns those to send, none to filter the event out, or raises "
        "export_pipeline.subscribers.parsing:Unfit to quarantine it.",
    )
    legacy_message_ids: bool = Field(
        default=False,
        description="Use the message ids of Altis's own Segment integration, an MD5 of the event as PHP prints it: one "
        "for all calls of an event, none for group. For a transition in which both send; it costs much throughput.",
    )
    max_request_events: int = Field(default=2_500, ge=1, le=2_500, description="Maximum number of calls per request.")
    max_request_bytes: int = Field(
        default=500_000, ge=1, le=512_000, description="Maximum request size in bytes, before compression."
    )
    max_event_bytes: int = Field(
        default=32_768,
        ge=1,
        le=32_768,
        description="Maximum call size in bytes; an event with a larger call goes to the quarantine.",
    )
    default_mapping: ClassVar[Mapping[str, Any]] = MAPPING
    overhead_bytes: ClassVar[int] = len(b'{"batch":[]}')
    _plan: "_Plan | None" = PrivateAttr(default=None)

    @field_validator("mapping")
    @classmethod
    def _check_mapping(cls, value: dict[str, Any]) -> dict[str, Any]:
        for call, given in value.items():
            if call not in MAPPING or not isinstance(given, Mapping):
                raise ValueError(f"{call}: allowed are {', '.join(MAPPING)}, each an object")
            compile_mapping(extended(MAPPING[call], given), call)
        return value

    @field_validator("groups")
    @classmethod
    def _check_groups(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, group in enumerate(value):
            if "groupId" not in group:
                raise ValueError(f"{number}: groupId is missing")
            compile_mapping(group, str(number))
        return value

    @field_validator("transform")
    @classmethod
    def _check_transform(cls, value: str | None) -> str | None:
        if value is not None and not is_object_path(value):
            raise ValueError(f"{value!r} is not of the form package.module:name")
        return value

    def encode(self, event: bytes) -> list[bytes]:
        """The calls for one event, as JSON."""
        return self.encoder()(event)

    def encoder(self) -> Callable[[bytes], list[bytes]]:
        """:meth:`encode`, without reading the options for each event."""
        usual = self._prepare().usual

        def exactly(event: bytes) -> list[bytes]:
            return [to_json(call) for call in self.calls(event)]

        def made(event: bytes) -> list[bytes]:
            assert usual is not None  # noqa: S101 (it is looked at below)
            try:
                return list(map(encode, usual(event)))
            except UNUSUAL:
                return exactly(event)

        return exactly if usual is None else made

    def calls(self, line: bytes) -> list[Call]:
        """The calls for one event.

        Raises:
            Unfit: Segment would drop one of them silently.
        """
        event = Event(line)
        plan = self._prepare()
        calls = list(self._made(event, plan))
        if plan.transform is not None:
            calls = self._transformed(plan.transform, calls, event)
        for call in calls:
            _look_at(call)
        return calls

    def _transformed(self, transform: Transform, calls: list[Call], event: Event) -> list[Call]:
        try:
            answer: object = transform(calls, event.fields)
        except Unfit:
            raise
        except Exception as error:
            # The event is not the cause: it must neither be lost nor retried endlessly.
            raise Blocked(f"{self.transform} raised {type(error).__name__}: {error}") from error
        if not isinstance(answer, list) or not all(isinstance(call, dict) for call in answer):
            raise Blocked(f"{self.transform} returned a {type(answer).__name__}; allowed is a list of calls")
        return answer

    def _made(self, event: Event, plan: "_Plan") -> Iterator[Call]:
        """The calls according to the mapping, in the order of Altis's own integration."""
        print_of_event = self._print(event.line, event.fields)
        yield self._named("identify", plan.calls["identify"](event), print_of_event)
        for number, group in enumerate(plan.groups, start=1):
            call = self._named("group", plan.calls["group"](event), print_of_event, number) | group(event)
            if call.get("groupId"):
                yield call
        kind = "page" if event.fields.get("event_type") in self.page_event_types else "track"
        yield self._named(kind, plan.calls[kind](event), print_of_event)

    def _print(self, line: bytes, event: dict[str, Any]) -> str:
        """32 hexadecimal characters that identify an event."""
        if self.legacy_message_ids:
            return hashlib.md5(php_print(event), usedforsecurity=False).hexdigest()
        return hashlib.sha256(line).hexdigest()[:32]

    def _named(self, kind: str, call: Call, print_of_event: str, number: int = 0) -> Call:
        """*call* with its id, the *number*-th of its kind."""
        if not self.legacy_message_ids:
            call["messageId"] = f"{print_of_event}-{kind}-{number}" if number else f"{print_of_event}-{kind}"
        elif kind != "group":
            call["messageId"] = print_of_event
        return call

    def post(self, request: Packed) -> None:
        """Send one request. Segment answers 200 even if single calls are invalid, and 400 if it can parse nothing."""
        answer = self._send(b'{"batch":[' + b",".join(request.items) + b"]}")
        accept_saying(answer, '"success": true', lambda told: told.get("success") is True)

    def check(self) -> None:
        """Connect, and load the transform; the key cannot be tested, because Segment answers 200 to any key."""
        self._prepare()
        url = self.api_url or HOSTS[self.region]
        self._http.connect(url, timeout_seconds=self.timeout_seconds, connections=self.connections)

    def _send(self, body: bytes) -> Answer:
        url = (self.api_url or HOSTS[self.region]).rstrip("/")
        return self.send_body(url if url.endswith(PATH) else url + PATH, body, auth=(self.write_key, ""))

    def _prepare(self) -> "_Plan":
        if self._plan is None:
            calls = {
                kind: {"type": {"$value": kind}, **extended(default, self.mapping.get(kind, {}))}
                for kind, default in MAPPING.items()
            }
            self._plan = _Plan(
                usual=None if self.transform else self._usual(calls),
                calls={kind: compile_mapping(spec, kind) for kind, spec in calls.items()},
                groups=[compile_mapping(group) for group in self.groups],
                transform=_load(self.transform) if self.transform else None,
            )
        return self._plan

    def _usual(self, calls: Mapping[str, Mapping[str, Any]]) -> Callable[[bytes], list[Call]] | None:
        """A function that does the same as :meth:`calls`, for an event with nothing unusual in it."""
        groups = [calls["group"], *self.groups] if self.groups else []
        specs = {kind: [calls["identify"], calls[kind], *groups] for kind in ("page", "track")}
        read = [*calls.values(), *groups, "event_type"]
        # The ids are hashes of the whole event.
        shape = Projection(read, whole=True) if self.legacy_message_ids else projection_of(read)
        page, track = (as_function(spec, shape) for spec in specs.values())
        if page is None or track is None:
            return None
        page_types, type_of, read_event = self.page_event_types, shape.getter("event_type"), shape.decode
        print_of, named = self._print, self._named

        def made(line: bytes) -> list[Call]:
            event = read_event(line)
            is_page = type_of(event) in page_types
            identify, last, *of_groups = (page if is_page else track)(event, line)
            print_of_event = print_of(line, event)
            found = [named("identify", identify, print_of_event)]
            for number, group in enumerate(of_groups[1:], start=1):
                # The group's own members may overwrite the id.
                call = named("group", {**of_groups[0]}, print_of_event, number) | group
                if call.get("groupId"):
                    found.append(call)
            found.append(named("page" if is_page else "track", last, print_of_event))
            for call in found:
                _look_at(call)
            return found

        return made


@dataclass(frozen=True, slots=True)
class _Plan:
    """The compiled mappings of the calls.

    Attributes:
        usual: builds the calls for a usual event; None: the other attributes are used.
    """

    usual: Callable[[bytes], list[Call]] | None
    calls: Mapping[str, Reader]
    groups: Sequence[Reader]
    transform: Transform | None


def _look_at(call: Call) -> None:
    if not call.get("userId") and not call.get("anonymousId"):
        raise Unfit("neither userId nor anonymousId: Segment drops a call without one")
    if call.get("type") == "track" and not str(call.get("event") or "").strip():
        raise Unfit("no event name: Segment drops a track call without one")


def _load(path: str) -> Transform:
    try:
        found: Any = load_object(path)
    except ConfigurationError as error:
        raise Blocked(str(error)) from error
    if not callable(found):
        raise Blocked(f"{path} is a {type(found).__name__}, not a function")
    transform: Transform = found
    return transform
