"""Attacks on passwords, sessions and links."""

from __future__ import annotations

import threading
import time

from sqlalchemy import select, text

from llm_installer.studio.store import jobs
from llm_installer.studio.store.account_tables import Account
from tests.studio.attacks.parts import attack, filled, switch
from tests.studio.people import PASSWORD, PUBLIC, Person, World, changing

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
