"""The tables of people: accounts, what lets them in, how often they tried, and what they did."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from llm_installer.studio.plain import Json
from llm_installer.studio.store.tables import NUMBER, Table


class Account(Table):
    """Somebody who may sign in."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """The owner of jobs and files."""
    name: Mapped[str] = mapped_column(String(64), unique=True)
    """Lower case."""
    role: Mapped[str] = mapped_column(String(16))
    """A name of access.rights.ROLES."""
    password: Mapped[str]
    """Hash of Argon2, with its salt and its costs."""
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime | None]
    off: Mapped[bool] = mapped_column(Boolean, default=False)
    """Nobody signs in with it, and its keys are worth nothing; its jobs stay."""


class Session(Table):
    """A browser that is signed in; only the hash of what its cookie holds is kept."""

    __tablename__ = "sessions"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    address: Mapped[str] = mapped_column(String(64))
    """From where it signed in."""


class Key(Table):
    """A key of a program; only its hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    start: Mapped[str] = mapped_column(String(16))
    """Its first letters, by which its owner knows it again."""
    scope: Mapped[str] = mapped_column(String(16))
    """A name of access.rights.SCOPES."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class Link(Table):
    """A link that can be used once: to make an account, or to choose a new password; only its hash is kept."""

    __tablename__ = "links"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    """first, invite or reset."""
    role: Mapped[str] = mapped_column(String(16))
    """Of the account that is made with it."""
    account_id: Mapped[str | None] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    """Whose password is chosen with it."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Tries(Table):
    """How often something was done that may not be done often: tries to sign in, and what quotas count."""

    __tablename__ = "tries"

    key: Mapped[str] = mapped_column(String(160), primary_key=True)
    count: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime]
    """The last try; of a quota, when its hour or day began."""
    wait_until: Mapped[datetime | None]


class Audit(Table):
    """Who did what, when, from where. Rows are added, and deleted after a year (access/audit.py)."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_who", "who", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    who: Mapped[str] = mapped_column(String(64))
    """The name of an account, also after it is gone."""
    how: Mapped[str] = mapped_column(String(80))
    """By which session or key."""
    what: Mapped[str] = mapped_column(String(80))
    about: Mapped[str]
    """Of which job, file, account or key; never a secret."""
    address: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer)
    """As HTTP answered."""


class Setting(Table):
    """A value that an administrator has chosen."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[Json]
    """{"value": ...}"""
