"""What was delivered to each subscriber, counted for metrics, and how the last run of the export ended."""

from datetime import datetime, timezone

import sqlalchemy as sa
from alembic import op

from export_pipeline.ledger.tables import UtcDateTime

revision = "0011"
down_revision = "0010"

_COUNTERS = (
    "delivered_events",
    "delivered_bytes",
    "delivered_batches",
    "refused_events",
    "filtered_events",
    "calls",
    "retries",
    "failed_attempts",
)


def upgrade() -> None:
    """Go to this version. The counters start at zero: calls and retries of the past are not known."""
    for name in _COUNTERS:
        op.add_column("subscriptions", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("subscriptions", sa.Column("call_seconds", sa.Float(), nullable=False, server_default="0"))
    op.add_column("subscriptions", sa.Column("counted_since", UtcDateTime(), nullable=True))
    since = sa.table("subscriptions", sa.column("counted_since", UtcDateTime()))
    op.execute(since.update().values(counted_since=datetime.now(timezone.utc)))
    for name in ("run_ended_at", "run_succeeded_at"):
        op.add_column("sources", sa.Column(name, UtcDateTime(), nullable=True))
    op.create_index("ix_quarantined_counts", "quarantined", ["source_id", "kind", "subscriber", "state", "records"])
