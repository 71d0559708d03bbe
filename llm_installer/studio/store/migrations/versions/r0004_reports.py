"""How many events of its attempt a job has, and the engine that it was made for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """From jobs that keep neither."""
    op.add_column("jobs", sa.Column("heard", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("made_for", sa.String(16), nullable=False, server_default=""))
    op.execute("UPDATE jobs SET made_for = engine")


def downgrade() -> None:
    """Nothing else refers to them."""
    with op.batch_alter_table("jobs") as jobs:
        for name in ("heard", "made_for"):
            jobs.drop_column(name)
