"""The days that backfills request, so that none is lost when Dagster drops a run, and their subscribers are fixed."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Upgrade to this version."""
    op.create_table(
        "backfill_days",
        sa.Column("source_url", sa.Text(), primary_key=True),
        sa.Column("backfill_id", sa.String(64), primary_key=True),
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("subscribers", sa.Text(), nullable=False),
        sa.Column("again", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.DateTime(), nullable=False),
        sa.Column("settled_at", sa.DateTime(), nullable=True),
    )
    op.create_index(
        "ix_backfill_days_unsettled",
        "backfill_days",
        ["source_url", "day"],
        sqlite_where=sa.text("settled_at IS NULL"),
        postgresql_where=sa.text("settled_at IS NULL"),
    )
