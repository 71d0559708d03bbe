"""Who makes a request, by what it carries: the cookie of a session, a key, the token of a job, or the worker's own."""

from __future__ import annotations

import hmac
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import Scope

from llm_installer.server.request import LOOPBACK
from llm_installer.studio.access import sessions
from llm_installer.studio.access.rights import ADMIN, WORK
from llm_installer.studio.access.who import Who
from llm_installer.studio.store import tokens

if TYPE_CHECKING:
    from llm_installer.studio.context import Studio

PLAIN, SECURE = "studio", "__Host-studio"
"""Names of the cookie; a browser takes the second over https alone, and from this very host."""
THIS_MACHINE = Who("", "this machine", ADMIN, WORK, "its own worker")


def who_asks(studio: Studio, headers: Headers) -> Who | None:
    """Somebody who has shown who they are; None for who has not, or has shown something that is worth nothing."""
    if (given := headers.get("authorization")) is not None:
        kind, _, secret = given.partition(" ")
        return _by_secret(studio, secret.strip()) if kind.lower() == "bearer" else None
    cookie = cookie_parser(headers.get("cookie", "")).get(SECURE if secure(studio, headers) else PLAIN, "")
    return sessions.by_session(studio.store, cookie) if cookie else None


def _by_secret(studio: Studio, secret: str) -> Who | None:
    if hmac.compare_digest(secret.encode("utf-8", "replace"), studio.worker_key.encode()):
        return THIS_MACHINE
    if found := sessions.by_key(studio.store, secret):
        return found
    with studio.store.reading() as session:
        job = tokens.job_of(studio.store, session, secret)
    return Who("", "(a worker)", "", "", f"token of job {job}", job=job) if job else None


def still_there(studio: Studio, who: Who, headers: Headers) -> bool:
    """Whether the same request would be let in now; a stream that is open asks from time to time."""
    now = who_asks(studio, headers)
    return now is not None and (now.id, now.role, now.scope) == (who.id, who.role, who.scope)


def secure(studio: Studio, headers: Headers) -> bool:
    """Whether a request came by the public https address."""
    public = studio.settings.public_host
    return bool(public) and headers.get("host", "").lower() == public


def set_cookie(answer: Response, secret: str, https: bool) -> None:
    """Let a browser keep what shows who it is; an empty secret makes it forget."""
    answer.set_cookie(
        SECURE if https else PLAIN,
        secret,
        max_age=int(sessions.LONGEST.total_seconds()) if secret else 0,
        path="/",
        secure=https,
        httponly=True,
        samesite="strict",
    )


def address_of(studio: Studio, scope: Scope, headers: Headers) -> str:
    """From where a request comes: what the proxy on this machine says, where there is one, and nobody else."""
    client = scope.get("client") or ("", 0)
    peer = str(client[0])
    if studio.settings.public_url and peer in LOOPBACK:
        last = ",".join(headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
        try:
            return str(ip_address(last))
        except ValueError:
            return peer
    return peer


def network_of(address: str) -> str:
    """What counts as one place: an IPv4 address, or all that one IPv6 customer has."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    return str(ip_network(f"{found}/64", strict=False)) if found.version == 6 else str(found)
