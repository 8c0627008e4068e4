"""The ledger knows up to which key a source was listed, and has an identity that no other ledger has."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Upgrade to this version. Without a frontier the next run lists the source from its start, once."""
    op.add_column("sources", sa.Column("frontier", KEY, nullable=True))
    op.add_column("sources", sa.Column("complete_at", sa.DateTime(), nullable=True))
    op.add_column("sources", sa.Column("start_date", sa.Date(), nullable=True))
    op.add_column("subscriptions", sa.Column("is_blocked", sa.Boolean(), nullable=False, server_default=sa.false()))
    identity = op.create_table(
        "identity",
        sa.Column("n", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("id", sa.String(32), nullable=False),
    )
    op.bulk_insert(identity, [{"n": 1, "id": uuid4().hex}])
