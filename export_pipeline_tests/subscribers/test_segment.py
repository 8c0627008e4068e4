"""The segment subscriber: the calls it makes, and how they reach Segment."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.parsing import Unfit
from export_pipeline.subscribers.segment import Segment
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.http import Reply
from export_pipeline_tests.servers.segment import SegmentServer
from export_pipeline_tests.subscribers.http_contract import HttpContract

KEY = "wr1te-key-of-the-source"
HERE = __name__


def line(**event: Any) -> bytes:
    return json.dumps(event).encode()


@pytest.fixture
def server() -> Iterator[SegmentServer]:
    with SegmentServer(KEY) as server:
        yield server


@pytest.fixture
def segment(server: SegmentServer) -> Iterator[Segment]:
    segment = Segment(write_key=KEY, api_url=server.url, groups=[{"groupId": "attributes.blogId"}])
    yield segment
    segment.close()


class TestContract(HttpContract):
    """Against Segment's API over HTTP."""

    gzip = True

    @pytest.fixture
    def subscriber(self, server: SegmentServer) -> Iterator[Subscriber]:
        self.server = server
        self.segment = self.make()
        yield self.segment
        self.segment.close()
        assert server.dropped == []

    def make(self, *, url: str | None = None, key: str | None = None, timeout_seconds: float = 60) -> Segment:
        groups = [{"groupId": "attributes.blogId", "traits": {"url": "attributes.url"}}]
        options: Any = {"groups": groups, "gzip": self.gzip, "timeout_seconds": timeout_seconds}
        return Segment(write_key=key or KEY, api_url=url or self.server.url, **options)

    def held(self) -> Iterable[object]:
        assert isinstance(self.server, SegmentServer)
        return self.server.calls

    def expected(self, events: Sequence[bytes]) -> Iterable[object]:
        return [call for event in events for call in self.segment.calls(event)]

    def awkward_events(self) -> list[bytes]:
        return [
            line(endpoint={"Id": "1"}, event_type="x"),
            sample_event(3, extra="ﬀ 🦔 \u2028 <b>&amp;"),
            line(endpoint={"Id": "1"}, event_type="ключ", attributes={"big": 10**30, "float": 1.5, "text": "日本"}),
            sample_event(5, metrics={"text": "x" * 30_000}, event_type="click"),
        ]

    def bad_event(self) -> bytes:
        return line(endpoint={"Id": "1"}, event_type="make Segment choke")


class TestContractWithoutGzip(TestContract):
    """Bodies as they are."""

    gzip = False


EVENT: dict[str, Any] = {
    "event_type": "pageView",
    "event_timestamp": 1795392000999,
    "arrival_timestamp": 1795392003000,
    "attributes": {
        "title": "Home",
        "url": "https://example.com/",
        "search": "?q=1",
        "hash": "",
        "referer": "https://example.org/",
        "referrer": "https://wrong.example/",
        "qv_utm_campaign": "spring",
        "qv_utm_source": "mail",
        "qv_utm_medium": "m",
        "qv_utm_term": "t",
        "qv_utm_content": "c",
        "blogId": "7",
        "blog": "https://blog.example/",
    },
    "metrics": {"elapsed": 12.0, "scrollDepthMax": 3.5},
    "endpoint": {
        "Id": "anon-1",
        "EndpointStatus": "ACTIVE",
        "Attributes": {"DeviceMake": ["Apple"], "DeviceModel": ["iPhone"], "DeviceType": ["mobile", "x"], "none": []},
        "Metrics": {"sessions": 2.0, "pageViews": 4},
        "Demographic": {
            "AppVersion": "1.2",
            "Locale": "de-DE",
            "Timezone": "Europe/Berlin",
            "Platform": "iOS",
            "PlatformVersion": "18",
        },
        "Location": {"Country": "DE", "City": "Köln", "Latitude": 50.9, "Longitude": 6.9},
        "User": {"UserId": "user-1", "UserAttributes": {"plan": ["gold", "old"], "sessions": ["over"]}},
    },
}
TRAITS = {
    "DeviceMake": "Apple",
    "DeviceModel": "iPhone",
    "DeviceType": "mobile",
    "plan": "gold",
    "sessions": 2.0,
    "pageViews": 4,
}
COMMON = {
    "anonymousId": "anon-1",
    "userId": "user-1",
    "timestamp": "2026-11-23T00:00:00+00:00",
    "receivedAt": "2026-11-23T00:00:03+00:00",
}
PAGE = {"search": "?q=1", "title": "Home", "url": "https://example.com/", "referrer": "https://example.org/"}
CONTEXT = {
    "active": "ACTIVE",
    "app": {"version": "1.2"},
    "campaign": {"name": "spring", "source": "mail", "medium": "m", "term": "t", "content": "c"},
    "device": {"manufacturer": "Apple", "model": "iPhone", "type": "mobile"},
    "locale": "de-DE",
    "timezone": "Europe/Berlin",
    "location": {"country": "DE", "city": "Köln", "latitude": 50.9, "longitude": 6.9},
    "os": {"name": "iOS", "version": "18"},
    "page": PAGE,
    "traits": TRAITS,
}


def md5_of(event: Mapping[str, Any]) -> str:
    """The event as PHP prints it, spelled out for this event: ``[]`` and integers, escaped slashes and umlauts."""
    text = json.dumps(event, separators=(",", ":")).replace("/", "\\/")
    text = text.replace(":12.0,", ":12,").replace(":2.0,", ":2,")
    return hashlib.md5(text.encode()).hexdigest()


def sha256_of(event: Mapping[str, Any]) -> str:
    """The beginning of the hash of the event's bytes."""
    return hashlib.sha256(json.dumps(event, ensure_ascii=False).encode()).hexdigest()[:32]


def calls_of(event: Mapping[str, Any], **options: Any) -> list[dict[str, Any]]:
    return Segment(write_key=KEY, **options).calls(json.dumps(event, ensure_ascii=False).encode())


def test_a_page_view_is_an_identify_and_a_page() -> None:
    """Every field of both calls comes from where the original took it."""
    identify, page = calls_of(EVENT)
    print_of_event = sha256_of(EVENT)
    assert identify == {"type": "identify", **COMMON, "traits": TRAITS, "messageId": f"{print_of_event}-identify"}
    assert page == {
        "type": "page",
        **COMMON,
        "name": "Home",
        "properties": PAGE,
        "context": CONTEXT,
        "messageId": f"{print_of_event}-page",
    }


def test_any_other_event_is_a_track() -> None:
    """The event's type is its name, attributes and metrics are its properties."""
    event = {**EVENT, "event_type": "click"}
    _, track = calls_of(event)
    assert track == {
        "type": "track",
        **COMMON,
        "event": "click",
        "properties": {**EVENT["attributes"], **EVENT["metrics"]},
        "context": CONTEXT,
        "messageId": f"{sha256_of(event)}-track",
    }


def test_what_is_missing_is_left_out_and_an_empty_text_is_kept() -> None:
    """Neither null nor empty objects are sent; an empty text is, unless it stands where an id belongs."""
    event = {
        "event_type": "click",
        "attributes": {"title": "", "search": "", "empty": []},
        "endpoint": {
            "Id": "a",
            "Attributes": {"DeviceMake": []},
            "Location": {"Country": None},
            "User": {"UserId": ""},
        },
    }
    identify, track = calls_of(event)
    assert {**identify, "messageId": ""} == {"type": "identify", "anonymousId": "a", "messageId": ""}
    assert track["properties"] == {"title": "", "search": ""}
    assert track["context"] == {"page": {"search": "", "title": ""}}


@pytest.mark.parametrize("nobody", ["", " \t", None, [], True])
def test_who_has_no_user_id_is_known_by_the_device(nobody: object) -> None:
    """An empty, blank or null userId is left out of every call, and the device's id stays."""
    event = {"event_type": "click", "endpoint": {"Id": "device-a0", "User": {"UserId": nobody}}}
    for made in calls_of(event):
        assert (made["anonymousId"], made.get("userId")) == ("device-a0", None)
    numbers = {"event_type": 404, "endpoint": {"Id": 1, "User": {"UserId": 2}}}
    assert [(made["anonymousId"], made["userId"]) for made in calls_of(numbers)] == [("1", "2")] * 2
    assert calls_of(numbers)[1]["event"] == "404"


@pytest.mark.parametrize("at", ["2026-11-28T09:00:00.250Z", "2026-11-28T10:00:00.250+01:00", "1795856400250"])
def test_a_time_as_text_is_read(at: str) -> None:
    """Segment gets it to the second, as from a number."""
    event = {"event_type": "click", "event_timestamp": at, "endpoint": {"Id": "a"}}
    assert {made["timestamp"] for made in calls_of(event)} == {"2026-11-28T09:00:00+00:00"}


def test_referrer_is_taken_under_both_spellings() -> None:
    """Events carry ``referer``, which the original overlooked; ``referrer`` is taken where the other is missing."""
    event = {"event_type": "pageView", "endpoint": {"Id": "a"}, "attributes": {"referrer": "https://b.example/"}}
    assert calls_of(event)[1]["properties"] == {"referrer": "https://b.example/"}


GROUPS = [
    {"groupId": "attributes.blogId", "traits": {"url": "attributes.blog", "missing": "attributes.nothing"}},
    {"groupId": "attributes.networkId"},
    {"groupId": "endpoint.Demographic.Locale"},
]


def test_groups_come_between_and_only_with_an_id() -> None:
    """Each configured group is a call with a separate id, without context; one without groupId is dropped."""
    calls = calls_of(EVENT, groups=GROUPS)
    print_of_event = sha256_of(EVENT)
    assert [call["type"] for call in calls] == ["identify", "group", "group", "page"]
    assert calls[1] == {
        "type": "group",
        **COMMON,
        "groupId": "7",
        "traits": {"url": "https://blog.example/"},
        "messageId": f"{print_of_event}-group-1",
    }
    assert calls[2] == {"type": "group", **COMMON, "groupId": "de-DE", "messageId": f"{print_of_event}-group-3"}


def test_no_two_calls_share_a_message_id() -> None:
    """Segment takes each id once, so the calls of one event need different ones; each is under 100 characters."""
    ids = [call["messageId"] for call in calls_of(EVENT, groups=GROUPS)]
    assert len(set(ids)) == len(ids)
    assert max(map(len, ids)) < 100


def test_legacy_message_ids_are_the_originals() -> None:
    """The md5 alone, the same for identify and page, and none for the group."""
    identify, group, page = calls_of(EVENT, groups=GROUPS[:1], legacy_message_ids=True)
    assert identify["messageId"] == page["messageId"] == md5_of(EVENT)
    assert "messageId" not in group


def test_the_mapping_is_extended_and_replaced() -> None:
    """What the deployment file gives takes the default's place, member by member; null removes one."""
    mapping = {
        "track": {
            "event": "attributes.title",
            "properties": {"$merge": ["metrics", {"kind": "event_type"}]},
            "context": {"timezone": None, "page": {"path": "attributes.url"}, "library": {"$value": {"name": "mine"}}},
        },
        "identify": {"traits": {"email": "endpoint.Address"}, "userId": None},
    }
    event = {**EVENT, "event_type": "click", "endpoint": {**EVENT["endpoint"], "Address": "a@example.com"}}
    identify, track = calls_of(event, mapping=mapping)
    assert identify["traits"] == {"email": "a@example.com"}
    assert "userId" not in identify
    assert track["event"] == "Home"
    assert track["properties"] == {"elapsed": 12.0, "scrollDepthMax": 3.5, "kind": "click"}
    assert track["context"]["page"] == {**PAGE, "path": "https://example.com/"}
    assert track["context"]["library"] == {"name": "mine"}
    assert "timezone" not in track["context"]
    assert track["context"]["locale"] == "de-DE"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mapping": {"alias": {}}}, "alias: allowed are identify, group, page, track, each an object"),
        ({"mapping": {"track": {"event": "a..b"}}}, "track.event: 'a..b' is not a path"),
        ({"mapping": {"track": {"event": 7}}}, "track.event: 7 is neither a path nor an object"),
        ({"mapping": {"page": {"name": {"$frist": []}}}}, "page.name.\\$frist: \\[\\] is neither a path nor an object"),
        ({"mapping": {"page": {"name": {"$first": "a"}}}}, "page.name.\\$first: 'a' is not a list"),
        ({"groups": [{"traits": {}}]}, "0: groupId is missing"),
        ({"transform": "mine"}, "'mine' is not of the form package.module:name"),
        ({"api_url": "http://example.com"}, "is not encrypted"),
        ({"max_event_bytes": 40_000}, "less than or equal to 32768"),
    ],
)
def test_what_is_wrong_in_the_deployment_file_is_told_with_its_place(options: Any, message: str) -> None:
    """The error names the place in the mapping, what was found and what is allowed."""
    with pytest.raises(ValidationError, match=message):
        Segment(write_key=KEY, **options)


def add_plan(calls: list[dict[str, Any]], event: dict[str, Any]) -> list[dict[str, Any]]:
    """A transform: changes, adds and drops calls."""
    if event["event_type"] == "drop me":
        return []
    if event["event_type"] == "refuse me":
        raise Unfit("not wanted")
    if event["event_type"] == "fail":
        raise KeyError("plan")
    return [call | {"integrations": {"All": True}} for call in calls if call["type"] != "identify"]


def test_a_function_may_change_the_calls(server: SegmentServer) -> None:
    """``transform`` changes and drops calls; an event of which no call is left counts as filtered."""
    segment = Segment(write_key=KEY, api_url=server.url, transform=f"{HERE}:add_plan")
    kinds = ["click", "drop me", "refuse me", "click"]
    batch = batch_of([sample_event(n, event_type=kind) for n, kind in enumerate(kinds)])
    assert send_to(segment, batch) == Sent(accepted=2, refused={2: "not wanted"}, filtered=1)
    assert [(call["type"], call["integrations"]) for call in server.calls] == [("track", {"All": True})] * 2
    segment.close()


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (f"{HERE}:add_plan", "add_plan raised KeyError: 'plan'"),
        (f"{HERE}:nothing", "'nothing' does not exist there"),
        (f"{HERE}:KEY", "is a str, not a function"),
        ("builtins:print", "returned a NoneType; allowed is a list of calls"),
    ],
)
def test_a_function_that_fails_blocks(server: SegmentServer, transform: str, message: str) -> None:
    """An error in the function is not the events' fault: nothing is quarantined, and the error is reported."""
    segment = Segment(write_key=KEY, api_url=server.url, transform=transform)
    with pytest.raises(Blocked, match=message):
        send_to(segment, batch_of([sample_event(0, event_type="fail")]))
    assert server.requests == []


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (b'{"event_type":"click"}', "neither userId nor anonymousId"),
        (b'{"event_type":"click","endpoint":{"Id":" ","User":{"UserId":""}}}', "neither userId nor anonymousId"),
        (b'{"event_type":"click","endpoint":{"Id":"a"},"event_timestamp":"last Tuesday"}', "is not a time"),
        (b'{"endpoint":{"Id":"a"}}', "no event name"),
        (b'{"event_type":"click","endpoint":{"Id":"a"},"attributes":{"n":1e400}}', "a number is too large"),
        (rb'{"event_type":"click","endpoint":{"Id":"a"},"attributes":{"n":"\ud83e"}}', "half of a surrogate pair"),
        (b'{"event_type":"click","endpoint":{"Id":"a"},"event_timestamp":1e300}', "at event_timestamp is not a time"),
    ],
)
def test_what_segment_would_drop_without_a_word_is_refused(
    server: SegmentServer, segment: Segment, event: bytes, reason: str
) -> None:
    """Segment answers 200 to calls that it throws away, so they are kept back and quarantined with the reason."""
    sent = send_to(segment, batch_of([sample_event(0), event, sample_event(1)]))
    assert sent.accepted == 2
    assert list(sent.refused) == [1]
    assert reason in sent.refused[1]
    assert server.dropped == []


def test_an_event_over_32_kb_is_refused_and_the_rest_delivered(server: SegmentServer, segment: Segment) -> None:
    """The largest call counts, as Segment counts it."""
    large = sample_event(1, event_type="click", metrics={"text": "ä" * 16_400})
    sent = send_to(segment, batch_of([sample_event(0), large, sample_event(2)]))
    assert sent.accepted == 2
    assert "bytes; allowed: 32768 per event" in sent.refused[1]


@pytest.mark.parametrize(("event", "requests"), [(sample_event, 3), (lambda n: line(n=n, endpoint={"Id": "a"}), 2)])
def test_a_large_batch_is_sent_in_requests_that_segment_takes(
    server: SegmentServer, event: Callable[[int], bytes], requests: int
) -> None:
    """Neither 500 KB nor 2,500 calls are exceeded, and the calls arrive in the order of the events."""
    segment = Segment(write_key=KEY, api_url=server.url, mapping={"track": {"event": {"$value": "x"}}})
    batch = batch_of([event(n) for n in range(1_300)])
    assert send_to(segment, batch).accepted == 1_300
    segment.close()
    assert len(server.requests) >= requests
    names = [call["messageId"] for call in server.calls]
    assert names == [call["messageId"] for event in batch.lines() for call in segment.calls(event)]


def test_after_a_failure_only_the_request_that_failed_comes_again(server: SegmentServer) -> None:
    """In one run, what Segment took is not sent again because a later request failed."""
    segment = Segment(write_key=KEY, api_url=server.url, max_request_events=100)
    server.script.extend([None, None, Reply(503, headers={"retry-after": "0"})])
    assert send_to(segment, batch_of([sample_event(n) for n in range(200)])).accepted == 200
    segment.close()
    assert len(server.requests) == 5
    assert server.requests[2].body == server.requests[3].body


@pytest.mark.parametrize(
    ("region", "host"), [("us", "https://api.segment.io"), ("eu", "https://events.eu1.segmentapis.com")]
)
def test_hosts(region: Any, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The region chooses the host; the write key is the user of basic authentication."""
    segment = Segment(write_key=KEY, region=region)
    asked: list[tuple[Any, Any]] = []

    def send(method: str, url: str, *, auth: Any, **rest: Any) -> None:
        asked.append((url, auth))
        raise TryLater("not really sent")

    monkeypatch.setattr(segment._http, "send", send)
    with pytest.raises(TryLater):
        segment.deliver(batch_of([sample_event(0)]))
    assert asked == [(f"{host}/v1/batch", (KEY, ""))]


def test_the_write_key_is_secret() -> None:
    """The deployment file may give it only as {env: NAME}."""
    assert secret_fields(Segment) == {"client_key_password", "write_key"}
