"""Detects readings that killed their process, keeps their read limits, and lets parts of a manifest continue."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Upgrade to this version. Columns are only added, empty, so that no table is copied however large it is."""
    op.add_column("manifests", sa.Column("reading_run_id", sa.String(length=64), nullable=True))
    op.add_column("manifests", sa.Column("reading_deaths", sa.Integer(), nullable=True))
    op.add_column("manifests", sa.Column("read_limits", sa.Text(), nullable=True))
    op.add_column("manifests", sa.Column("events_of_files", sa.Text(), nullable=True))
    op.add_column("manifests", sa.Column("part_of", sa.String(length=32), nullable=True))
    op.add_column("manifests", sa.Column("part_files", sa.Text(), nullable=True))
    _partial_index("ix_manifests_troubled", "source_id", "last_error IS NOT NULL OR reading_run_id IS NOT NULL")
    _partial_index("ix_manifests_part_of", "part_of", "part_of IS NOT NULL")


def _partial_index(name: str, column: str, where: str) -> None:
    op.create_index(name, "manifests", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
