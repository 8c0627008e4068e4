"""What subscribers have in common that speak to a server by a library's client."""

from collections.abc import Callable

import pytest

from export_pipeline.errors import TryLater
from export_pipeline.subscribers.clickhouse import Clickhouse
from export_pipeline.subscribers.library_client import LibraryClientSubscriber
from export_pipeline.subscribers.opensearch import Opensearch
from export_pipeline_tests.servers.http import Drip, Server

KINDS: dict[str, Callable[[str], LibraryClientSubscriber]] = {
    "clickhouse": lambda url: Clickhouse(api_url=url, table="events", timeout_seconds=0.3),
    "opensearch": lambda url: Opensearch(api_url=url, timeout_seconds=0.3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_waits_no_longer_than_the_timeout(kind: str) -> None:
    """A server whose answer drips on holds up neither the check nor the closing; the message names the option."""
    with Server() as server:
        server.standing = Drip()
        subscriber = KINDS[kind](server.url)
        with pytest.raises(TryLater) as caught:
            subscriber.check()
        assert str(caught.value) == f"{server.url}: no complete response after timeout_seconds (0.3)"
        subscriber.close()
