"""The page of one's own account: password, keys, and where one is signed in."""

from __future__ import annotations

from fastapi import APIRouter, Form, Request, Response
from starlette.concurrency import run_in_threadpool

from llm_installer.studio.access import accounts, passwords, sessions, tries
from llm_installer.studio.access.rights import ROLES, scopes_of
from llm_installer.studio.access.sign_in import given_in
from llm_installer.studio.access.tries import SIGN_IN
from llm_installer.studio.access.who import Who, whoever
from llm_installer.studio.context import Studio
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.store.account_tables import Account

DAYS = {30: "30 days", 90: "90 days", 365: "a year", 0: "until it is revoked"}


def router_of(studio: Studio) -> APIRouter:
    """The routes of this page."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/account")

    @router.get("")
    def look(said: str = "") -> Response:
        return page(studio, whoever(), said="The password was changed." if said == "password" else "")

    @router.post("/password")
    async def change(request: Request) -> Response:
        form = await given_in(request)
        old, new, again = (form.get(name, "") for name in ("old", "password", "again"))
        who = whoever()
        account = await run_in_threadpool(_own, studio, who)
        await run_in_threadpool(tries.count, studio.store, [(SIGN_IN[2], who.name)])
        if not await passwords.matches(account.password, old):
            return await run_in_threadpool(page, studio, who, "The old password is another one.", True)
        try:
            passwords.checked(new, who.name)
        except passwords.BadPassword as error:
            return await run_in_threadpool(page, studio, who, f"{error}.", True)
        if new != again:
            return await run_in_threadpool(page, studio, who, "The two new passwords are not the same.", True)
        await run_in_threadpool(_change, studio, who, await passwords.hashed(new))
        return to("/account?said=password")

    @router.post("/sessions/{session_id}/end")
    def end(session_id: str) -> Response:
        with studio.store.writing() as session:
            sessions.end_of(session, whoever().id, session_id)
        return to("/account")

    _keys(router, studio)
    return router


def _keys(router: APIRouter, studio: Studio) -> None:
    @router.post("/keys")
    def make(
        request: Request, name: str = Form("", max_length=64), scope: str = Form(""), days: int = Form(90)
    ) -> Response:
        who = whoever()
        with studio.store.writing() as session:
            key, secret = sessions.make_key(studio.store, session, who, name, scope, days if days in DAYS else 90)
        request.state.about = f"{key.start}, {key.name}, for {scope}"
        return page(studio, who, secret=secret)

    @router.post("/keys/{key_id}/revoke")
    def revoke(request: Request, key_id: str) -> Response:
        with studio.store.writing() as session:
            key = sessions.revoke(session, whoever().id, key_id)
        request.state.about = f"{key.start}, {key.name}"
        return to("/account")


def page(studio: Studio, who: Who, said: str = "", wrong: bool = False, secret: str = "") -> Response:
    """The page; with the secret of a new key, which is shown this once."""
    with studio.store.reading() as session:
        found = sessions.of_account(studio.store, session, who.id)
        keys = sessions.keys_of(session, who.id)
        now = studio.store.now(session)
    values = {"keys": keys, "sessions": found, "scopes": scopes_of(who.role), "roles": ROLES, "days": DAYS, "now": now}
    answer = drawn("account.html", here="Account", said=said, wrong=wrong, secret=secret, base=studio.base, **values)
    answer.status_code = 400 if wrong else 200
    return answer


def _own(studio: Studio, who: Who) -> Account:
    with studio.store.writing() as session:
        return accounts.find(session, who.id)


def _change(studio: Studio, who: Who, hashed: str) -> None:
    with studio.store.writing() as session:
        accounts.set_password(session, accounts.find(session, who.id), hashed, but=who.session)
    tries.forget(studio.store, [(SIGN_IN[2], who.name)])
