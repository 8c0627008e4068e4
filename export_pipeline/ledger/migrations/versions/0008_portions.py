"""What a subscriber has of a batch that it took in part, so that the next run sends only the rest."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "portions",
        sa.Column("manifest_id", sa.String(32), sa.ForeignKey("manifests.id"), primary_key=True),
        sa.Column("subscription_id", sa.Integer(), sa.ForeignKey("subscriptions.id"), primary_key=True),
        sa.Column("round", sa.Integer(), primary_key=True),
        sa.Column("n", sa.Integer(), primary_key=True),
        sa.Column("step", sa.Integer(), primary_key=True),
        sa.Column("steps", sa.LargeBinary(), nullable=False),
    )
