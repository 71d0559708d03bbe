"""Tokens for one job: whoever has one may report on that job and read its data, and nothing else.

The notebook's pairing calls `make(..., PAIRING, seconds=600)` for the code that a person types, and `exchange` to get a
job token for it, once.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy.orm import Session

from llm_installer.studio.states import ENDED
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.tables import Job, Token

PAIRING, JOB = "pairing", "job"
_LETTERS = "BCDFGHJKMPQRTVWXY2346789"
"""None that looks like another, and none that make words."""


def make(store: Store, session: Session, job_id: str, kind: str = JOB, seconds: float | None = None) -> str:
    """A new token of a job; what is returned is kept nowhere. A pairing code is ten letters, to be typed."""
    secret = secrets.token_urlsafe(32) if kind == JOB else "".join(secrets.choice(_LETTERS) for _ in range(10))
    now = store.now(session)
    ends = now + timedelta(seconds=seconds) if seconds is not None else None
    session.add(Token(sha256=_hash(secret), job_id=job_id, kind=kind, created_at=now, expires_at=ends))
    return secret


def job_of(store: Store, session: Session, secret: str, kind: str = JOB) -> str | None:
    """The id of the job that a token is for; None where it is none, is over, or its job has ended."""
    token = session.get(Token, _hash(secret))
    if token is None or token.kind != kind or (token.expires_at and token.expires_at <= store.now(session)):
        return None
    if kind == PAIRING and token.used_at:
        return None
    job = session.get(Job, token.job_id)
    return job.id if job and job.state not in ENDED else None


def exchange(store: Store, session: Session, code: str) -> tuple[str, str] | None:
    """(id of the job, a new job token) for a pairing code, which is worth nothing afterwards; None for a wrong one."""
    plain = "".join(code.upper().split()).replace("-", "")
    token = session.get(Token, _hash(plain), with_for_update=True)
    if token is None or (job_id := job_of(store, session, plain, PAIRING)) is None:
        return None
    token.used_at = store.now(session)
    return job_id, make(store, session, job_id)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
