"""An analytics service says in its body that it took the events; a 200 with any other body is not believed."""

from collections.abc import Iterator
from typing import Any

import pytest

from export_pipeline.errors import Blocked
from export_pipeline.subscribers.amplitude import Amplitude
from export_pipeline.subscribers.mapped import MappedSubscriber
from export_pipeline.subscribers.mixpanel import Mixpanel
from export_pipeline.subscribers.posthog import Posthog
from export_pipeline.subscribers.segment import Segment
from export_pipeline.testing import batch_of
from export_pipeline_tests.servers.http import Reply, Server

EVENT = (
    b'{"event_type":"pageView","event_timestamp":1795176000000,"arrival_timestamp":1795176000000,'
    b'"endpoint":{"Id":"visitor-1"},"attributes":{},"metrics":{}}'
)
NEVER = [
    b"",
    b"<!doctype html><title>Sign in</title>",
    b"[]",
    b'"ok"',
    b"[" * 100_000,
    b"{}",
    b'{"success":false,"error":"quota"}',
    b'{"code":500,"status":"Bad Request","num_records_imported":0}',
    b'{"status":0,"error":"invalid token"}',
]
SERVICES: dict[str, tuple[dict[str, Any], list[bytes], list[bytes]]] = {
    "amplitude": (
        {"api_key": "k"},
        [b'{"code":200}', b'{"code":200,"events_ingested":2,"payload_size_bytes":9}'],
        [
            b'{"code":200,"events_ingested":0}',
            b'{"code":200,"events_ingested":1}',
            b'{"code":200,"events_ingested":"2"}',
        ],
    ),
    "mixpanel": (
        {"token": "k"},
        [b'{"code":200,"num_records_imported":2,"status":"OK"}', b'{"status":"OK"}'],
        [b'{"code":200,"num_records_imported":1,"status":"OK"}'],
    ),
    "posthog": ({"api_key": "k"}, [b'{"status":1}', b'{"status":"Ok"}'], [b'{"status":true}']),
    "segment": ({"write_key": "k"}, [b'{"success":true}'], [b'{"success":"true"}']),
}
TYPES: dict[str, type[Any]] = {"amplitude": Amplitude, "mixpanel": Mixpanel, "posthog": Posthog, "segment": Segment}


@pytest.fixture
def server() -> Iterator[Server]:
    """Answers everything alike."""
    with Server() as started:
        yield started


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_body_of_the_service_confirms(server: Server, name: str) -> None:
    """The events stay owed after a 200 of a login page, of another API, or for fewer events; so says the check."""
    options, confirming, others = SERVICES[name]
    subscriber = TYPES[name](api_url=server.url, **options)
    batch = batch_of([EVENT, EVENT])
    for body in confirming:
        server.standing = Reply(200, body)
        receipt = subscriber.deliver(batch)
        assert receipt is None or not receipt.refused
    for body in [*NEVER, *others]:
        server.standing = Reply(200, body)
        with pytest.raises(Blocked, match="may not have been taken: check the address"):
            subscriber.deliver(batch)
    server.standing = Reply(200, NEVER[1])
    if isinstance(subscriber, MappedSubscriber):  # Segment has nothing to ask without events
        with pytest.raises(Blocked, match="Sign in"):
            subscriber.check()
    subscriber.close()
