"""Accounts, sessions, keys, links, tries, the audit log, settings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """From a studio of one person."""
    _accounts()
    op.create_table(
        "tries",
        sa.Column("key", sa.String(160), primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("wait_until", sa.DateTime()),
    )
    op.create_table(
        "audit",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.DateTime(), nullable=False),
        *(sa.Column(name, sa.String(most), nullable=False) for name, most in (("who", 64), ("how", 80), ("what", 80))),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_who", "audit", ["who", "id"])
    op.create_table(
        "settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    """Jobs and files stay."""
    for name in ("settings", "audit", "tries", "links", "api_keys", "sessions", "accounts"):
        op.drop_table(name)


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("seen_at", sa.DateTime()),
        sa.Column("off", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
    )
    op.create_table(
        "sessions",
        sa.Column("sha256", sa.String(64), primary_key=True),
        _account(),
        *(sa.Column(name, sa.DateTime(), nullable=False) for name in ("created_at", "seen_at", "expires_at")),
        sa.Column("address", sa.String(64), nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        _account(),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("start", sa.String(16), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        *(sa.Column(name, sa.DateTime()) for name in ("expires_at", "used_at")),
        sa.UniqueConstraint("sha256", name="uq_api_keys_sha256"),
    )
    op.create_table(
        "links",
        sa.Column("sha256", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.String(16), nullable=False) for name in ("kind", "role")),
        _account(nullable=True),
        *(sa.Column(name, sa.DateTime(), nullable=False) for name in ("created_at", "expires_at")),
    )
    for table in ("sessions", "api_keys", "links"):
        op.create_index(f"ix_{table}_account_id", table, ["account_id"])


def _account(nullable: bool = False) -> sa.Column[str]:
    return sa.Column("account_id", sa.String(36), sa.ForeignKey("accounts.id", ondelete="CASCADE"), nullable=nullable)
