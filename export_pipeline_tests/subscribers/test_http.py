"""The http subscriber against an API over HTTP."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.http import Http
from export_pipeline.subscribers.http_client import HttpClient
from export_pipeline.subscribers.http_options import CONFLICTS_OF_ACCEPTED
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.api import Api
from export_pipeline_tests.servers.http import Reply, ResetWhileAnswering
from export_pipeline_tests.subscribers.http_contract import HttpContract

TOKEN = "t0ken-of-the-api"
BAD = b'{"bad":true}'


def make(api: Api, **options: Any) -> Http:
    given = {"url": f"{api.url}/v1", "secret_headers": {"Authorization": f"Bearer {TOKEN}"}, **options}
    return Http(**given)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(TOKEN) as api:
        yield api


class TestNdjson(HttpContract):
    """Events as lines, compressed."""

    options: dict[str, Any] = {"gzip": True}
    partial = False

    @pytest.fixture
    def subscriber(self) -> Iterator[Subscriber]:
        with Api(TOKEN, partial=self.partial) as self.server:
            subscriber = self.make()
            yield subscriber
            subscriber.close()

    def make(self, *, url: str | None = None, key: str | None = None, timeout_seconds: float = 60) -> Subscriber:
        headers = {"Authorization": f"Bearer {key or TOKEN}"}
        return Http(
            url=f"{url or self.server.url}/v1", secret_headers=headers, timeout_seconds=timeout_seconds, **self.options
        )

    def held(self) -> Iterable[object]:
        assert isinstance(self.server, Api)
        return self.server.held()

    def bad_event(self) -> bytes:
        return BAD


class TestArray(TestNdjson):
    """Events in an array, uncompressed."""

    options = {"body": "array", "gzip": False}

    def expected(self, events: Sequence[bytes]) -> Iterable[object]:
        return [json.loads(event) for event in events]


class TestObject(TestArray):
    """Events in an object, in small requests, with an answer that names what it refuses."""

    options = {
        "body": "object",
        "body_key": "records",
        "body_fields": {"source": "mine"},
        "secret_body_fields": {"api_key": "k3y-in-the-body"},
        "max_request_events": 3,
        "success_path": "ok",
        "errors_path": "errors",
        "error_index_path": "at.index",
    }
    partial = True


def test_an_object_holds_the_events_as_they_are(api: Api) -> None:
    """Constants and secrets are sent beside the events, whose bytes are not changed."""
    http = make(
        api, body="object", body_key='re"cords', body_fields={"n": 1}, secret_body_fields={"k": "ä"}, gzip=False
    )
    api.standing = Reply(200)
    http.deliver(batch_of([b'{"a": 1.0}', b"{}"]))
    http.close()
    assert api.requests[0].body == '{"re\\"cords":[{"a": 1.0},{}],"n":1,"k":"ä"}'.encode()


def test_an_object_without_more(api: Api) -> None:
    """Only the events, under their key."""
    api.standing = Reply(200)
    http = make(api, body="object", gzip=False)
    http.deliver(batch_of([b"{}"]))
    http.close()
    assert api.requests[0].body == b'{"events":[{}]}'


def test_method_path_and_headers(api: Api) -> None:
    """PUT to a path with the id, and custom headers."""
    api.standing = Reply(201)
    http = make(api, url=f"{api.url}/b/{{id}}.json?x=1", method="PUT", headers={"X-A": "b"}, content_type="text/plain")
    http.deliver(batch_of([b"{}"], "b7-0"))
    http.close()
    [request] = api.requests
    assert (request.method, request.target) == ("PUT", "/b/b7-0.json?x=1")
    assert request.headers["x-a"] == "b"
    assert request.headers["content-type"] == "text/plain"
    assert request.headers["idempotency-key"] == "b7-0"


def test_limits_hold_and_each_request_has_its_id(api: Api) -> None:
    """A batch is cut by events and bytes; the ids are the same at the next try."""
    http = make(api, max_request_events=4, max_request_bytes=100, max_event_bytes=40)
    events = [json.dumps({"n": "x" * (n % 25)}).encode() for n in range(30)] + [b'{"n":"' + b"x" * 40 + b'"}']
    for _ in range(2):
        sent = send_to(http, batch_of(events))
        assert sent.accepted == 30
        assert sent.refused == {30: "48 bytes; allowed: 40 per event"}
    http.close()
    assert api.held() == events[:30]
    assert len(api.requests) == 2 * len(api.taken)


def test_a_mapping_makes_what_is_sent(api: Api) -> None:
    """Only what the mapping names leaves."""
    http = make(api, body="array", mapping={"name": "event_type", "at": {"$time": "event_timestamp"}})
    http.deliver(batch_of([sample_event(1)]))
    http.close()
    assert api.held() == [{"name": "click", "at": "2026-11-23T00:00:00+00:00"}]


@pytest.mark.parametrize(
    ("reply", "meaning", "message"),
    [
        (b'{"ok":false}', TryLater, "ok is False, not True"),
        (b'{"ok":1}', TryLater, "ok is 1, not True"),
        (b'{"fine":true}', TryLater, "ok is None, not True"),
        (b"<html>", Blocked, ": not JSON"),
        *(
            (
                b'{"ok":true,"errors":%s}' % found,
                Blocked,
                "at errors_path errors; allowed: a list, or an object of numbers",
            )
            for found in (b"7", b'"all"', b"true", b"1.5")
        ),
        (b'{"ok":true,"errors":{"message":"bad"}}', Blocked, "index in errors names no event"),
        (b'{"ok":true,"errors":[true]}', Blocked, "index in errors names no event"),
        (b'{"ok":true,"errors":["x"]}', Blocked, "index in errors names no event"),
        (b'{"ok":true,"errors":[{"index":-1}]}', Blocked, "index in errors names no event"),
        (b'{"ok":true,"errors":[{"at":9}]}', Blocked, "index in errors names no event"),
    ],
)
def test_an_answer_that_says_no(api: Api, reply: bytes, meaning: type[Exception], message: str) -> None:
    """A 200 is not a success if the response says otherwise, or cannot be read."""
    api.standing = Reply(200, reply)
    http = make(api, success_path="ok", errors_path="errors")
    with pytest.raises(meaning, match=message):
        http.deliver(batch_of([b"{}"]))
    http.close()


def test_parts_have_ids_of_their_own_however_they_are_delivered(api: Api) -> None:
    """A batch that is delivered without being cut before loses no part to the receiver's idempotency."""
    http = make(api, max_request_events=2)
    batch = batch_of([b'{"n":%d}' % n for n in range(5)])
    http.deliver(batch)
    assert api.held() == batch.lines()
    assert send_to(http, batch).accepted == 5
    assert api.held() == batch.lines()
    http.close()


def test_numbers_of_refused_events_are_enough(api: Api) -> None:
    """An API may name the refused events by their numbers alone; the answer is the reason."""
    api.script.append(Reply(200, b'{"failed":[0,2]}'))
    http = make(api, errors_path="failed")
    sent = send_to(http, batch_of([b"{}"] * 4))
    http.close()
    assert sent == Sent(accepted=2, refused=dict.fromkeys((0, 2), f'{api.url} answered 200: {{"failed":[0,2]}}'))


@pytest.mark.parametrize("found", [b"[]", b"null", b"0", b'""', b"false", b"{}"])
def test_no_errors_in_any_spelling(api: Api, found: bytes) -> None:
    """Nothing at errors_path means that every event was accepted."""
    http = make(api, errors_path="errors")
    api.standing = Reply(200, b'{"errors":' + found + b"}")
    assert send_to(http, batch_of([b"{}"] * 3)) == Sent(accepted=3)
    http.close()
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "found", [b'{"1":"bad"}', b'[{"index":"1","message":"bad"}]', b'[{"index":1,"message":"bad"}]']
)
def test_errors_by_number_as_text_and_as_an_object(api: Api, found: bytes) -> None:
    """The numbers of events may be text, or the names of an object's members: nothing is sent twice."""
    http = make(api, errors_path="errors")
    api.standing = Reply(200, b'{"errors":' + found + b"}")
    assert send_to(http, batch_of([b"{}"] * 3)) == Sent(accepted=2, refused={1: "bad"})
    http.close()
    assert len(api.requests) == 1


def test_a_409_to_a_repeat_whose_answer_was_lost_is_an_acceptance(api: Api) -> None:
    """The API took the events and refuses their key from then on: they are tried a little longer, and never refused."""
    http = make(api)
    api.script.extend([ResetWhileAnswering(), *[Reply(409, b"key in use")] * 9])
    sent = send_to(http, batch_of([b'{"n":1}'], "b-1"), sleep=lambda _: None)
    assert (sent.accepted, sent.refused, sent.details) == (1, {}, ("request b-1 was accepted before",))
    assert len(api.requests) == 1 + CONFLICTS_OF_ACCEPTED
    assert {request.headers["idempotency-key"] for request in api.requests} == {"b-1"}
    http.close()


def test_a_409_while_the_first_request_is_under_way_is_waited_out(api: Api) -> None:
    """As soon as the API answers otherwise, that holds."""
    http = make(api)
    api.script.extend([Reply(503), Reply(409, headers={"retry-after": "1"}), Reply(409), None])
    assert send_to(http, batch_of([b'{"n":1}']), sleep=lambda _: None) == Sent(accepted=1)
    http.close()
    assert api.held() == [b'{"n":1}']


ANSWERED = {
    "unavailable": [Reply(503)],
    "too many": [Reply(429, headers={"retry-after": "1"})],
    "not in a row": [ResetWhileAnswering(), Reply(409), Reply(409), Reply(503), Reply(409), Reply(409), Reply(503)],
}


@pytest.mark.parametrize("script", ANSWERED.values(), ids=ANSWERED)
def test_a_409_after_an_answer_is_no_acceptance(api: Api, script: list[Any]) -> None:
    """An API that answered that it is busy, and then 409 to everything, has nothing: the batch stays owed."""
    api.standing = Reply(409, b"paused")
    api.script.extend(script)
    http = make(api, retry_for_seconds=0)
    for _ in range(len(script) + CONFLICTS_OF_ACCEPTED - 1):
        with pytest.raises(TryLater):
            send_to(http, batch_of([b"{}"], "b-1"))
    http.close()
    assert len(api.requests) == len(script) + CONFLICTS_OF_ACCEPTED - 1


def test_what_was_never_sent_has_not_arrived(api: Api) -> None:
    """A failed connection is distinguished from a lost response: only after a lost response can a 409 mean a repeat."""
    api.script.append(ResetWhileAnswering())
    client = HttpClient()
    for url, may_have_arrived in ((api.url, True), ("http://127.0.0.1:9", False)):
        with pytest.raises(TryLater) as error:
            client.send("POST", url, content=b"{}", timeout_seconds=30)
        assert error.value.may_have_arrived == may_have_arrived
    client.close()


@pytest.mark.parametrize(("conflict", "id_header"), [("retry", "X-Id"), ("accepted", "X-Id"), ("retry", None)])
def test_a_409_to_what_was_never_sent_is_not_believed_unless_told_so(
    api: Api, conflict: Literal["retry", "accepted"], id_header: str | None
) -> None:
    """Another run may have sent it: conflict says what it means. Without an id in the request it blocks, as ever."""
    api.standing = Reply(409, b"known")
    http = make(api, conflict=conflict, id_header=id_header, retry_for_seconds=0)
    if conflict == "accepted":
        assert send_to(http, batch_of([b"{}"])).accepted == 1
    else:
        kind, words = (TryLater, "set conflict: accepted") if id_header else (Blocked, "answered 409")
        with pytest.raises(kind, match=words):
            send_to(http, batch_of([b"{}"]))
    http.close()
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "http://example.com"}, "is not encrypted"),
        ({"mapping": {"a": ["b"]}}, "mapping.a: \\['b'\\] is neither a path nor an object"),
        ({"errors_path": "a..b"}, "is not a path"),
        ({"body": "xml"}, "'ndjson', 'array' or 'object'"),
    ],
)
def test_what_is_wrong_is_told_when_the_deployment_loads(options: Any, message: str) -> None:
    """The error says what is allowed."""
    with pytest.raises(ValidationError, match=message):
        Http(**{"url": "https://example.com", **options})


def test_secrets() -> None:
    """The deployment file may give these only as {env: NAME}."""
    assert secret_fields(Http) == {"client_key_password", "secret_headers", "secret_body_fields"}
