"""Files, jobs, events and tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import SchemaItem

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "files",
        sa.Column("id", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("name",)),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
    )
    op.create_table("jobs", *_job())
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])
    op.create_index("ix_jobs_waiting", "jobs", ["state", "priority", "created_at"])
    op.create_table(
        "events",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        _of_a_job(),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("level", sa.String(8), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_job", "events", ["job_id", "id"])
    op.create_table(
        "tokens",
        sa.Column("sha256", sa.String(64), primary_key=True),
        _of_a_job(),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        *(sa.Column(name, sa.DateTime()) for name in ("expires_at", "used_at")),
    )
    op.create_index("ix_tokens_job_id", "tokens", ["job_id"])


def downgrade() -> None:
    """Nothing is older."""


def _of_a_job() -> sa.Column[str]:
    return sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False)


def _job() -> list[SchemaItem]:
    return [
        sa.Column("id", sa.String(36), primary_key=True),
        *(sa.Column(name, sa.DateTime(), nullable=False) for name in ("created_at", "updated_at")),
        *(sa.Column(name, sa.DateTime()) for name in ("started_at", "finished_at", "lease_until")),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("model", "suffix", "worker", "error", "run")),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("options", "result", "predicted", "measured")),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("file_id", sa.String(64), sa.ForeignKey("files.id")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("priority", "progress", "attempt")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("step", "steps")),
        sa.Column("seed", sa.BigInteger()),
        *(sa.Column(name, sa.String(16), nullable=False) for name in ("engine", "state")),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("idempotency_body", sa.String(64), nullable=False),
        sa.UniqueConstraint("owner", "idempotency_key", name="uq_jobs_owner_key"),
    ]
