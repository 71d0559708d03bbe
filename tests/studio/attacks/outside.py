"""Attacks from elsewhere: by the name and the origin of a request, and by forms."""

from __future__ import annotations

import json

import httpx
from sqlalchemy import select

from llm_installer.studio.store.account_tables import Account, Key
from llm_installer.studio.store.tables import Job
from tests.studio.attacks.parts import attack, filled, told
from tests.studio.people import PASSWORD, World, changing

# By the name and the origin of a request


@attack
def a_name_that_leads_here(world: World) -> None:
    """DNS rebinding."""
    port = world.base.rpartition(":")[2]
    assert told(world) == told(world, host=f"127.0.0.1:{port}") == 200
    assert told(world, host="evil.test") == told(world, host=f"evil.test:{port}") == 421


@attack
def a_name_that_begins_like_ours(world: World) -> None:
    for name in ("127.0.0.1.evil.test", "localhost.evil.test", "studio.example.org.evil.test", "xstudio.example.org"):
        assert told(world, host=name) == 421


@attack
def a_host_with_an_account_before_it(world: World) -> None:
    assert told(world, host="127.0.0.1@evil.test") == 421 == told(world, host="evil.test#127.0.0.1")


@attack
def two_hosts_in_one_request(world: World) -> None:
    found = world.raw(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 400")


@attack
def a_host_in_the_line_of_the_request(world: World) -> None:
    found = world.raw(b"GET http://evil.test/api/jobs HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
    assert found.split()[1] in (b"400", b"404", b"421")


@attack
def a_page_from_elsewhere_reads(world: World) -> None:
    assert told(world, origin="http://evil.test") == told(world, origin="null") == 403


@attack
def a_page_from_elsewhere_sends_a_form(world: World) -> None:
    ada = world.people["ada"]
    evil = {"origin": "http://evil.test"}
    assert ada.post("/account/keys", {"name": "x", "scope": "read"}, headers=evil).status_code == 403
    assert ada.post("/account/keys", {"name": "x", "scope": "read"}, headers={"origin": world.base}).status_code == 200


@attack
def a_page_on_another_port_sends_a_form(world: World) -> None:
    ada = world.people["ada"]
    for headers in ({"sec-fetch-site": "same-site"}, {"origin": "http://127.0.0.1:1"}):
        assert ada.post("/account/keys", {"name": "x", "scope": "read"}, headers=headers).status_code == 403


@attack
def a_foreign_page_signs_somebody_in_as_itself(world: World) -> None:
    """So that they would upload into its account."""
    form = {"name": "bob", "password": PASSWORD.format("bob")}
    with world.client(origin="http://evil.test") as browser:
        assert browser.post("/sign-in", data=form).status_code == 403 and not browser.cookies


# Forms


def stolen(world: World, **more: object) -> httpx.Response:
    """A form with ada's cookie and without her token."""
    return world.people["ada"].http.post("/account/keys", **more)  # type: ignore[arg-type]


@attack
def a_form_without_its_token(world: World) -> None:
    ada = world.people["ada"]
    assert stolen(world, data={"name": "x", "scope": "read"}).status_code == 403
    assert stolen(world, data={"name": "x", "scope": "read", "form_token": ada.token}).status_code == 200


@attack
def a_form_with_the_token_of_another_session(world: World) -> None:
    form = {"name": "x", "scope": "read", "form_token": world.people["bob"].token}
    assert stolen(world, data=form).status_code == 403
    assert stolen(world, data=form, headers={"x-form-token": form["form_token"]}).status_code == 403


@attack
def a_form_with_its_token_in_the_address(world: World) -> None:
    token = world.people["ada"].token
    answer = world.people["ada"].http.post(f"/account/keys?form_token={token}", data={"name": "x", "scope": "read"})
    assert answer.status_code == 403


@attack
def a_form_as_plain_text(world: World) -> None:
    """Which a page from elsewhere may send without asking."""
    body = json.dumps({"model": "tiny", "file_id": "x"})
    for kind in ("text/plain", "", "application/json"):
        headers = {"content-type": kind} if kind else {}
        answer = world.people["ada"].http.post("/api/jobs", content=body, headers=headers)
        assert answer.status_code == 403, kind


@attack
def a_form_with_files_whose_token_comes_late(world: World) -> None:
    ada = world.people["ada"]

    def sent(*parts: tuple[str, str]) -> int:
        body = "".join(f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in parts)
        kind = {"content-type": "multipart/form-data; boundary=b"}
        return ada.http.post("/account/keys", content=f"{body}--b--\r\n", headers=kind).status_code

    name, scope, token = ("name", "x"), ("scope", "read"), ("form_token", ada.token)
    assert sent(token, name, scope) == 200
    assert sent(name, scope) == sent(("x", f"{'y' * 40_000}"), token, name, scope) == sent(name, scope, token) == 403


@attack
def a_form_with_a_boundary_that_is_none(world: World) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\x07"):
        answer = world.people["ada"].http.post("/new", content=b"--\r\n", headers={"content-type": kind})
        assert answer.status_code == 403


@attack
def a_link_that_changes_something(world: World) -> None:
    """GET, on everything that is changed by other methods."""
    ada, before = world.people["ada"], state_of(world)
    for method, path in changing(world):
        if method == "POST":
            assert ada.get(filled(path, ada.name)).status_code in (200, 303, 307, 400, 401, 403, 404, 405, 422, 503), (
                path
            )
    assert state_of(world) == before


@attack
def another_method_in_a_header(world: World) -> None:
    ada = world.people["ada"]
    job = ada.job()
    for name in ("x-http-method-override", "x-http-method", "x-method-override"):
        ada.get(f"/api/jobs/{job}", headers={name: "DELETE"})
        ada.get(f"/api/jobs/{job}/cancel?_method=POST", headers={name: "POST"})
    assert ada.get(f"/api/jobs/{job}").json()["state"] == "queued"


def state_of(world: World) -> list[tuple[object, ...]]:
    with world.studio.store.reading() as session:
        found = [tuple(row) for row in session.execute(select(Job.id, Job.state, Job.engine, Job.owner))]
        found += [tuple(row) for row in session.execute(select(Account.id, Account.role, Account.off))]
        return [*found, *(tuple(row) for row in session.execute(select(Key.id, Key.scope)))]
