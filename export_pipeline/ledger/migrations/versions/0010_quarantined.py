"""What the quarantine keeps of each file, and what happened to it."""

import sqlalchemy as sa
from alembic import op

from export_pipeline.ledger.tables import UtcDateTime, key_type

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "quarantined",
        sa.Column("source_id", sa.Integer(), sa.ForeignKey("sources.id"), primary_key=True),
        sa.Column("name", sa.String(256), primary_key=True),
        sa.Column("key", key_type(), primary_key=True),
        sa.Column("state", sa.String(12), primary_key=True),
        sa.Column("manifest_id", sa.String(32), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("subscriber", sa.String(64), nullable=False),
        sa.Column("etag", sa.String(256), nullable=False),
        sa.Column("first_offset", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("kept_at", UtcDateTime(), nullable=False),
        sa.Column("kept_by", sa.String(128), nullable=False),
        sa.Column("changed_at", UtcDateTime()),
        sa.Column("changed_by", sa.String(128)),
        sa.Column("why", sa.Text()),
    )
    op.create_index("ix_quarantined_day", "quarantined", ["source_id", "day"])
    op.create_index("ix_quarantined_key", "quarantined", ["source_id", "key"])
    op.create_index("ix_quarantined_manifest_id", "quarantined", ["manifest_id"])
