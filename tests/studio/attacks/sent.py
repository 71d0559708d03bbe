"""Attacks by what is sent: uploads and bodies."""

from __future__ import annotations

import io
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
from sqlalchemy import select

from llm_installer.studio.store import quotas
from llm_installer.studio.store.account_tables import Account
from llm_installer.studio.store.tables import File
from tests.studio.attacks.parts import attack, reading_key
from tests.studio.people import CSV, World

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


@contextmanager
def left_open(world: World, path: str, start: bytes, *lines: str) -> Iterator[None]:
    """Two requests of which a few bytes come, and no more."""
    host, port = world.base.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for _ in range(2):
            link = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            head = "\r\n".join((f"POST {path} HTTP/1.1", f"Host: {host}", "Expect: 100-continue", *lines))
            link.sendall(f"{head}\r\n\r\n".encode())
            assert link.recv(100).startswith(b"HTTP/1.1 100 "), "it waits for the body"
            link.sendall(start)
        yield


@attack
def holding_up_all_uploads_before_one_is_known(world: World) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    with left_open(world, "/sign-in", b"4\r\nname\r\n", form, "Transfer-Encoding: chunked"):
        assert world.people["ada"].upload(b"x" * (2 << 20))


@attack
def holding_up_what_has_no_body(world: World) -> None:
    """Two uploads that do not end hold up other uploads, for as long as they may bring nothing, and nothing else."""
    ada, key = world.people["ada"], world.people["bob"].key("train")
    file, job = ada.upload(), ada.job()
    form = ("Content-Type: multipart/form-data; boundary=b", "Content-Length: 5000000", f"Authorization: Bearer {key}")
    adas = f"Host: 127.0.0.1\r\nAuthorization: Bearer {ada.key('train')}\r\nConnection: close\r\n\r\n"
    with left_open(world, "/v1/files", b"--b\r\n", *form):
        assert ada.post("/v1/files", files={"file": ("a.csv", b"x" * (2 << 20))}).status_code == 503
        for line in (f"POST /api/jobs/{job}/cancel", f"DELETE /v1/files/{file}"):
            assert world.raw(f"{line} HTTP/1.1\r\n{adas}".encode()).split()[1] in (b"200", b"409"), line
        pieces = (CSV for _ in range(2))
        assert ada.http.post("/api/jobs", content=pieces, headers={"x-form-token": ada.token}).status_code == 422


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
