"""When a file that cannot be read was tried last: it is given up only while others can be read."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go to this version."""
    op.add_column("manifests", sa.Column("tried_at", sa.DateTime(), nullable=True))
