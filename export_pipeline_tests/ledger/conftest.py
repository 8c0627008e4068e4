"""Every test of the ledger runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from export_pipeline.ledger.database import Ledger


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger, in a file and then in PostgreSQL."""
    opened = Ledger(ledger_url)
    yield opened
    opened.close()
