"""The page of administrators: everybody's accounts, invitations, what each role may do, and limits."""

from __future__ import annotations

from fastapi import APIRouter, Form, Request, Response
from starlette.concurrency import run_in_threadpool

from llm_installer.studio.access import accounts
from llm_installer.studio.access.accounts import INVITE, RESET
from llm_installer.studio.access.rights import MEMBER, ROLES, TABLE
from llm_installer.studio.access.sign_in import given_in
from llm_installer.studio.context import Studio
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.store import quotas
from llm_installer.studio.store.quotas import QUOTAS

MOST = 1_000_000


def router_of(studio: Studio) -> APIRouter:
    """The routes of this page."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/people")

    @router.get("")
    def look() -> Response:
        return _page(studio)

    @router.post("/invite")
    def invite(request: Request, role: str = Form(MEMBER, max_length=16)) -> Response:
        with studio.store.writing() as session:
            secret = accounts.make_link(studio.store, session, INVITE, role)
        request.state.about = role
        return _page(studio, f"{_address(studio, request)}/{INVITE}/{secret}", f"for one new account, as {role}")

    @router.post("/limits")
    async def limits(request: Request) -> Response:
        form = await given_in(request)
        chosen = {one.name: form.get(one.name, "") for one in QUOTAS}
        numbers = {name: int(text) for name, text in chosen.items() if text.isascii() and text.isdigit()}
        await run_in_threadpool(_choose, studio, {name: min(number, MOST) for name, number in numbers.items()})
        request.state.about = ", ".join(f"{name} {number}" for name, number in numbers.items())
        return to("/people")

    @router.post("/{account_id}/reset")
    def reset(request: Request, account_id: str) -> Response:
        with studio.store.writing() as session:
            account = accounts.find(session, account_id)
            secret = accounts.make_link(studio.store, session, RESET, account.role, account.id)
        request.state.about = account.name
        return _page(studio, f"{_address(studio, request)}/{RESET}/{secret}", f"for a new password of {account.name}")

    @router.post("/{account_id}")
    def change(request: Request, account_id: str, role: str = Form(max_length=16), off: str = Form("")) -> Response:
        with studio.store.writing() as session:
            account = accounts.change(session, account_id, role, bool(off))
        request.state.about = f"{account.name}: {role}{', off' if off else ''}"
        return to("/people")

    return router


def _choose(studio: Studio, chosen: dict[str, int]) -> None:
    with studio.store.writing() as session:
        quotas.choose(session, chosen)


def _address(studio: Studio, request: Request) -> str:
    """How the administrator's own browser reaches this server; the gate has looked at the name."""
    return studio.settings.public_url.rstrip("/") or f"http://{request.headers['host']}"


def _page(studio: Studio, link: str = "", words: str = "") -> Response:
    """The page; with a new link, which is shown this once."""
    with studio.store.reading() as session:
        found, limits = accounts.listed(session), quotas.values(session)
    rows = [(right.words, [name in right.roles for name in ROLES]) for right in TABLE]
    values = {"accounts": found, "roles": ROLES, "rights": rows, "limits": [(one, limits[one.name]) for one in QUOTAS]}
    return drawn("people.html", here="People", link=link, link_words=words, **values)
