"""How far a source has been listed, for sources that announce new files by notifications."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Upgrade to this version."""
    op.add_column("sources", sa.Column("listed_at", sa.DateTime(), nullable=True))
    op.add_column("sources", sa.Column("listing_began_at", sa.DateTime(), nullable=True))
    op.add_column("sources", sa.Column("listing_after", KEY, nullable=True))
