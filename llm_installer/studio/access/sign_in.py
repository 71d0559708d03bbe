"""The pages before one is known: sign in and out, and what a link is for (an account, or a new password)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from llm_installer.studio.access import accounts, passwords, sessions, tries
from llm_installer.studio.access.accounts import FIRST, INVITE, RESET, NoLink
from llm_installer.studio.access.entry import network_of, secure, set_cookie
from llm_installer.studio.access.rights import ROLES
from llm_installer.studio.access.tries import LINKS, SIGN_IN, TooOften
from llm_installer.studio.access.who import WHO, whoever
from llm_installer.studio.context import Studio
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.store.account_tables import Account
from llm_installer.studio.store.refusals import Refused

WRONG = "This name and this password do not belong together."
UNKNOWN = "(unknown name)"
"""Written into the audit log in the place of a name that no account has: people also type passwords there."""
FIELD = 4096
"""Bytes of a field."""


def router_of(studio: Studio) -> APIRouter:
    """The routes of these pages."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)

    @router.get("/sign-in")
    def form(request: Request, next: str = "") -> Response:
        if WHO.get():
            return to(local(next))
        if request.headers.get("sec-fetch-site") == "cross-site":  # the cookie stays at home when others link here
            return drawn("sign_in_again.html", next=local(next))
        return _form(next)

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        given = await given_in(request)
        account = await _let_in(studio, request, given)
        if isinstance(account, Response):
            return account
        return await _signed_in(studio, request, account, local(given.get("next", "")))

    @router.post("/sign-out")
    def sign_out(request: Request) -> Response:
        sessions.end(studio.store, whoever().session)
        answer = to("/sign-in")
        answer.headers["Clear-Site-Data"] = '"cache"'
        set_cookie(answer, "", secure(studio, request.headers))
        return answer

    _links(router, studio)
    return router


def local(path: str) -> str:
    """A page of this server; the first one for anything else."""
    plain = path.isprintable() and "\\" not in path and path.startswith("/") and not path.startswith("//")
    return path if plain and not path.startswith("/sign-") else "/models"


async def given_in(request: Request) -> dict[str, str]:
    """The texts of a short form."""
    async with request.form(max_files=1, max_fields=8, max_part_size=FIELD) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def _form(wanted: str, name: str = "", problem: str = "", status: int = 200) -> Response:
    answer = drawn("sign_in.html", next=local(wanted), name=name[:64], problem=problem)
    answer.status_code = status
    return answer


async def _let_in(studio: Studio, request: Request, given: dict[str, str]) -> Account | Response:
    """The account that a name and its password belong to, else the page that says no."""
    name, place = given.get("name", "").strip().lower()[:64], network_of(str(request.scope["address"]))
    keys = list(zip(SIGN_IN, (f"{name} {place}", place, name), strict=True))
    account = await run_in_threadpool(_account, studio, name)
    request.state.who = account.name if account else UNKNOWN
    try:
        await run_in_threadpool(tries.count, studio.store, keys)
    except TooOften as error:
        answer = _form(given.get("next", ""), name, f"{error}.", error.status)
        answer.headers["Retry-After"] = str(int(error.seconds) + 1)
        return answer
    right = await passwords.matches(account.password if account else None, given.get("password", ""))
    if account is None or not right or account.off:
        return _form(given.get("next", ""), name, WRONG, 401)
    await run_in_threadpool(tries.forget, studio.store, [keys[0], keys[2]], keys[1])
    return account


def _account(studio: Studio, name: str) -> Account | None:
    with studio.store.reading() as session:
        return accounts.by_name(session, name)


async def _signed_in(studio: Studio, request: Request, account: Account, path: str) -> Response:
    """On to a page, with a new session; the one before is over."""

    def begin() -> str:
        with studio.store.writing() as session:
            return sessions.begin(studio.store, session, accounts.find(session, account.id), request.scope["address"])

    if (who := WHO.get()) and who.session:
        await run_in_threadpool(sessions.end, studio.store, who.session)
    answer = to(path)
    set_cookie(answer, await run_in_threadpool(begin), secure(studio, request.headers))
    return answer


def _links(router: APIRouter, studio: Studio) -> None:
    for kind in (FIRST, INVITE, RESET):
        router.add_api_route(f"/{kind}/{{token}}", _showing(studio, kind), methods=["GET"])
        router.add_api_route(f"/{kind}/{{token}}", _using(studio, kind), methods=["POST"])


def _showing(studio: Studio, kind: str) -> Callable[[str], Response]:
    def show(token: str) -> Response:
        return _link_page(kind, *_about(studio, kind, token))

    return show


def _using(studio: Studio, kind: str) -> Callable[[Request, str], Awaitable[Response]]:
    async def use(request: Request, token: str) -> Response:
        given, place = await given_in(request), network_of(str(request.scope["address"]))
        await run_in_threadpool(tries.count, studio.store, [(LINKS, place)])
        role, name = await run_in_threadpool(_about, studio, kind, token)
        try:
            account = await _by_link(studio, kind, token, given)
        except NoLink:
            raise
        except Refused as error:
            answer = _link_page(kind, role, name, given.get("name", ""), f"{error}.")
            answer.status_code = error.status
            return answer
        request.state.who = account.name
        await run_in_threadpool(tries.forget, studio.store, [(LINKS, place)])
        return await _signed_in(studio, request, account, "/models")

    return use


def _about(studio: Studio, kind: str, token: str) -> tuple[str, str]:
    """(the role of the account that a link makes, the name of the one whose password it changes). Raises NoLink."""
    with studio.store.writing() as session:
        link = accounts.link_of(studio.store, session, kind, token)
        return link.role, accounts.find(session, link.account_id).name if link.account_id else ""


async def _by_link(studio: Studio, kind: str, token: str, given: dict[str, str]) -> Account:
    """Do what a link is for. Raises NoLink, and Refused for a name or a password that cannot be."""
    name = "" if kind == RESET else accounts.checked_name(given.get("name", ""))
    password = passwords.checked(given.get("password", ""), name)
    if given.get("again") != password:
        raise passwords.BadPassword("The two passwords are not the same")
    hashed = await passwords.hashed(password)
    return await run_in_threadpool(_changed, studio, (kind, token), name, hashed)


def _changed(studio: Studio, used: tuple[str, str], name: str, hashed: str) -> Account:
    with studio.store.writing() as session:
        link = accounts.link_of(studio.store, session, *used)
        if not link.account_id:
            return accounts.make(studio.store, session, link, name, hashed)
        account = accounts.find(session, link.account_id)
        accounts.set_password(session, account, hashed)
        return account


def _link_page(kind: str, role: str, name: str, typed: str = "", problem: str = "") -> Response:
    answer = drawn("link.html", kind=kind, role=role, name=name, typed=typed[:64], problem=problem, roles=ROLES)
    return answer
