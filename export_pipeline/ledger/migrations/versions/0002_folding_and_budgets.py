"""Old days can be folded, subscribers have a time budget, and no query of a run scans a whole table."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Upgrade to this version. Columns are only added, empty, so that no table is copied however large it is."""
    op.add_column("sources", sa.Column("folded_before", sa.Date(), nullable=True))
    op.add_column("manifests", sa.Column("folded_at", sa.DateTime(), nullable=True))
    op.add_column("subscriptions", sa.Column("spent_run_id", sa.String(length=64), nullable=True))
    op.add_column("subscriptions", sa.Column("spent_seconds", sa.Float(), nullable=True))
    op.create_index("ix_manifests_read_at", "manifests", ["source_id", "read_at"])
    _partial_index("ix_manifests_not_folded", "manifests", ["source_id", "day"], "folded_at IS NULL")
    _partial_index("ix_manifests_unreadable", "manifests", ["source_id"], "read_attempts > 0")
    op.create_index("ix_deliveries_last_run_id", "deliveries", ["last_run_id"])
    op.create_table(
        "folded",
        sa.Column("manifest_id", sa.String(length=32), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("first_key", KEY, nullable=False),
        sa.Column("last_key", KEY, nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("first_modified", sa.DateTime(), nullable=False),
        sa.Column("fingerprints", sa.LargeBinary(), nullable=False),
        sa.Column("batches", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"]),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.PrimaryKeyConstraint("manifest_id"),
    )
    op.create_index("ix_folded_day", "folded", ["source_id", "day", "first_key"])


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
