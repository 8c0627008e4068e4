"""Metrics over HTTP."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from export_pipeline.errors import ExportError, LedgerError
from export_pipeline.metrics.server import Cache, MetricsServer


class Ledger:
    """Read again for each new text; fails while it is broken."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_broken = False

    def __call__(self) -> str:
        self.reads += 1
        if self.is_broken:
            raise LedgerError("the ledger's database failed")
        return f"reads {self.reads}\n"


@contextmanager
def serving(cache: Cache, errors: list[ExportError]) -> Iterator[str]:
    with MetricsServer("127.0.0.1", 0, cache, content_type="text/plain", on_error=errors.append) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_scrape_reads_the_ledger_at_most_every_few_seconds() -> None:
    """Scrapes within five seconds get the same text; a later one reads the ledger again."""
    now = 0.0
    cache = Cache(Ledger(), clock=lambda: now)
    with serving(cache, []) as url:
        assert get(url) == (200, "reads 1\n")
        now = 4.9
        assert get(f"{url}?x=1") == (200, "reads 1\n")
        now = 5.0
        assert get(url) == (200, "reads 2\n")
        status, text = get(url.removesuffix("/metrics"))
    assert status == 404
    assert "/metrics" in text


def test_a_ledger_that_cannot_be_read_is_no_green_page() -> None:
    """While the ledger fails every scrape is answered with 503 and logged; old values are not shown as new ones."""
    now = 0.0
    ledger, errors = Ledger(), list[ExportError]()
    with serving(Cache(ledger, clock=lambda: now), errors) as url:
        assert get(url)[0] == 200
        ledger.is_broken = True
        now = 10.0
        assert [get(url)[0], get(url)[0]] == [503, 503]
        assert [str(error) for error in errors] == 2 * ["the ledger's database failed"]
        ledger.is_broken = False
        assert get(url) == (200, "reads 4\n")


def test_an_address_in_use_is_an_error() -> None:
    """A second server on the same port does not start."""
    with serving(Cache(Ledger()), []) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        with pytest.raises(OSError, match="in use"):
            MetricsServer("127.0.0.1", port, Cache(Ledger()), content_type="", on_error=lambda _error: None)
