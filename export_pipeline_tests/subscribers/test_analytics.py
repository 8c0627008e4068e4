"""Mixpanel, Amplitude and PostHog, each against a server that behaves as its documentation says."""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.subscribers.amplitude import PAUSE_SECONDS, Amplitude
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.mapped import MappedSubscriber
from export_pipeline.subscribers.mixpanel import Mixpanel
from export_pipeline.subscribers.posthog import Posthog
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.analytics import AmplitudeServer, Deduplicating, MixpanelServer, PosthogServer
from export_pipeline_tests.servers.http import Reply
from export_pipeline_tests.subscribers.http_contract import HttpContract

KEY = "pr0ject-key-of-ours"


class AnalyticsContract(HttpContract):
    """What the three have in common."""

    server_class: ClassVar[type[Deduplicating]]
    server: Deduplicating

    @pytest.fixture
    def subscriber(self) -> Iterator[Subscriber]:
        with self.server_class(KEY) as self.server:
            subscriber = self.make()
            yield subscriber
            subscriber.close()
            assert self.server.dropped == []

    def held(self) -> Iterable[object]:
        return self.server.held()

    def expected(self, events: Sequence[bytes]) -> Iterable[object]:
        made = self.make()
        assert isinstance(made, MappedSubscriber)
        return [json.loads(call) for event in events for call in made.encode(event)]

    def awkward_events(self) -> list[bytes]:
        return [
            b'{"event_type":"x","event_timestamp":1795392000000,"endpoint":{"Id":"abcde"}}',
            sample_event(3, attributes={"text": "ﬀ 🦔 \u2028 <b>&amp;", "ключ": "日本", "url": "x" * 200_000}),
            sample_event(4, metrics={"big": 10**30, "float": 1.5, "small": -0.0}),
        ]


class TestMixpanel(AnalyticsContract):
    """Partial success as a 400."""

    server_class = MixpanelServer

    def make(self, *, url: str | None = None, key: str | None = None, timeout_seconds: float = 60) -> Subscriber:
        return Mixpanel(token=key or KEY, api_url=url or self.server.url, gzip=True, timeout_seconds=timeout_seconds)

    def bad_event(self) -> bytes:
        return sample_event(50, event_timestamp="yesterday")


class TestAmplitude(AnalyticsContract):
    """A request with a bad event is refused, with the event's number."""

    server_class = AmplitudeServer

    def make(self, *, url: str | None = None, key: str | None = None, timeout_seconds: float = 60) -> Subscriber:
        return Amplitude(api_key=key or KEY, api_url=url or self.server.url, timeout_seconds=timeout_seconds)

    def bad_event(self) -> bytes:
        return sample_event(50, event_timestamp="yesterday")


class TestPosthog(AnalyticsContract):
    """A request that is refused is bisected."""

    server_class = PosthogServer

    def make(self, *, url: str | None = None, key: str | None = None, timeout_seconds: float = 60) -> Subscriber:
        return Posthog(api_key=key or KEY, api_url=url or self.server.url, gzip=True, timeout_seconds=timeout_seconds)

    def bad_event(self) -> bytes:
        return sample_event(50, attributes={"choke": "1"})


EVENT = sample_event(0)
SHA = hashlib.sha256(EVENT).hexdigest()


def call(subscriber: MappedSubscriber, event: bytes = EVENT) -> Any:
    [encoded] = subscriber.encode(event)
    return json.loads(encoded)


def test_what_mixpanel_gets() -> None:
    """Name, time, user and an insert id of 36 characters; attributes and metrics as properties."""
    made = call(Mixpanel(token=KEY))
    assert made["event"] == "pageView"
    properties = made["properties"]
    assert properties["time"] == 1795392000000
    assert properties["distinct_id"] == "user-0"
    assert properties["$insert_id"] == SHA[:36]
    assert properties["$city"] == "Köln"
    assert properties["elapsed"] == 1250.0
    assert properties["title"] == "Seite 0 – Übersicht"
    assert call(Mixpanel(token=KEY), b'{"event_type":"x"}')["properties"]["distinct_id"] == ""


def test_what_amplitude_gets() -> None:
    """User, device, type, time and an insert id; attributes and metrics as event properties."""
    made = call(Amplitude(api_key=KEY))
    assert made["user_id"] == "user-0"
    assert made["device_id"] == "endpoint-0"
    assert made["event_type"] == "pageView"
    assert made["time"] == made["session_id"] == 1795392000000
    assert made["insert_id"] == SHA[:40]
    assert made["event_properties"]["scrollDepthMax"] == 80
    assert made["user_properties"]["plan"] == "gold"
    assert made["language"] == "de-DE"


def test_what_posthog_gets() -> None:
    """Name, user, time to the millisecond and a UUID; person properties under $set."""
    made = call(Posthog(api_key=KEY))
    assert made["event"] == "pageView"
    assert made["distinct_id"] == "user-0"
    assert made["timestamp"] == "2026-11-23T00:00:00.000+00:00"
    assert made["uuid"] == str(uuid.UUID(hex=SHA[:32], version=5))
    assert made["properties"]["$geoip_disable"] is True
    assert made["properties"]["$set"]["plan"] == "gold"
    assert made["properties"]["$current_url"] == "https://example.com/seite/0?q=ä"


MAPPED: list[MappedSubscriber] = [Mixpanel(token=KEY), Amplitude(api_key=KEY), Posthog(api_key=KEY)]


def _known_by(subscriber: MappedSubscriber, event: bytes) -> list[Any]:
    """User and device by which the service knows whose *event* is."""
    made = call(subscriber, event)
    told = made["properties"] if isinstance(subscriber, Mixpanel) else made
    names = ["user_id", "device_id"] if isinstance(subscriber, Amplitude) else ["distinct_id"]
    return [told.get(name) for name in names]


@pytest.mark.parametrize("subscriber", MAPPED, ids=lambda subscriber: type(subscriber).__name__)
@pytest.mark.parametrize("nobody", ["", " ", "\t\u00a0", None, [], {}, True])
def test_who_has_no_user_id_is_known_by_the_device(subscriber: MappedSubscriber, nobody: object) -> None:
    """An empty, blank or null id is ignored: visitors who never logged in are distinguished by their devices."""
    events = [sample_event(n, endpoint={"Id": f"device-a{n}", "User": {"UserId": nobody}}) for n in range(2)]
    device_only = [None] if isinstance(subscriber, Amplitude) else []
    assert [_known_by(subscriber, event) for event in events] == [[*device_only, f"device-a{n}"] for n in range(2)]
    known = sample_event(0, endpoint={"Id": "device-a0", "User": {"UserId": "user-9"}})
    assert _known_by(subscriber, known)[0] == "user-9"


@pytest.mark.parametrize("subscriber", MAPPED, ids=lambda subscriber: type(subscriber).__name__)
def test_a_number_is_sent_as_text_where_the_service_asks_for_text(subscriber: MappedSubscriber) -> None:
    """Ids and the event's name."""
    event = sample_event(0, event_type=404, endpoint={"Id": 1234567, "User": {"UserId": 7654321}})
    assert _known_by(subscriber, event) == ["7654321", *(["1234567"] if isinstance(subscriber, Amplitude) else [])]
    made = call(subscriber, event)
    assert made.get("event", made.get("event_type")) == "404"


@pytest.mark.parametrize("subscriber", MAPPED, ids=lambda subscriber: type(subscriber).__name__)
def test_times_are_read_in_every_spelling_or_the_event_is_refused(subscriber: MappedSubscriber) -> None:
    """One instant in four formats is one time at the destination; an invalid time holds back only its own event."""
    spellings = ["2026-11-28T09:00:00.250Z", "2026-11-28T10:00:00.250+01:00", "1795856400250", 1795856400250]
    batch = batch_of([sample_event(n, event_timestamp=at) for n, at in enumerate([*spellings, "last Tuesday"])])
    cut = subscriber.cut(batch)
    assert list(cut.refused) == [4]
    assert "'last Tuesday' at event_timestamp is not a time" in cut.refused[4]
    made = [call(subscriber, line) for line in batch.lines()[:4]]
    times = [one.get("time", one.get("timestamp", one.get("properties", {}).get("time"))) for one in made]
    assert set(times) == {"2026-11-28T09:00:00.250+00:00" if isinstance(subscriber, Posthog) else 1795856400250}


def test_mappings_can_be_changed() -> None:
    """The deployment file changes a member, adds one, and removes one."""
    changed = Amplitude(api_key=KEY, mapping={"user_id": "attributes.blogId", "groups": {"blog": "attributes.blogId"}})
    made = call(changed)
    assert made["user_id"] == "7"
    assert made["groups"] == {"blog": "7"}
    assert "city" not in call(Amplitude(api_key=KEY, mapping={"city": None}))
    with pytest.raises(ValidationError, match=r"mapping\.user_id: '' is not a path"):
        Amplitude(api_key=KEY, mapping={"user_id": ""})


@pytest.mark.parametrize(
    ("subscriber", "event", "reason"),
    [
        (Amplitude(api_key=KEY), b'{"event_type":"x","endpoint":{"Id":"1234"}}', "has at least 5 characters"),
        (Posthog(api_key=KEY), b'{"event_type":"x"}', "no distinct_id: PostHog drops an event without"),
        (Posthog(api_key=KEY), b'{"endpoint":{"Id":"1"}}', "no event: PostHog drops an event without"),
        (Posthog(api_key=KEY), b'{"event_type":" ","endpoint":{"Id":"1"}}', "no event: PostHog drops an event without"),
    ],
)
def test_what_a_service_would_drop_without_a_word_is_refused(
    subscriber: MappedSubscriber, event: bytes, reason: str
) -> None:
    """Such events never leave; they go to the quarantine with the reason."""
    cut = subscriber.cut(batch_of([event]))
    assert cut.parts == []
    assert reason in cut.refused[0]


def test_several_bad_events_of_a_large_batch_are_named() -> None:
    """Mixpanel: all valid events of every request are accepted, and the others are named by their position in the
    batch.
    """
    with MixpanelServer(KEY) as server:
        mixpanel = Mixpanel(token=KEY, api_url=server.url, max_request_events=100)
        bad: dict[int, dict[str, Any]] = {
            5: {"event_type": ""},
            150: {"event_timestamp": None},
            151: {"endpoint": {"Id": "null"}},
        }
        sent = send_to(mixpanel, batch_of([sample_event(n, **bad.get(n, {})) for n in range(250)]))
        mixpanel.close()
        assert sent.accepted == len(server.by_id) == 247
        assert set(sent.refused) == set(bad)
        assert sent.refused[150] == (
            "properties.time: 'properties.time' is invalid: must be specified as seconds since epoch"
        )
        assert len(server.requests) == 3


def test_mixpanel_with_a_service_account() -> None:
    """User, secret and project number instead of the token."""
    with MixpanelServer(KEY) as server:
        mixpanel = Mixpanel(
            service_account="robot", service_account_secret=KEY, project_id="77", api_url=server.url, gzip=False
        )
        assert send_to(mixpanel, batch_of([EVENT])) == Sent(accepted=1)
        mixpanel.check()
        mixpanel.close()


def test_amplitudes_429_means_a_pause_of_30_seconds() -> None:
    """If Amplitude requests no pause, that of its documentation is used; otherwise its own."""
    with AmplitudeServer(KEY) as server:
        amplitude = Amplitude(api_key=KEY, api_url=server.url)
        server.script.extend([Reply(429, b'{"throttled_events":[0]}'), Reply(429, headers={"retry-after": "3"})])
        for seconds in (PAUSE_SECONDS, 3):
            with pytest.raises(TryLater) as caught:
                amplitude.deliver(batch_of([EVENT]))
            assert caught.value.retry_after_seconds == seconds
        amplitude.close()


def test_amplitudes_413_halves_the_request() -> None:
    """A request that is too large for Amplitude is sent in halves, and nothing is refused."""
    with AmplitudeServer(KEY) as server:
        amplitude = Amplitude(api_key=KEY, api_url=server.url)
        server.script.append(Reply(413, b'{"code":413}'))
        assert send_to(amplitude, batch_of([sample_event(n) for n in range(8)])) == Sent(accepted=8)
        amplitude.close()
        assert [len(json.loads(request.body)["events"]) for request in server.requests] == [8, 4, 4]


@pytest.mark.parametrize("limited", [["events"], ["recordings", "events"], ["exceptions"]])
def test_a_posthog_over_its_quota_blocks(limited: list[str]) -> None:
    """It answers 200 and drops the events: they stay owed, and the error is reported."""
    with PosthogServer(KEY) as server:
        posthog = Posthog(api_key=KEY, api_url=server.url)
        server.script.append(Reply(200, json.dumps({"status": 1, "quota_limited": limited}).encode()))
        with pytest.raises(Blocked, match="the project is over its quota of e"):
            send_to(posthog, batch_of([EVENT]))
        for fine in (b'{"status":1,"quota_limited":["recordings"]}', b'{"status":"Ok","quota_limited":[]}'):
            server.script.append(Reply(200, fine))
            assert send_to(posthog, batch_of([EVENT])) == Sent(accepted=1)
        posthog.close()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error":"what?"}'])
def test_a_400_that_names_nothing_is_bisected(body: bytes) -> None:
    """Whatever a 400 says, it refuses something in the request."""
    for subscriber in (Amplitude(api_key=KEY), Mixpanel(token=KEY)):
        with AmplitudeServer(KEY) as server:
            server.standing = Reply(400, body)
            made = type(subscriber)(**{**subscriber._get_non_default_public_field_values(), "api_url": server.url})
            with pytest.raises(Refused) as caught:
                made.deliver(batch_of([EVENT]))
            assert caught.value.events is None
            made.close()


@pytest.mark.parametrize("subscriber", [Mixpanel, Amplitude, Posthog])
def test_check_tells_a_wrong_key(subscriber: type[MappedSubscriber]) -> None:
    """check() raises Blocked if the key is wrong, and succeeds if it is right."""
    servers: dict[type[Any], type[Deduplicating]] = {
        Mixpanel: MixpanelServer,
        Amplitude: AmplitudeServer,
        Posthog: PosthogServer,
    }
    subscriber_of: Callable[..., MappedSubscriber] = subscriber
    name = "token" if subscriber is Mixpanel else "api_key"
    with servers[subscriber](KEY) as server:
        right = subscriber_of(**{name: KEY, "api_url": server.url})
        right.check()
        right.close()
        wrong = subscriber_of(**{name: "wr0ng-key", "api_url": server.url})
        with pytest.raises(Blocked):
            wrong.check()
        wrong.close()
        assert list(server.held()) == []


@pytest.mark.parametrize(
    ("subscriber", "region", "endpoint"),
    [
        (Mixpanel, "us", "https://api.mixpanel.com/import?strict=1"),
        (Mixpanel, "eu", "https://api-eu.mixpanel.com/import?strict=1"),
        (Mixpanel, "in", "https://api-in.mixpanel.com/import?strict=1"),
        (Amplitude, "us", "https://api2.amplitude.com/batch"),
        (Amplitude, "eu", "https://api.eu.amplitude.com/batch"),
        (Posthog, "us", "https://us.i.posthog.com/batch/"),
        (Posthog, "eu", "https://eu.i.posthog.com/batch/"),
    ],
)
def test_hosts(subscriber: type[MappedSubscriber], region: str, endpoint: str) -> None:
    """The region determines the host; an unknown one is reported with the known ones."""
    key: Any = {"api_key": KEY} if subscriber is not Mixpanel else {"token": KEY}
    assert subscriber(region=region, **key).endpoint == endpoint
    with pytest.raises(ValidationError, match="unknown region 'mars'; allowed: us, eu"):
        subscriber(region="mars", **key)
    assert secret_fields(subscriber) >= set(key)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "token is missing, or service_account, service_account_secret and project_id"),
        ({"service_account": "robot"}, "a service_account needs service_account_secret and project_id"),
    ],
)
def test_mixpanel_without_credentials_is_found_when_the_deployment_loads(options: Any, message: str) -> None:
    """The error says which options belong together."""
    with pytest.raises(ValidationError, match=message):
        Mixpanel(**options)


@pytest.mark.parametrize(
    "told",
    [
        {"failed_records": [{"message": "no index"}, "?"], "events_with_invalid_fields": ["time"]},
        {"events_with_missing_fields": {"event_type": 0}, "silenced_events": "all"},
    ],
)
def test_an_answer_of_another_shape_than_documented_is_bisected(told: Any) -> None:
    """A 400 refuses something, whatever its text says: the batch is not tried for ever."""
    with MixpanelServer(KEY) as server:
        server.standing = Reply(400, json.dumps(told).encode())
        for subscriber in (Mixpanel(token=KEY, api_url=server.url), Amplitude(api_key=KEY, api_url=server.url)):
            assert list(send_to(subscriber, batch_of([EVENT, sample_event(1)])).refused) == [0, 1]
            subscriber.close()
