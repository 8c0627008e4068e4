"""When an unreadable file was last tried: it is given up only while other files can be read."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Upgrade to this version."""
    op.add_column("manifests", sa.Column("tried_at", sa.DateTime(), nullable=True))
