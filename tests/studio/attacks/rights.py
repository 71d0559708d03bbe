"""Attacks on roles and keys: what others have, and what one may not do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import select, text

from llm_installer.studio.access import sessions
from llm_installer.studio.pages import children
from llm_installer.studio.store import jobs, tokens
from llm_installer.studio.store.account_tables import Account, Key
from llm_installer.studio.store.acting import ACTING, Acting
from tests.studio.attacks.parts import attack, filled, reading_key, switch, told
from tests.studio.people import CSV, PASSWORD, World, changing, until

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
def stopping_what_another_installs(world: World) -> None:
    ada, bob = world.people["ada"], world.people["bob"]
    child, form = children.Child("a/b", world.studio.folder / children.INSTALLS / "a_b"), {"model": "a/b"}
    with world.studio.store.reading() as session:
        adas = session.scalar(select(Account.id).where(Account.name == "ada"))
    token = ACTING.set(Acting(str(adas)))
    try:
        children.begin("a/b", child.place, ["help", "nothing-like-it"], world.studio.folder)
    finally:
        ACTING.reset(token)
    until(lambda: child.code is not None, 60)
    for person, shown in ((bob, False), (ada, True), (world.people["root"], True)):
        page = person.get("/models/installing").text
        assert "a/b" in page and ("/models/install/stop" in page) is shown, person.name
    assert bob.post("/models/install/stop", form).status_code == 409 and children.known(child.place.parent)
    assert ada.post("/models/install/stop", form).status_code == 303 and not children.known(child.place.parent)


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


ECHO = """
import http.server, sys

class Model(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = b'{"data": [{"id": "tiny"}, {"id": "tiny:adas-own"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)
    do_POST = do_DELETE = do_GET
    def log_message(self, *words): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""
"""The server of a model that tells everything to whoever reaches it."""


@contextmanager
def model_server(world: World) -> Iterator[None]:
    """A server behind the door of the chat with tiny."""
    folder = world.studio.folder / children.CHATS
    folder.mkdir(exist_ok=True)
    with (folder / "echo.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=log, start_new_session=True)
    about = {"name": "tiny", "pid": process.pid, "began": children.began(process.pid)}
    (folder / "echo.json").write_text(json.dumps(about), encoding="utf-8")
    try:
        until((folder / "echo.log").read_text, 60)
        yield
    finally:
        process.kill()
        process.wait()
        children.Child("tiny", folder / "echo").forget()


@attack
def the_runs_of_another_by_the_door_of_the_chat(world: World) -> None:
    """By paths that lead elsewhere once their dots are taken out, and by a name that is none."""

    key = world.people["bob"].key("chat")

    def said(method: str, path: str, body: bytes = b"") -> tuple[bytes, bytes]:
        """Status and answer."""
        lines = f"{method} /chat/tiny/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close"
        about = f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}"
        found = world.raw(f"{lines}\r\n{about}\r\n\r\n".encode() + body)
        assert b"adas-own" not in found.partition(b"\r\n\r\n")[2], path
        return found.split()[1], found

    with model_server(world):
        assert "adas-own" in world.people["root"].get("/chat/tiny/v1/models").text
        status, found = said("GET", "v1/models")
        assert status == b"200" and b'"tiny"' in found
        for path in ("x/../v1/models", "./v1/models", "v1/./models", "%2e/v1/models", "x%2f..%2fv1/models",
                     "v1/models/", "v1/models/.", "x/../v1/models/tiny:x", "v1/models/tiny:x", "v1/models/x/../tiny:x",
                     "v1/models/tiny/.."):  # fmt: skip
            assert said("GET", path)[0] == b"404", path
        for path in ("page/rows", "v1/../page/rows", "v1/%2e%2e/page/rows", "./page/rows", "v1/./../page/rows"):
            assert said("POST", path, b'{"model": "tiny"}')[0] == b"404", path
        for name in ("tiny:x", "", "tiny:"):
            assert said("POST", "v1/chat/completions", json.dumps({"model": name}).encode())[0] == b"404", name
        assert world.people["bob"].post("/chat/tiny/v1/chat/completions", json={"model": "tiny"}).status_code == 200


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
