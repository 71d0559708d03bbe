"""Accounts, and the links that make one or change its password."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session as Transaction

from llm_installer.studio.access.rights import ADMIN, ROLES
from llm_installer.studio.store.account_tables import Account, Key, Link, Session
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed, Refused, Unknown

FIRST, INVITE, RESET = "first", "invite", "reset"
LASTS = {FIRST: timedelta(hours=24), INVITE: timedelta(days=7), RESET: timedelta(hours=1)}
"""How long each kind of link can be used."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,62}[a-z0-9]|[a-z0-9]")


class BadName(Refused):
    """A name that no account can have."""

    status = 400
    code = "bad_name"


class NoLink(Refused):
    """A link that is none, was used, or is over."""

    status = 404
    code = "unknown_link"


def hash_of(secret: str) -> str:
    """What is kept of a secret that nobody could guess."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def checked_name(name: str) -> str:
    """The name of an account. Raises BadName."""
    plain = name.strip().lower()
    if not _NAME.fullmatch(plain):
        raise BadName("A name has letters from a to z, digits, and . _ - + @ between them, 64 at most")
    return plain


def by_name(session: Transaction, name: str) -> Account | None:
    """The account of that name."""
    return session.scalar(select(Account).where(Account.name == name.strip().lower()[:64]))


def find(session: Transaction, account_id: str) -> Account:
    """An account that nobody else changes until the transaction ends. Raises Unknown."""
    found = session.get(Account, account_id, with_for_update=True)
    if found is None:
        raise Unknown("There is no such account")
    return found


def listed(session: Transaction) -> Sequence[Account]:
    """All accounts, by name."""
    return session.scalars(select(Account).order_by(Account.name)).all()


def any_there(session: Transaction) -> bool:
    """Whether there is an account."""
    return session.scalar(select(Account.id).limit(1)) is not None


def make_link(store: Store, session: Transaction, kind: str, role: str, account_id: str | None = None) -> str:
    """The secret of a new link; older ones of the same kind for the same account, and older first ones, are over."""
    if role not in ROLES:
        raise NotAllowed(f"There is no role {role!r}")
    if kind != INVITE:
        session.execute(delete(Link).where(Link.kind == kind, Link.account_id == account_id))
    secret, now = secrets.token_urlsafe(32), store.now(session)
    session.execute(delete(Link).where(Link.expires_at < now))
    ends = now + LASTS[kind]
    session.add(
        Link(sha256=hash_of(secret), kind=kind, role=role, account_id=account_id, created_at=now, expires_at=ends)
    )
    return secret


def link_of(store: Store, session: Transaction, kind: str, secret: str) -> Link:
    """A link that can be used. Raises NoLink."""
    found = session.get(Link, hash_of(secret), with_for_update=True)
    if found is None or found.kind != kind or found.expires_at <= store.now(session):
        raise NoLink("This link was used already, is over, or was copied only in part; ask for a new one")
    if kind == FIRST and any_there(session):
        raise NoLink("There are accounts already; sign in, or ask an administrator for a link")
    return found


def make(store: Store, session: Transaction, link: Link, name: str, password: str) -> Account:
    """Make an account with a link, which is over then; `password` is its hash. Raises BadName."""
    plain = checked_name(name)
    taken = BadName(f"There is an account {plain!r} already; choose another name")
    if by_name(session, plain):
        raise taken
    made = Account(
        id=str(uuid.uuid4()),
        name=plain,
        role=link.role,
        password=password,
        created_at=store.now(session),
        seen_at=None,
        off=False,
    )
    session.add(made)
    try:
        session.flush()
    except IntegrityError:  # on Postgres somebody else can take the name at the same moment
        raise taken from None
    session.delete(link)
    session.flush()
    return made


def set_password(session: Transaction, account: Account, password: str, but: str = "") -> None:
    """Change the password to another hash: every session ends but one, and so do links to change it."""
    account.password = password
    session.execute(delete(Session).where(Session.account_id == account.id, Session.sha256 != but))
    session.execute(delete(Link).where(Link.account_id == account.id))


def change(session: Transaction, account_id: str, role: str, off: bool) -> Account:
    """Give an account a role, or switch it off. Raises NotAllowed where no administrator would be left."""
    admins = select(Account.id).where(Account.role == ADMIN, Account.off.is_(False)).order_by(Account.id)
    count = len(session.scalars(admins.with_for_update()).all())  # locked: two could switch each other off
    account = find(session, account_id)
    if role not in ROLES:
        raise NotAllowed(f"There is no role {role!r}")
    was_admin = account.role == ADMIN and not account.off
    if was_admin and (role != ADMIN or off) and count < 2:
        raise NotAllowed("This is the only administrator; make another one first")
    if off:
        session.execute(delete(Session).where(Session.account_id == account.id))
        session.execute(delete(Link).where(Link.account_id == account.id))
    if role != account.role:  # what a key was allowed may be more than the new role is
        session.execute(delete(Key).where(Key.account_id == account.id))
    account.role, account.off = role, off
    return account
