"""How the tests of the steps find and group files."""

from datetime import date, timedelta

from export_pipeline.ledger.records import PlanLimits
from export_pipeline.source.layout import Layout
from export_pipeline.steps.discover import DiscoverySettings


def search_settings(layout: Layout) -> DiscoverySettings:
    """Everything from 2020 on, for subscribers from the beginning on, a hundred files in a manifest."""
    return DiscoverySettings(
        layout=layout,
        start_date=date(2020, 1, 1),
        lookback=timedelta(hours=26),
        on_overwrite="read",
        start_from="beginning",
        limits=PlanLimits(max_events=10_000, max_bytes=1 << 22, manifest_max_files=100, manifest_max_bytes=1 << 28),
        prefix="",
    )
