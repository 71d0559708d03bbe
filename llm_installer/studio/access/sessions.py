"""What shows who asks: the sessions of browsers, and the keys of programs. Their secrets are kept as hashes alone."""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Transaction

from llm_installer.studio.access.accounts import hash_of
from llm_installer.studio.access.rights import scopes_of
from llm_installer.studio.access.who import Who
from llm_installer.studio.plain import KEY
from llm_installer.studio.store.account_tables import Account, Key, Session
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed, Unknown

IDLE, LONGEST = timedelta(hours=12), timedelta(days=30)
"""A session ends after so long without a request, and after so long in any case."""
SEEN_EVERY = timedelta(minutes=5)
KEYS = 50
"""Keys of an account."""


def begin(store: Store, session: Transaction, account: Account, address: str) -> str:
    """The secret of a new session."""
    secret, now = secrets.token_urlsafe(32), store.now(session)
    session.execute(delete(Session).where(Session.expires_at < now))
    session.add(
        Session(
            sha256=hash_of(secret),
            account_id=account.id,
            created_at=now,
            seen_at=now,
            expires_at=now + LONGEST,
            address=address,
        )
    )
    account.seen_at = now
    return secret


def by_session(store: Store, secret: str) -> Who | None:
    """Who has signed in with a cookie; None where it is worth nothing."""
    digest = hash_of(secret)
    with store.reading() as session:
        found = session.get(Session, digest)
        now = store.now(session)
        account = session.get(Account, found.account_id) if found and _lives(found, now) else None
    if found is None or account is None or account.off:
        return None
    if now - found.seen_at > SEEN_EVERY:
        with store.writing() as session:
            if (row := session.get(Session, digest)) and (owner := session.get(Account, account.id)):
                row.seen_at = owner.seen_at = now
    how = f"session {digest[:8]}"
    return Who(account.id, account.name, account.role, how=how, form_token=form_token(secret), session=digest)


def _lives(found: Session, now: datetime) -> bool:
    return found.expires_at > now and now - found.seen_at <= IDLE


def form_token(secret: str) -> str:
    """What the forms of a session hold. Who knows it cannot say the secret from it."""
    return hmac.new(secret.encode(), b"forms", "sha256").hexdigest()[:40]


def end(store: Store, digest: str) -> None:
    """Sign out."""
    with store.writing() as session:
        session.execute(delete(Session).where(Session.sha256 == digest))


def end_of(session: Transaction, account_id: str, digest: str) -> None:
    """End one session of an account; nothing happens to those of others."""
    session.execute(delete(Session).where(Session.account_id == account_id, Session.sha256 == digest))


def of_account(store: Store, session: Transaction, account_id: str) -> Sequence[Session]:
    """Sessions of an account that have not ended, the newest first."""
    found = session.scalars(select(Session).where(Session.account_id == account_id).order_by(Session.seen_at.desc()))
    now = store.now(session)
    return [one for one in found if _lives(one, now)]


def make_key(store: Store, session: Transaction, who: Who, name: str, scope: str, days: int) -> tuple[Key, str]:
    """(a new key, its secret, which is told once). Raises NotAllowed."""
    if scope not in scopes_of(who.role):
        raise NotAllowed(f"A key of yours cannot be for {scope!r}")
    if len(keys_of(session, who.id)) >= KEYS:
        raise NotAllowed(f"You have {KEYS} keys; revoke one first")
    secret, now = f"{KEY}{secrets.token_urlsafe(32)}", store.now(session)
    key = Key(
        id=str(uuid.uuid4()),
        sha256=hash_of(secret),
        account_id=who.id,
        name=" ".join(name.split())[:64] or "without a name",
        start=secret[: len(KEY) + 4],
        scope=scope,
        created_at=now,
        expires_at=now + timedelta(days=days) if days else None,
        used_at=None,
    )
    session.add(key)
    return key, secret


def by_key(store: Store, secret: str) -> Who | None:
    """Whose a key is; None where it is none, was revoked, or is over."""
    if not secret.startswith(KEY):
        return None
    with store.reading() as session:
        key, now = session.scalar(select(Key).where(Key.sha256 == hash_of(secret))), store.now(session)
        account = session.get(Account, key.account_id) if key else None
    if key is None or account is None or account.off or (key.expires_at and key.expires_at <= now):
        return None
    if key.used_at is None or now - key.used_at > SEEN_EVERY:
        with store.writing() as session:
            if row := session.get(Key, key.id):
                row.used_at = now
    return Who(account.id, account.name, account.role, scope=key.scope, how=f"key {key.start}, {key.name}"[:80])


def keys_of(session: Transaction, account_id: str) -> Sequence[Key]:
    """Keys of an account, the newest first."""
    return session.scalars(select(Key).where(Key.account_id == account_id).order_by(Key.created_at.desc())).all()


def revoke(session: Transaction, account_id: str, key_id: str) -> Key:
    """Revoke a key of an account. Raises Unknown."""
    key = session.get(Key, key_id)
    if key is None or key.account_id != account_id:
        raise Unknown("You have no such key")
    session.delete(key)
    return key
