"""Passwords: hashed with Argon2, two at a time, since each takes 64 MiB; and what a password must be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from llm_installer.studio.store.refusals import Refused

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")
SHORTEST, LONGEST = 10, 500
WAITING = 64
"""Hashes that may wait for their turn."""
_POOL = ThreadPoolExecutor(2, thread_name_prefix="argon2")


class BadPassword(Refused):
    """A password that cannot be one here."""

    status = 400
    code = "bad_password"


class Busy(Refused):
    """Too many want in at the same time."""

    status = 503
    code = "busy"


def checked(password: str, name: str = "") -> str:
    """A new password. Raises BadPassword."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadPassword(f"A password has from {SHORTEST} to {LONGEST} characters; several words are easy to remember")
    if len(set(password)) < 5 or (name and password.lower().replace(name, "").strip(" 0123456789-_.!") == ""):
        raise BadPassword("This password is too easy to guess; take several words that do not belong together")
    return password


async def hashed(password: str) -> str:
    """The hash of a new password."""
    return await _in_turn(lambda: _hasher().hash(password.encode("utf-8", "surrogatepass")))


async def matches(kept: str | None, password: str) -> bool:
    """Whether a password is the one whose hash is kept; as slow where there is none."""
    return await _in_turn(lambda: _matches(kept, password))


def _matches(kept: str | None, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    given = password[: LONGEST + 1].encode("utf-8", "surrogatepass")
    try:
        return _hasher().verify(kept or _nobodys(), given) and kept is not None
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys() -> str:
    return _hasher().hash("nobody")


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # only a studio with accounts needs it

    return PasswordHasher()


async def _in_turn(work: Callable[[], T]) -> T:
    if _POOL._work_queue.qsize() >= WAITING:
        raise Busy("Many people are signing in; try again in a few seconds")
    return await asyncio.get_running_loop().run_in_executor(_POOL, work)
