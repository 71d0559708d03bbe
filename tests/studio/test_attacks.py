"""Attacks on a studio with accounts, each by real requests to a real server; none succeeds.

An attack that would succeed against a server without its lock is only listed with the lawful request beside it.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import select, text

from llm_installer.studio.access import sessions
from llm_installer.studio.store import jobs, quotas, tokens
from llm_installer.studio.store.account_tables import Account, Key, Tries
from llm_installer.studio.store.tables import File, Job
from tests.studio.people import CSV, PASSWORD, PUBLIC, Person, World, changing, running, until

Attack = Callable[[World], None]
ATTACKS: list[Attack] = []
FORM = {"content-type": "application/x-www-form-urlencoded"}


def attack(found: Attack) -> Attack:
    """One more."""
    ATTACKS.append(found)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(tmp_path_factory.mktemp("attacked")))
        with running() as found:
            yield found


@pytest.fixture
def fresh(world: World) -> World:
    """The world, with nobody waiting for an earlier attack's tries."""
    with world.studio.store.writing() as session:
        session.execute(text("DELETE FROM tries"))
    world.requests = 0
    return world


def test_there_are_as_many_as_are_said() -> None:
    assert len(ATTACKS) >= 60 and len({one.__name__ for one in ATTACKS}) == len(ATTACKS)


# By the name and the origin of a request


def told(world: World, **headers: str) -> int:
    with world.with_key(reading_key(world)) as program:
        return program.get("/api/jobs", headers=headers).status_code


def reading_key(world: World) -> str:
    """One of ada's, made once."""
    if "reader" not in world.people:
        world.people["reader"] = Person(world.people["ada"].key("read"), world.client())
    return world.people["reader"].name


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


def filled(path: str, name: str) -> str:
    return re.sub(r"\{[^}]+\}", name, path)


# Passwords


@attack
def guessing_a_password(world: World) -> None:
    answers = [world.signed_in("ada", f"wrong number {n}").status_code for n in range(8)]
    assert answers[:4] == [401] * 4 and answers[-1] == 429
    refused = world.signed_in("ada")
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1, "not even the right one, now"


@attack
def guessing_many_at_once(world: World) -> None:
    found: list[int] = []
    gate = threading.Barrier(16)

    def guess(number: int) -> None:
        gate.wait()
        found.append(world.signed_in("bob", f"wrong number {number}").status_code)

    threads = [threading.Thread(target=guess, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {401, 429} and found.count(401) <= 6


@attack
def guessing_one_password_for_many_names(world: World) -> None:
    answers = [world.signed_in(f"name{n}", "summer holidays").status_code for n in range(26)]
    assert answers[0] == 401 and 429 in answers[20:]


@attack
def guessing_from_made_up_addresses(world: World) -> None:
    """Headers that a client may write itself; the proxy of this machine adds the last one."""
    answers = []
    for n in range(8):
        with world.client(**{"x-forwarded-for": f"9.9.9.{n}, 7.7.7.7", "x-real-ip": f"9.9.8.{n}"}) as client:
            answers.append(world.signed_in("vic", "wrong number", client).status_code)
    assert answers[-1] == 429
    assert world.signed_in("vic").status_code == 303, "another place is not locked out by it"


@attack
def finding_out_which_names_there_are(world: World) -> None:
    known, unknown = world.signed_in("ada", "wrong number"), world.signed_in("nobody-here", "wrong number")
    assert known.status_code == unknown.status_code == 401
    assert known.text.replace("ada", "N") == unknown.text.replace("nobody-here", "N")


@attack
def a_name_that_is_a_piece_of_sql(world: World) -> None:
    for name in ("' OR 1=1 --", 'root"; DROP TABLE accounts; --', "root'/*", "%", "_oot"):
        assert world.signed_in(name, "x' OR '1'='1").status_code in (401, 429)
    assert world.people["root"].get("/people").status_code == 200


@attack
def a_name_in_other_letters(world: World) -> None:
    """Fullwidth, a long s, an invisible space: none of them is root."""
    for name in ("\uff52\uff4f\uff4f\uff54", "roo\u200bt", "root\0", "r\u00f6\u00f6t"):
        assert world.signed_in(name, PASSWORD.format("root")).status_code == 401


@attack
def a_password_of_a_megabyte(world: World) -> None:
    began = time.monotonic()
    answer = world.signed_in("ada", "x" * (1 << 20))
    assert answer.status_code in (400, 401, 413) and time.monotonic() - began < 5


@attack
def a_password_that_is_a_file_or_a_list(world: World) -> None:
    with world.client() as client:
        form = {"name": "ada", "password": ["a", PASSWORD.format("ada") + "x"]}
        assert client.post("/sign-in", data=form).status_code == 401
        files = {"password": ("p", PASSWORD.format("ada").encode())}
        assert client.post("/sign-in", data={"name": "ada"}, files=files).status_code == 401


@attack
def a_way_out_behind_the_sign_in(world: World) -> None:
    """Open redirects."""
    for path in (
        "//evil.test",
        "/\\evil.test",
        "https://evil.test",
        "javascript:alert(1)",
        "/\t/evil.test",
        "\\\\evil",
    ):
        with world.client() as client:
            form = {"name": "vic", "password": PASSWORD.format("vic"), "next": path}
            answer = client.post("/sign-in", data=form)
        assert (answer.status_code, answer.headers.get("location")) == (303, "/models"), path


@attack
def a_page_that_is_shown_before_the_sign_in(world: World) -> None:
    with world.client() as client:
        for path in ("/", "/models", "/runs", "/settings", "/people", "/audit", "/account", "/new", "/chat"):
            answer = client.get(path)
            assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in"), path
        for path in ("/api/jobs", "/v1/files", "/v1/fine_tuning/jobs", "/openapi.json", "/api/colab/notebook"):
            assert client.get(path).status_code == 401, path
        for method, path in changing(world):
            if path not in ("/sign-in", "/api/workers/pair") and "{token}" not in path:
                assert client.request(method, filled(path, "x")).status_code == 401, (method, path)


# Sessions


@attack
def a_session_that_somebody_else_has_chosen(world: World) -> None:
    with world.client() as client:
        client.cookies.set("studio", "chosen-by-an-attacker")
        assert world.signed_in("ada", "", client).status_code == 303
        sent = [cookie for cookie in client.cookies.jar if cookie.name == "studio"]
    assert sent and all(
        cookie.value != "chosen-by-an-attacker" for cookie in sent if cookie.path == "/" and cookie.domain
    )
    with world.client() as client:
        client.cookies.set("studio", "chosen-by-an-attacker")
        assert client.get("/account").status_code == 303


@attack
def a_cookie_that_somebody_has_made_up(world: World) -> None:
    with world.studio.store.reading() as session:
        kept = session.scalars(text("SELECT sha256 FROM sessions")).all()  # type: ignore[call-overload]
    for value in ("", "x", "../../x", "' OR 1=1 --", "x" * 5000, *kept[:3]):
        found = world.raw(f"GET /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: studio={value}\r\n"
                          "Connection: close\r\n\r\n".encode())  # fmt: skip
        assert found.split()[1] == b"401", value


@attack
def the_cookie_of_plain_http_by_https(world: World) -> None:
    """A neighbour on the network can plant a plain cookie; over https only the one with the prefix counts."""
    ada = world.people["ada"]
    cookie = next(cookie.value for cookie in ada.http.cookies.jar)
    host = PUBLIC.removeprefix("https://")
    with world.client(host=host) as client:
        client.headers["cookie"] = f"studio={cookie}"
        assert client.get("/api/jobs").status_code == 401
        answer = client.post("/sign-in", data={"name": "ada", "password": PASSWORD.format("ada")})
    kept = answer.headers["set-cookie"]
    assert kept.startswith("__Host-studio=") and "Secure" in kept and "Path=/" in kept


@attack
def a_script_that_reads_the_cookie(world: World) -> None:
    kept = world.signed_in("vic").headers["set-cookie"]
    assert "HttpOnly" in kept and "SameSite=strict" in kept


@attack
def a_session_after_its_end(world: World) -> None:
    with world.client() as client:
        assert world.signed_in("vic", "", client).status_code == 303
        cookie = client.cookies["studio"]
        person = Person("vic", client)
        person.learn_token()
        assert person.post("/sign-out").status_code == 303
    with world.client(cookie=f"studio={cookie}") as client:
        assert client.get("/account").status_code == 303 and client.get("/api/jobs").status_code == 401


@attack
def a_session_after_a_new_password(world: World) -> None:
    thief = Person("eve", world.client())
    eve = world.people.get("eve") or world.invited("eve", "member")
    assert world.signed_in("eve", "", thief.http).status_code == 303
    form = {"old": PASSWORD.format("eve"), "password": "quite another sentence", "again": "quite another sentence"}
    assert eve.post("/account/password", form).status_code == 303
    assert thief.get("/account").status_code == 303 and eve.get("/account").status_code == 200
    thief.http.close()


@attack
def a_new_password_without_the_old_one(world: World) -> None:
    form = {"old": "", "password": "quite another sentence", "again": "quite another sentence"}
    assert world.people["ada"].post("/account/password", form).status_code == 400
    assert world.signed_in("ada").status_code == 303


@attack
def an_account_that_was_switched_off(world: World) -> None:
    mal = world.invited("mal", "member")
    key = mal.key("read")
    with world.with_key(key) as program:
        assert program.get("/api/jobs").status_code == 200
        switch(world, "mal", "member", off="1")
        assert program.get("/api/jobs").status_code == 401
    assert mal.get("/account").status_code == 303 and world.signed_in("mal").status_code == 401


@attack
def a_stream_after_the_end_of_its_session(world: World) -> None:
    with world.client() as client:
        assert world.signed_in("vic", "", client).status_code == 303
        person = Person("vic", client)
        person.learn_token()
        job = world.people["ada"].job()
        with client.stream("GET", f"/api/jobs/{job}/events") as answer:
            assert answer.status_code == 200
            pieces = answer.iter_text()
            next(pieces)
            with world.client(cookie=f"studio={client.cookies['studio']}") as other:
                assert other.post("/sign-out", headers={"x-form-token": person.token}).status_code == 303
            ended = threading.Event()
            threading.Thread(target=_news, args=(world, job, ended), daemon=True).start()
            try:
                assert sum(len(piece) for piece in pieces) < 1 << 20, "it ends by itself"
            finally:
                ended.set()


def _news(world: World, job: str, ended: threading.Event) -> None:
    """Something happens to a job from time to time."""
    from llm_installer.studio.store import events
    from llm_installer.studio.store.events import NewEvent

    while not ended.wait(0.2):
        with world.studio.store.writing() as session:
            found = jobs.locked(session, job)
            events.add(session, found, [NewEvent("message", {"text": "news"})], world.studio.store.now(session))
        world.studio.tail.wake(job)


def switch(world: World, name: str, role: str, off: str = "") -> httpx.Response:
    with world.studio.store.reading() as session:
        found = session.scalar(select(Account).where(Account.name == name))
    assert found
    return world.people["root"].post(f"/people/{found.id}", {"role": role, "off": off})


# Links


def account_form(name: str, **more: str) -> dict[str, str]:
    return {"name": name, "password": "quite another sentence", "again": "quite another sentence", **more}


@attack
def a_link_that_was_guessed(world: World) -> None:
    with world.client() as client:
        for token in ("x", "A" * 43, "%00", "..%2f..", "'--"):
            for kind in ("first", "invite", "reset"):
                answer = client.post(f"/{kind}/{token}", data=account_form("guest"))
                assert answer.status_code in (404, 429, 401), (kind, token)
        assert not client.cookies


@attack
def the_first_link_once_more(world: World) -> None:
    with world.client() as client:
        path = world.first_link.removeprefix(world.base)
        assert client.get(path).status_code == 404
        assert client.post(path, data=account_form("second")).status_code == 404 and not client.cookies


@attack
def an_invitation_used_twice(world: World) -> None:
    path = world.invitation("viewer").removeprefix(world.base)
    with world.client() as client:
        assert client.post(path, data=account_form("gus")).status_code == 303
    with world.client() as client:
        assert client.post(path, data=account_form("gus2")).status_code == 404 and not client.cookies


@attack
def an_invitation_used_by_many_at_once(world: World) -> None:
    path, found, gate = world.invitation("viewer").removeprefix(world.base), list[int](), threading.Barrier(6)

    def use(number: int) -> None:
        with world.client() as client:
            gate.wait()
            found.append(client.post(path, data=account_form(f"one-of-{number}")).status_code)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [303, *[404] * 5]


@attack
def an_invitation_with_a_role_of_ones_own(world: World) -> None:
    path = world.invitation("viewer").removeprefix(world.base)
    with world.client() as client:
        answer = client.post(f"{path}?role=admin", data=account_form("climber", role="admin", kind="first"))
        assert answer.status_code == 303 and client.get("/people").status_code == 403
    with world.studio.store.reading() as session:
        assert session.scalar(select(Account.role).where(Account.name == "climber")) == "viewer"


@attack
def an_invitation_as_somebody_who_is_there(world: World) -> None:
    path = world.invitation("viewer").removeprefix(world.base)
    with world.client() as client:
        for name in ("root", "ROOT", " root "):
            assert client.post(path, data=account_form(name)).status_code == 400
    assert world.signed_in("root", "quite another sentence").status_code == 401


@attack
def a_link_of_one_kind_as_another(world: World) -> None:
    token = world.invitation("viewer").rpartition("/")[2]
    with world.client() as client:
        for kind in ("reset", "first"):
            assert client.post(f"/{kind}/{token}", data=account_form("x")).status_code == 404
        assert client.post(f"/invite/{token}", data=account_form("kind")).status_code == 303


# Roles


@attack
def a_viewer_changes_something(world: World) -> None:
    """Every route that changes something, whichever there are."""
    vic = world.people["vic"]
    job = world.people["ada"].job()
    for method, path in changing(world):
        if path.startswith(("/account", "/sign-", "/first", "/invite", "/reset", "/api/workers/pair")):
            continue
        headers = {"x-form-token": vic.token}
        answer = vic.http.request(method, filled(path, job), headers=headers)
        assert answer.status_code == 403, (method, path, answer.status_code)


@attack
def a_member_opens_what_administrators_have(world: World) -> None:
    ada = world.people["ada"]
    for path in ("/people", "/audit", "/people/", "/audit?who=root"):
        answer = ada.get(path, follow_redirects=True)
        assert answer.status_code == 403 and "root" not in answer.text, path
    assert ada.post("/people/invite", {"role": "admin"}).status_code == 403
    assert ada.post("/people/limits", {"jobs_a_day": "0"}).status_code == 403
    assert str(world.studio.folder) not in ada.get("/settings").text


@attack
def a_member_makes_themselves_administrator(world: World) -> None:
    with world.studio.store.reading() as session:
        found = session.scalar(select(Account).where(Account.name == "ada"))
    assert found and world.people["ada"].post(f"/people/{found.id}", {"role": "admin"}).status_code == 403
    form = {"old": PASSWORD.format("ada"), "password": "a", "again": "a", "role": "admin", "name": "root"}
    world.people["ada"].post("/account/password", form)
    assert world.people["ada"].get("/people").status_code == 403


@attack
def the_last_administrator_goes(world: World) -> None:
    assert switch(world, "root", "member").status_code == 409 == switch(world, "root", "admin", off="1").status_code
    assert world.people["root"].get("/people").status_code == 200


@attack
def the_path_written_otherwise(world: World) -> None:
    for path in ("//people", "/People", "/people%2f", "/%70eople", "/./people", "/models/../people", "/people;x=1"):
        found = world.people["ada"].get(path)
        assert found.status_code in (303, 307, 403, 404) and "root" not in found.text, path


@attack
def looking_at_the_job_of_another(world: World) -> None:
    ada, bob = world.people["ada"], world.people["bob"]
    job = ada.job(suffix="only-adas")
    paths = (
        "/api/jobs/{}", "/api/jobs/{}/events", "/api/jobs/{}/log", "/api/train/status/{}", "/api/train/dataset/{}",
        "/api/train/adapter/{}", "/v1/fine_tuning/jobs/ftjob-{}", "/v1/fine_tuning/jobs/ftjob-{}/events",
        "/v1/fine_tuning/jobs/ftjob-{}/checkpoints", "/runs/{}", "/runs/{}/points", "/runs/{}/live", "/jobs/{}/colab",
        "/api/jobs/{}/notebook", "/api/jobs/{}/files/report.md", "/compare?run={}",
    )  # fmt: skip
    for path in paths:
        answer = bob.get(path.format(job))
        assert answer.status_code == 404 and "only-adas" not in answer.text, path
    assert ada.get(f"/api/jobs/{job}").status_code == 200 == world.people["vic"].get(f"/runs/{job}").status_code


@attack
def changing_the_job_of_another(world: World) -> None:
    ada, bob = world.people["ada"], world.people["bob"]
    job = ada.job()
    paths = ("/api/jobs/{}/cancel", "/api/jobs/{}/again", "/runs/{}/cancel", "/runs/{}/again", "/runs/{}/stop",
             "/runs/{}/save", "/runs/{}/use", "/runs/{}/delete", "/v1/fine_tuning/jobs/ftjob-{}/cancel",
             "/api/jobs/{}/colab", "/jobs/{}/colab")  # fmt: skip
    for path in paths:
        assert bob.post(path.format(job), {}).status_code == 404, path
    form = {"status": "failed", "error": "by bob"}
    assert bob.post(f"/api/train/update/{job}", form).status_code == 404
    assert bob.http.delete(f"/api/jobs/{job}", headers={"x-form-token": bob.token}).status_code == 404
    assert ada.get(f"/api/jobs/{job}").json()["state"] == "queued"


@attack
def lists_with_what_others_have(world: World) -> None:
    ada, bob = world.people["ada"], world.people["bob"]
    file = ada.upload(name="adas-own.csv")
    job = ada.job(file)
    for path in ("/api/jobs", "/v1/files", "/v1/fine_tuning/jobs", "/runs", "/new"):
        found = bob.get(path).text
        assert job not in found and file not in found and "adas-own" not in found, path
    assert bob.get(f"/api/jobs?after={job}").status_code == 404
    assert job in world.people["root"].get("/api/jobs").text and file in ada.get("/v1/files").text


@attack
def the_file_of_another(world: World) -> None:
    ada, bob = world.people["ada"], world.people["bob"]
    file = ada.upload()
    for path in (f"/v1/files/{file}", f"/v1/files/{file}/content", f"/new/{file}", f"/new/{file}/data"):
        assert bob.get(path).status_code == 404, path
    assert bob.http.delete(f"/v1/files/{file}", headers={"x-form-token": bob.token}).status_code == 404
    assert bob.create(file).status_code == 404, "nor is it trained on"
    form = {"model": "tiny", "training_file": file}
    headers = {"x-form-token": bob.token}
    assert bob.http.post("/v1/fine_tuning/jobs", json=form, headers=headers).status_code == 404
    form = {"model": "tiny", "training_file": bob.upload(), "validation_file": file}
    assert bob.http.post("/v1/fine_tuning/jobs", json=form, headers=headers).status_code == 404
    assert ada.get(f"/v1/files/{file}/content").content == CSV


@attack
def a_job_in_the_name_of_another(world: World) -> None:
    ada, bob = world.people["ada"], world.people["bob"]
    with world.studio.store.reading() as session:
        adas = session.scalar(select(Account.id).where(Account.name == "ada"))
    answer = bob.create(bob.upload(), owner=adas, id="mine", state="completed", result={"files": []})
    assert answer.status_code in (201, 422)
    if answer.status_code == 201:
        assert answer.json()["state"] == "queued" and answer.json()["job_id"] not in ada.get("/api/jobs").text


@attack
def the_idempotency_key_of_another(world: World) -> None:
    ada, bob = world.people["ada"], world.people["bob"]
    first = ada.create(ada.upload(), headers={"idempotency-key": "shared"}).json()["job_id"]
    second = bob.create(bob.upload(), headers={"idempotency-key": "shared"})
    assert second.status_code == 201 and second.json()["job_id"] != first


@attack
def a_member_works_for_the_studio(world: World) -> None:
    """A worker sees everybody's data."""
    ada = world.people["ada"]
    job, headers = world.people["bob"].job(), {"x-form-token": ada.token}
    claim = {"worker": "ada", "engines": ["local", "worker"], "job_id": job}
    assert ada.http.post("/api/workers/claim", json=claim, headers=headers).status_code == 403
    assert (
        ada.http.post("/api/workers/hello", json={"worker": "this machine", "alone": True}, headers=headers).status_code
        == 403
    )
    assert ada.get(f"/api/workers/jobs/{job}/data").status_code == 403
    assert ada.http.put(f"/blobs/{'0' * 64}?offset=0&total=1", content=b"x", headers=headers).status_code == 403
    with world.with_key(world.people["root"].key("work")) as worker:
        assert worker.post("/api/workers/claim", json=claim).json()["id"] == job


# Keys


@attack
def a_key_for_reading_that_writes(world: World) -> None:
    file = world.people["ada"].upload()
    with world.with_key(reading_key(world)) as program:
        assert program.post("/api/jobs", json={"model": "tiny", "file_id": file}).status_code == 403
        assert program.post("/v1/files", files={"file": ("x.csv", CSV)}).status_code == 403
        assert (
            program.delete(f"/v1/files/{file}").status_code == 403
            and program.get(f"/v1/files/{file}").status_code == 200
        )


@attack
def a_key_that_was_revoked(world: World) -> None:
    ada = world.people["ada"]
    key = ada.key("read")
    with world.studio.store.reading() as session:
        found = session.scalar(select(Key.id).where(Key.sha256 == sessions.hash_of(key)))
    with world.with_key(key) as program:
        assert program.get("/api/jobs").status_code == 200
        assert ada.post(f"/account/keys/{found}/revoke").status_code == 303
        assert program.get("/api/jobs").status_code == 401


@attack
def a_key_after_its_day(world: World) -> None:
    key = world.people["ada"].key("read", days=30)
    with world.with_key(key) as program:
        assert program.get("/api/jobs").status_code == 200
        world.studio.store.shift = timedelta(days=31)
        try:
            assert program.get("/api/jobs").status_code == 401
        finally:
            world.studio.store.shift = timedelta()


@attack
def a_key_that_makes_keys(world: World) -> None:
    with world.with_key(world.people["root"].key("train")) as program:
        for path in ("/account/keys", "/account/password", "/people/invite", "/sign-out"):
            assert program.post(path, data={"name": "x", "scope": "work", "role": "admin"}).status_code == 403, path
        assert program.get("/people").status_code == program.get("/account").status_code == 403


@attack
def a_key_in_the_address(world: World) -> None:
    key = reading_key(world)
    with world.client() as program:
        for name in ("api_key", "key", "token", "access_token", "authorization"):
            assert program.get(f"/api/jobs?{name}={key}").status_code == 401
        for name in ("x-api-key", "cookie"):
            assert program.get("/api/jobs", headers={name: f"studio={key}"}).status_code == 401


@attack
def a_key_in_another_scheme(world: World) -> None:
    key = reading_key(world)
    for value in (
        f"Basic {key}",
        key,
        f"Bearer{key}",
        f"Bearer {key} x",
        f"Bearer {key[:-1]}",
        "Bearer",
        f"Token {key}",
    ):
        with world.client(authorization=value) as program:
            assert program.get("/api/jobs").status_code == 401, value[:12]


@attack
def a_wrong_key_beside_a_right_cookie(world: World) -> None:
    """Else a page could make a browser's cookie speak where a key was asked for."""
    answer = world.people["ada"].get("/api/jobs", headers={"authorization": "Bearer llmi-wrong"})
    assert answer.status_code == 401


@attack
def a_key_for_more_than_its_owner_may(world: World) -> None:
    for name, scope in (("ada", "work"), ("vic", "train"), ("vic", "work"), ("ada", "administer"), ("ada", "")):
        answer = world.people[name].post("/account/keys", {"name": "x", "scope": scope})
        assert answer.status_code == 409 and "llmi-" not in answer.text.replace("llmi-…", ""), (name, scope)


@attack
def a_key_of_a_role_that_one_no_longer_has(world: World) -> None:
    ops = world.invited("ops", "admin")
    with world.with_key(ops.key("work")) as program:
        assert program.post("/api/workers/hello", json={"worker": "w"}).status_code == 200
        assert switch(world, "ops", "member").status_code == 303
        assert program.post("/api/workers/hello", json={"worker": "w"}).status_code == 401


@attack
def revoking_the_key_of_another(world: World) -> None:
    with world.studio.store.reading() as session:
        found = session.scalar(select(Key.id).where(Key.sha256 == sessions.hash_of(reading_key(world))))
    assert world.people["bob"].post(f"/account/keys/{found}/revoke").status_code == 404
    assert told(world) == 200


@attack
def ending_the_session_of_another(world: World) -> None:
    page = world.people["ada"].get("/account").text
    with world.studio.store.reading() as session:
        adas = session.execute(text("SELECT sha256 FROM sessions")).scalars().all()
    for digest in adas:
        assert world.people["vic"].post(f"/account/sessions/{digest}/end").status_code in (303, 401)
    assert page and world.people["ada"].get("/account").status_code == 200
    world.signed_in("vic", "", world.people["vic"].http)
    world.people["vic"].learn_token()


@attack
def the_token_of_a_job_for_another_job(world: World) -> None:
    ada = world.people["ada"]
    job, other = ada.job(), ada.job()
    with world.studio.store.writing() as session:
        token = tokens.make(world.studio.store, session, job)
    with world.with_key(token) as program:
        assert program.get(f"/api/train/status/{job}").status_code == 200
        for path in (f"/api/train/status/{other}", f"/api/workers/jobs/{other}/data", "/api/jobs", "/v1/files", "/runs",
                     f"/api/jobs/{job}", f"/api/train/status/{job}%2f..%2f{other}", "/audit"):  # fmt: skip
            assert program.get(path).status_code in (403, 404), path
        claim = {"worker": "w", "engines": ["local"], "job_id": other}
        assert program.post("/api/workers/claim", json=claim).json()["id"] == job
        ada.post(f"/api/jobs/{job}/cancel")
        with world.studio.store.writing() as session:
            found = jobs.locked(session, job)
            found.state = "cancelled"
        assert program.get(f"/api/train/status/{job}").status_code == 401, "it ends with its job"


# Uploads and bodies


@attack
def a_file_name_that_leads_elsewhere(world: World) -> None:
    ada = world.people["ada"]
    file = ada.upload(name='../../../etc/cron.d/x"\r\nSet-Cookie: a=b<img onerror=1>')
    answer = ada.get(f"/v1/files/{file}/content")
    assert answer.status_code == 200 and "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"].startswith("attachment")
    assert [one.parent.name for one in world.studio.folder.rglob(file)] == ["files"]


@attack
def a_body_that_says_it_is_endless(world: World) -> None:
    for length, status in (("99999999999999", b"413"), ("-1", b"400"), ("1e3", b"400"), ("0x10", b"400")):
        key = reading_key(world)
        found = world.raw(f"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
                          f"Content-Length: {length}\r\n\r\n".encode())  # fmt: skip
        assert found.split()[1] == status, length


@attack
def a_form_of_gigabytes_before_one_is_known(world: World) -> None:
    with world.client() as client:
        for path in ("/sign-in", "/first/x", "/invite/x", "/api/workers/pair"):
            for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/json"):
                pieces = (b"x" * 65536 for _ in range(40))
                try:
                    answer = client.post(path, content=pieces, headers={"content-type": kind})
                except httpx.WriteError:
                    continue  # it does not even listen any more
                unread = "json" in kind and answer.status_code in (401, 404)
                assert unread or answer.status_code in (400, 413), (path, kind)
    said = world.raw(b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900000000\r\n\r\n")
    assert said.split()[1] == b"413"


@attack
def a_body_of_json_that_calls_itself_a_file(world: World) -> None:
    """What is not an upload is read as a whole, and may not be as long as one."""
    key = world.people["ada"].key("train")
    for kind in ("application/octet-stream", "multipart/form-data; boundary=b", "text/plain"):
        said = world.raw(f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
                         f"Content-Type: {kind}\r\nContent-Length: {600 << 20}\r\n\r\n".encode())  # fmt: skip
        assert said.split()[1] == b"413", kind


@attack
def two_lengths_in_one_request(world: World) -> None:
    """Request smuggling."""
    for lines in ("Content-Length: 4\r\nTransfer-Encoding: chunked", "Content-Length: 4\r\nContent-Length: 5",
                  "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                  "Transfer-Encoding : chunked"):  # fmt: skip
        found = world.raw(f"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n\r\n"
                          "0\r\n\r\nGET /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())  # fmt: skip
        assert found.count(b"HTTP/1.1 ") == 1 or b"HTTP/1.1 200" not in found, lines


@attack
def json_that_is_too_long(world: World) -> None:
    with world.with_key(world.people["ada"].key("train")) as program:
        body = (b" " * (1 << 20) for _ in range(20))
        assert program.post("/api/jobs", content=body, headers={"content-type": "application/json"}).status_code in (
            400,
            413,
        )
        deep = b"[" * 100_000
        answer = program.post("/api/jobs", content=deep, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)


@attack
def a_form_with_a_thousand_fields(world: World) -> None:
    ada = world.people["ada"]
    many = {f"f{n}": "x" for n in range(1000)}
    assert ada.post("/v1/files", many, files={"file": ("a.csv", CSV)}).status_code == 400
    lots = [("file", (f"{n}.csv", CSV)) for n in range(50)]
    assert ada.post("/v1/files", files=lots).status_code == 400


@attack
def a_model_that_is_an_address(world: World) -> None:
    """SSRF, and files of this machine."""
    ada = world.people["ada"]
    names = ("http://169.254.169.254/latest", "//127.0.0.1/x", "[::ffff:127.0.0.1]/x", "2130706433:80/x", "../../etc",
             "/etc/passwd", "file:///etc/passwd", "a/b/../../c", "-x/y", "--data=/etc/passwd", "a\0b", "~root/x",
             "user@evil.test/x", "a/b#c", "a/b?c", "\uff11\uff12\uff17.0.0.1/x")  # fmt: skip
    file = ada.upload()
    for name in names:
        assert ada.create(file, model=name).status_code in (400, 422), name
        assert ada.post("/models/install", {"model": name}).status_code == 400, name
        assert ada.get("/models/check", params={"model": name}).status_code == 400, name
    assert not list(world.studio.folder.glob("installs/*"))


@attack
def an_option_that_reads_or_writes_files(world: World) -> None:
    ada = world.people["ada"]
    file = ada.upload()
    for name, value in (("output", "/etc"), ("data", "/etc/passwd"), ("push", "a/b"), ("resume", "/x"),
                        ("callbacks", "os"),
                        ("eval_prompts", "/etc/passwd"), ("validation_data", "/etc/passwd")):  # fmt: skip
        assert ada.create(file, options={name: value}).status_code == 400, name
        assert ada.post(f"/new/{file}/plan", {"model": "tiny", name: value}).status_code == 400, name


@attack
def a_path_that_leaves_its_folder(world: World) -> None:
    ada = world.people["ada"]
    job = ada.job()
    for path in ("/static/../../guard.py", "/static/%2e%2e/%2e%2e/guard.py", "/static/..%2f..%2fguard.py",
                 f"/api/jobs/{job}/files/..%2f..%2fstudio.sqlite3", f"/runs/{job}/files/..%2frun.json",
                 "/chat/..%2f../health", "/v1/files/..%2fstudio.sqlite3/content"):  # fmt: skip
        found = world.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: studio={ada.http.cookies['studio']}\r\n"
                          "Connection: close\r\n\r\n".encode())  # fmt: skip
        assert found.split()[1] in (b"404", b"409", b"303", b"400", b"503"), (path, found[:300])


@attack
def a_result_that_is_no_adapter(world: World) -> None:
    """A pickle, a link out of the folder, code."""
    ada = world.people["ada"]
    job = ada.job(engine="colab")
    for name, content in (("adapter/adapter_model.bin", b"\x80\x04cos\nsystem\n"), ("../../x", b"x"), ("/etc/x", b"x"),
                          ("adapter/modeling.py", b"import os"),
                          ("adapter/adapter_model.safetensors", b"\xff" * 64)):  # fmt: skip
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(name, content)
        answer = ada.http.post(
            f"/api/jobs/{job}/result", content=packed.getvalue(), headers={"x-form-token": ada.token}
        )
        assert answer.status_code in (400, 409, 422), name
    assert ada.get(f"/api/jobs/{job}").json()["state"] == "queued"


@attack
def more_files_than_one_may_keep(world: World) -> None:
    """Ten at once, each of which would fit alone."""
    hog = world.people.get("hog") or world.invited("hog", "member")
    with world.studio.store.writing() as session:
        quotas.choose(session, {"uploads_an_hour": 4})
    try:
        found = at_once(10, lambda n: hog.post("/v1/files", files={"file": (f"{n}.csv", CSV)}).status_code)
    finally:
        with world.studio.store.writing() as session:
            quotas.choose(session, {one.name: one.usual for one in quotas.QUOTAS})
    assert sorted(found) == [200] * 4 + [429] * 6
    with world.studio.store.reading() as session:
        mine = select(File).join(Account, Account.id == File.owner).where(Account.name == "hog")
        assert len(session.scalars(mine).all()) == 4


@attack
def more_jobs_than_one_may_have(world: World) -> None:
    hog = world.people.get("hog") or world.invited("hog", "member")
    with world.studio.store.writing() as session:
        quotas.choose(session, {"jobs_at_once": 3})
    file = hog.upload()
    try:
        found = at_once(8, lambda n: hog.create(file).status_code)
    finally:
        with world.studio.store.writing() as session:
            quotas.choose(session, {one.name: one.usual for one in quotas.QUOTAS})
    assert sorted(found) == [201] * 3 + [429] * 5


def at_once(count: int, act: Callable[[int], int]) -> list[int]:
    found: list[int] = []
    gate = threading.Barrier(count)

    def one(number: int) -> None:
        gate.wait()
        found.append(act(number))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


# Pages


EVIL = "<img src=x onerror=hurt()>\"'</script><script>hurt()</script>{{7*7}}"


@attack
def a_name_that_is_html(world: World) -> None:
    ada, root = world.people["ada"], world.people["root"]
    file = ada.upload(name=f"{EVIL.replace('/', '')}.csv")
    job = ada.job(file, suffix=EVIL[:60])
    ada.post("/account/keys", {"name": EVIL[:64], "scope": "read"})
    pages = [ada.get("/account").text, ada.get("/runs").text, root.get(f"/runs/{job}").text, root.get("/audit").text]
    assert all("<img src=x" not in page and "<script>hurt" not in page and "49" not in page[:200] for page in pages)
    assert "&lt;img src=x" in pages[0], "it is shown, as text"


@attack
def a_line_in_the_audit_log_that_was_never_written(world: World) -> None:
    forged = "x\r\n2026-01-01 root made eve administrator\u202e"
    world.signed_in(forged, "wrong number")
    world.people["ada"].post("/account/keys", {"name": forged, "scope": "read"})
    page = world.people["root"].get("/audit").text
    assert "\u202e" not in page and "\n2026-01-01 root made" not in page and "(unknown name)" in page


@attack
def a_page_in_a_frame(world: World) -> None:
    for path in ("/sign-in", "/account", "/people", "/audit", "/models", "/api/jobs", "/nowhere"):
        headers = world.people["root"].get(path).headers
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy and "default-src 'none'" in policy, path
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] in (
            "same-origin",
            "no-referrer",
        )


@attack
def a_page_out_of_a_cache(world: World) -> None:
    """Of whoever used this browser before."""
    for path in ("/account", "/people", "/audit", "/runs"):
        assert world.people["root"].get(path).headers["cache-control"] == "no-store", path


@attack
def methods_that_nobody_needs(world: World) -> None:
    ada = world.people["ada"]
    for method in ("TRACE", "CONNECT", "PROPFIND", "TRACK", "PATCH"):
        answer = ada.http.request(method, "/api/jobs", headers={"x-form-token": ada.token})
        assert answer.status_code in (400, 403, 405), method
        assert ada.http.cookies["studio"] not in answer.text


@attack
def a_mistake_that_tells_how_it_is_made(world: World) -> None:
    ada = world.people["ada"]
    for path in (
        "/api/jobs?limit=x",
        "/runs/%ff",
        "/new/%00",
        "/api/jobs?after=%00",
        "/audit?before=x",
        "/compare?run=%00",
    ):
        answer = ada.get(path)
        assert answer.status_code < 500, path
        assert "Traceback" not in answer.text and "sqlalchemy" not in answer.text.lower(), path


# Secrets


@attack
def secrets_where_they_do_not_belong(world: World) -> None:
    """In the database, in files, in the audit log, in the list of processes, on pages."""
    ada, root = world.people["ada"], world.people["root"]
    key, link = ada.key("train"), world.invitation("viewer").rpartition("/")[2]
    cookie = ada.http.cookies["studio"]
    world.signed_in(PASSWORD.format("ada"), "typed into the wrong field")
    secrets = [key, link, cookie, PASSWORD.format("ada"), world.studio.worker_key, world.first_link.rpartition("/")[2]]
    kept = b"".join(file.read_bytes() for file in world.studio.folder.rglob("*") if file.is_file())
    shown = "".join(
        page.get(path).text for page in (ada, root) for path in ("/account", "/audit", "/people", "/settings")
    )
    listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    for secret in secrets:
        assert secret.encode() not in kept and secret not in shown and secret not in listed
    assert ada.name.encode() in kept, "what is looked through is what there is"


@attack
def a_database_that_others_on_this_machine_read(world: World) -> None:
    world.people["ada"].upload()
    modes = {
        one: one.stat().st_mode & 0o077 for one in [world.studio.folder, *world.studio.folder.glob("studio.sqlite3*")]
    }
    assert set(modes.values()) == {0} or world.studio.folder.stat().st_mode & 0o077 == 0


@attack
def tries_that_fill_the_database(world: World) -> None:
    """Long names are cut before they become rows."""
    for n in range(3):
        world.signed_in("n" * 3000 + str(n), "wrong number")
    with world.studio.store.reading() as session:
        assert max(len(row.key) for row in session.scalars(select(Tries))) <= 160


@pytest.mark.slow
@pytest.mark.parametrize("found", ATTACKS, ids=lambda one: one.__name__)
def test_an_attack_does_not_succeed(fresh: World, found: Attack) -> None:
    found(fresh)
    assert fresh.requests, "it was tried"


@pytest.mark.slow
def test_everybody_is_as_before(fresh: World) -> None:
    """After all of them."""
    for name in ("root", "ada", "bob", "vic"):
        assert fresh.signed_in(name).status_code == 303
    until(lambda: fresh.people["root"].get("/health").status_code == 200)
