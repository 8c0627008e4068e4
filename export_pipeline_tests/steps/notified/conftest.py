"""Fixtures: such an export, and one whose first listing is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from export_pipeline_tests.steps.notified.export import Export
from export_pipeline_tests.steps.notified.memory_queue import MemoryQueue


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Export]:
    """An export that learns of new files from messages."""
    made = Export(tmp_path, ledger_url, MemoryQueue())
    yield made
    made.ledger.close()


@pytest.fixture
def listed(export: Export) -> Export:
    """One whose first listing, of an empty bucket, is done."""
    export.run()
    return export
