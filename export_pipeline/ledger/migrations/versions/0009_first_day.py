"""The day of the first file that a source has, at which the partitions of its assets begin."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Upgrade to this version. The next run finds the day, with one request."""
    op.add_column("sources", sa.Column("first_day", sa.Date(), nullable=True))
