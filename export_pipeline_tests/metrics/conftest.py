"""Figures to be shown as metrics."""

from datetime import datetime, timezone

import pytest

from export_pipeline.ledger.counters import Counters
from export_pipeline.ledger.figures import ExportFigures, SubscriberFigures
from export_pipeline.metrics.catalogue import Measured, metrics_of

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
SINCE = datetime(2026, 11, 1, tzinfo=timezone.utc)


def subscriber(name: str, *, lag_seconds: float = 0.0, **counted: int) -> SubscriberFigures:
    return SubscriberFigures(
        name=name,
        lag_seconds=lag_seconds,
        owed_files=3 if lag_seconds else 0,
        owed_bytes=300 if lag_seconds else 0,
        is_failing=lag_seconds > 0,
        is_blocked=False,
        succeeded_at=None if lag_seconds else NOW,
        counters=Counters(call_seconds=0.25, **counted),
        counted_since=SINCE,
    )


@pytest.fixture
def figures() -> ExportFigures:
    """crm has everything, dwh fails."""
    return ExportFigures(
        subscribers=(subscriber("crm", delivered_events=1_000, calls=4), subscriber("dwh", lag_seconds=90.5, calls=3)),
        records={("stretch", "", "kept"): 2, ("refused", "crm", "dismissed"): 1},
        unreadable_files=1,
        listed_at=NOW,
        more_to_list=False,
        run_ended_at=NOW,
        run_succeeded_at=SINCE,
    )


@pytest.fixture
def measured(figures: ExportFigures) -> list[Measured]:
    return metrics_of(figures, deployment="production", version="1.2.3")
