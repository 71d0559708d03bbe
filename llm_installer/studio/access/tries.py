"""How often one may try to get in: counted before it is tried, so that many tries at once are no way around it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from llm_installer.studio.access.accounts import hash_of
from llm_installer.studio.store.account_tables import Tries
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import Refused


@dataclass(frozen=True)
class Limit:
    """Tries that are free; each one after them waits twice as long as the one before."""

    name: str
    free: int
    first: float = 5.0
    """Seconds of the first wait."""
    most: float = 900.0
    """And of the longest."""


SIGN_IN = (Limit("name and address", 4), Limit("address", 20), Limit("name", 60))
"""Somebody who guesses from one place waits soon; who does it from many places does not keep the owner out for long."""
LINKS = Limit("link", 20)
FORGOTTEN = timedelta(hours=12)
"""After so long without a try it is as if there had been none."""


class TooOften(Refused):
    """Too many tries."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"That was tried too often; try again in {waited(seconds)}")
        self.seconds = seconds


def waited(seconds: float) -> str:
    """A wait, as people say it."""
    count = int(seconds) + 1
    return f"{count} seconds" if count <= 90 else f"{count // 60 + 1} minutes"


def count(store: Store, keys: Iterable[tuple[Limit, str]]) -> None:
    """Count a try for each key. Raises TooOften, and counts none, where one of them has to wait."""
    keys = sorted(((limit, _key(limit, of)) for limit, of in keys), key=lambda one: one[1])
    try:
        _count(store, keys)
    except IntegrityError:  # on Postgres another one can have come first
        _count(store, keys)


def _count(store: Store, keys: Iterable[tuple[Limit, str]]) -> None:
    with store.writing() as session:
        now = store.now(session)
        for limit, key in keys:
            row = session.get(Tries, key, with_for_update=True)
            if row is None:
                session.add(row := Tries(key=key, count=0, at=now, wait_until=None))
            if row.wait_until and row.wait_until > now:
                raise TooOften((row.wait_until - now).total_seconds())
            row.count = 1 if now - row.at > FORGOTTEN else row.count + 1
            row.at = now
            if (over := row.count - limit.free) > 0:
                row.wait_until = now + timedelta(seconds=min(limit.most, limit.first * 2.0 ** min(over - 1, 20)))
            session.flush()


def forget(store: Store, keys: Iterable[tuple[Limit, str]], one_less: tuple[Limit, str] | None = None) -> None:
    """It worked: what was tried before is forgotten, and this one try of a key that stays was none."""
    with store.writing() as session:
        session.execute(delete(Tries).where(Tries.key.in_([_key(*one) for one in keys])))
        if one_less and (row := session.get(Tries, _key(*one_less), with_for_update=True)):
            row.count, row.wait_until = max(0, row.count - 1), None


def _key(limit: Limit, of: str) -> str:
    return f"{limit.name}|{hash_of(of)[:40]}"  # people also type a password where a name should be
