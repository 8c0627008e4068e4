"""The opensearch subscriber against a server that speaks the bulk API."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.opensearch import Opensearch
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.certificate import self_signed
from export_pipeline_tests.servers.http import Reply
from export_pipeline_tests.servers.search import SearchServer
from export_pipeline_tests.subscribers.http_contract import HttpContract

PASSWORD = "p4ssw0rd-of-the-writer"
INDEX = "events-2026.11.23"


def make(server: SearchServer, **options: Any) -> Opensearch:
    return Opensearch(**{"api_url": server.url, "username": "writer", "password": PASSWORD, **options})


@pytest.fixture
def server() -> Iterator[SearchServer]:
    with SearchServer(PASSWORD) as server:
        yield server


@pytest.fixture
def search(server: SearchServer) -> Iterator[Opensearch]:
    search = make(server)
    yield search
    search.close()


class TestContract(HttpContract):
    """Documents by the hash of the event."""

    server: SearchServer

    @pytest.fixture
    def subscriber(self) -> Iterator[Subscriber]:
        with SearchServer(PASSWORD) as self.server:
            subscriber = self.make()
            yield subscriber
            subscriber.close()

    def make(self, *, url: str | None = None, key: str | None = None, timeout_seconds: float = 60) -> Subscriber:
        return Opensearch(
            api_url=url or self.server.url,
            username="writer",
            password=key or PASSWORD,
            gzip=True,
            timeout_seconds=timeout_seconds,
        )

    def held(self) -> Iterable[bytes]:
        return self.server.documents()

    def bad_event(self) -> bytes:
        return sample_event(77, event_timestamp="yesterday")


def test_a_document_has_the_events_hash_and_the_index_of_its_day(server: SearchServer, search: Opensearch) -> None:
    """The id is the event's SHA-256, the index is named by the pattern, and the text is the event's."""
    search.deliver(batch_of([b'{ "a": 1.0 }'], day=date(2026, 1, 2)))
    assert server.indices == {"events-2026.01.02": {hashlib.sha256(b'{ "a": 1.0 }').hexdigest(): b'{ "a": 1.0 }'}}


def test_ids_from_the_event_and_a_pipeline(server: SearchServer) -> None:
    """``id_path`` names the id; an event without one gets its hash."""
    search = make(server, id_path="id", index="all", pipeline="enrich", gzip=False)
    search.deliver(batch_of([b'{"id":"x-1"}', b'{"id":7}', b"{}"]))
    search.close()
    assert list(server.indices["all"]) == ["x-1", "7", hashlib.sha256(b"{}").hexdigest()]
    assert server.requests[0].query == {"pipeline": "enrich"}


def test_documents_that_are_there_already_count_as_accepted(server: SearchServer, search: Opensearch) -> None:
    """A conflict (409) is a repeat."""
    server.indices[INDEX] = {hashlib.sha256(sample_event(1)).hexdigest(): b"as it was"}
    assert send_to(search, batch_of([sample_event(0), sample_event(1)])) == Sent(accepted=2)
    assert b"as it was" in server.documents()


def test_only_documents_that_met_a_full_queue_come_again(server: SearchServer, search: Opensearch) -> None:
    """A 429 of single documents inside a 200: they alone are sent again, after a wait."""
    seen: set[bytes] = set()

    def busy(document: bytes) -> bool:
        is_first = document not in seen and len(seen) % 2 == 0
        seen.add(document)
        return is_first

    server.busy = busy
    waits: list[float] = []
    batch = batch_of([sample_event(n) for n in range(10)])
    assert send_to(search, batch, sleep=waits.append) == Sent(accepted=10)
    assert sorted(server.documents()) == sorted(batch.lines())
    assert len(server.requests) == 2
    assert len(waits) == 1


def test_what_the_index_cannot_take_is_refused_with_its_reason(server: SearchServer, search: Opensearch) -> None:
    """A 400 of a single document inside a 200 is that document's own."""
    sent = send_to(search, batch_of([sample_event(0), sample_event(1, event_timestamp="x"), sample_event(2)]))
    reason = "400 mapper_parsing_exception: failed to parse field [event_timestamp] of type [long]"
    assert sent == Sent(accepted=2, refused={1: reason})


def test_an_index_that_is_blocked_blocks(server: SearchServer, search: Opensearch) -> None:
    """A 403 of single documents is a matter for a person: nothing is refused."""
    server.is_read_only = True
    with pytest.raises(Blocked, match="403 cluster_block_exception"):
        send_to(search, batch_of([sample_event(0)]))


def test_an_answer_that_leaves_documents_out_is_no_success(server: SearchServer, search: Opensearch) -> None:
    """Each document has to be answered for."""
    body = b'{"errors":false,"items":[{"create":{"status":201}}]}'
    server.script.append(Reply(200, body, {"content-type": "application/json"}))
    with pytest.raises(TryLater, match="2 documents were sent, and 1 answered for"):
        search.deliver(batch_of([sample_event(0), sample_event(1)]))


def test_requests_keep_the_limits(server: SearchServer) -> None:
    """Neither more documents nor more bytes than configured go into one request."""
    search = make(server, max_request_events=30, max_request_bytes=50_000, gzip=False)
    assert send_to(search, batch_of([sample_event(n) for n in range(100)])).accepted == 100
    search.close()
    assert max(len(request.body) for request in server.requests) <= 50_000
    assert max(request.body.count(b'"create"') for request in server.requests) <= 30


def test_an_api_key_instead_of_a_user(server: SearchServer) -> None:
    """The header is the one that Elasticsearch asks for."""
    search = make(server, username=None, password=None, api_key="abc-key")
    with pytest.raises(Blocked, match="401"):
        search.deliver(batch_of([b"{}"]))
    search.close()
    assert server.requests[0].headers["authorization"] == "ApiKey abc-key"


def test_check(server: SearchServer, search: Opensearch) -> None:
    """A wrong password is told; a right that is missing is not asked for."""
    search.check()
    wrong = make(server, password="wr0ng-password")
    with pytest.raises(Blocked, match="401"):
        wrong.check()
    wrong.close()
    server.standing = Reply(403, b'{"error":{"type":"security_exception"},"status":403}')
    search.check()


def test_options() -> None:
    """Which are secret, and what is found when the deployment loads."""
    assert secret_fields(Opensearch) == {"client_key_password", "password", "api_key"}
    with pytest.raises(ValidationError, match="is not encrypted"):
        Opensearch(api_url="http://search.example.com")
    with pytest.raises(ValidationError, match="is not a path"):
        Opensearch(api_url="https://search.example.com", id_path="a..b")


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (404, "index_not_found_exception", "no such index [events-2026.11.23]"),
        (400, "invalid_index_name_exception", "Invalid index name [Events], must be lowercase"),
        (400, "index_closed_exception", "closed"),
        (400, "illegal_argument_exception", "pipeline with id [enrich] does not exist"),
        (403, "security_exception", "no permissions for [indices:data/write/bulk]"),
        (
            400,
            "validation_exception",
            "Validation Failed: 1: this action would add [2] total shards, but this cluster currently has "
            "[1000]/[1000] maximum shards open;",
        ),
        (400, "illegal_argument_exception", "no write index is defined for alias [events]. The write index may be ..."),
        (403, "index_create_block_exception", "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];"),
    ],
)
def test_what_no_document_is_at_fault_for_blocks(
    server: SearchServer, search: Opensearch, status: int, kind: str, reason: str
) -> None:
    """An index or pipeline that is not there would refuse every document: a person is told, nothing is quarantined."""
    item = {"create": {"status": status, "error": {"type": kind, "reason": reason}}}
    body = json.dumps({"errors": True, "items": [item, item]}).encode()
    server.script.append(Reply(200, body, {"content-type": "application/json"}))
    with pytest.raises(Blocked, match=f"{status} {kind}"):
        send_to(search, batch_of([sample_event(0), sample_event(1)]))


SCRIPT = {
    "type": "illegal_argument_exception",
    "reason": "ScriptException[runtime error]; nested: NullPointerException;",
}
FULL = {
    "type": "mapper_parsing_exception",
    "reason": "failed to parse",
    "caused_by": {
        "type": "illegal_argument_exception",
        "reason": "Limit of total fields [1000] has been exceeded while adding new fields [1]",
    },
}
DYNAMIC = {"type": "strict_dynamic_mapping_exception", "reason": "mapping set to strict, dynamic introduction of [n]"}


@pytest.mark.parametrize("error", [SCRIPT, FULL, DYNAMIC], ids=lambda error: error["type"])
@pytest.mark.parametrize("taken", [0, 1])
def test_what_may_be_the_clusters_fault_blocks_where_it_meets_every_document(
    server: SearchServer, search: Opensearch, error: dict[str, Any], taken: int
) -> None:
    """A failing script, a full or a strict mapping: where one document is taken, the others are set aside alone."""
    items = [{"create": {"status": 201}}] * taken + [{"create": {"status": 400, "error": error}}] * (500 - taken)
    body = json.dumps({"errors": True, "items": items}).encode()
    server.script.append(Reply(200, body, {"content-type": "application/json"}))
    batch = batch_of([sample_event(n) for n in range(500)])
    if taken:
        assert len(send_to(search, batch).refused) == 499
    else:
        with pytest.raises(Blocked, match="500 of 500 events were refused for what is no fault of theirs"):
            send_to(search, batch)


def test_a_document_cannot_pass_itself_off_as_the_clusters_trouble(server: SearchServer, search: Opensearch) -> None:
    """What an error quotes of a document decides nothing: it alone is set aside."""
    quoted = "this action would add [2] total shards; no write index is defined for alias; a script_exception"
    errors = [
        {"type": "mapper_parsing_exception", "reason": f"failed to parse [n]. Preview of field's value: '{quoted}'"},
        {"type": "illegal_argument_exception", "reason": f"unable to convert [{quoted[:40]}] to integer"},
    ]
    items = [{"create": {"status": 400, "error": error}} for error in errors]
    body = json.dumps({"errors": True, "items": items}).encode()
    server.script.append(Reply(200, body, {"content-type": "application/json"}))
    assert list(send_to(search, batch_of([sample_event(0), sample_event(1)])).refused) == [0, 1]


@pytest.mark.parametrize("body", [b"{}", b"<html>log in</html>", b'{"items":[{"index":{"status":201}}]}'])
def test_a_200_that_is_no_answer_to_a_bulk_request_is_no_success(
    server: SearchServer, search: Opensearch, body: bytes
) -> None:
    """Something else answers in the cluster's place: nothing counts as accepted."""
    kind = "text/html" if body.startswith(b"<") else "application/json"
    server.script.append(Reply(200, body, {"content-type": kind}))
    with pytest.raises(TryLater, match="no answer to a bulk request"):
        search.deliver(batch_of([sample_event(0)]))


def test_an_id_with_half_a_surrogate_pair_is_refused_alone(server: SearchServer) -> None:
    """JSON can write it, a request cannot; blank ids are none."""
    search = make(server, id_path="id")
    sent = send_to(search, batch_of([b'{"id":"a"}', rb'{"id":"\ud83d-1"}', b'{"id":" "}', rb'{"id":"\ud83d\ude00"}']))
    search.close()
    assert (sent.accepted, sent.refused) == (3, {1: "what it has at id holds half of a surrogate pair"})
    assert set(server.indices[INDEX]) == {"a", hashlib.sha256(b'{"id":" "}').hexdigest(), "\U0001f600"}


def test_an_id_that_is_too_long_is_refused(server: SearchServer) -> None:
    """OpenSearch takes ids of 512 bytes; it would refuse the whole request."""
    search = make(server, id_path="id")
    sent = send_to(
        search, batch_of([b'{"id":"' + b"x" * 512 + b'"}', '{"id":"ä%s"}'.replace("%s", "x" * 511).encode()])
    )
    search.close()
    assert sent.accepted == 1
    assert sent.refused == {1: "its id, at id, has 513 bytes; the destination takes 512"}


def test_a_certificate_that_is_not_trusted_blocks(tmp_path: Path) -> None:
    """No event is sent to whoever cannot show who he is; with the authority configured all is well."""
    server = SearchServer(PASSWORD)
    server.tls, trusted = self_signed(tmp_path)
    with server:
        search = make(server)
        with pytest.raises(Blocked, match="its certificate is not trusted: self-signed"):
            search.deliver(batch_of([sample_event(0)]))
        search.close()
        search = make(server, ca_file=str(trusted))
        search.deliver(batch_of([sample_event(0)]))
        search.close()
        assert server.documents() == [sample_event(0)]


def test_a_password_in_the_address_is_not_told(server: SearchServer) -> None:
    """Also where somebody answers with what he was sent."""
    address = server.url.replace("://", "://writer:p4ss%2Dw0rd@")
    search = make(server, api_url=address, username=None, password=None)
    server.standing = Reply(401, b'{"error":"writer:p4ss-w0rd is wrong"}')
    with pytest.raises(Blocked) as caught:
        send_to(search, batch_of([sample_event(0)]))
    search.close()
    assert "p4ss" not in str(caught.value)
