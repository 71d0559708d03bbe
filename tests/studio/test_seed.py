"""The three calls of /api/train, as the scripts that know them make them; and who may make them."""

from __future__ import annotations

import io
import socket
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import requests

from llm_installer.studio.context import Studio
from llm_installer.studio.store import tokens
from llm_installer.studio.worker.client import Server


def test_the_script_as_it_was_written(studio: Studio, tmp_path: Path) -> None:
    """But for the host."""
    (tmp_path / "my_data.csv").write_text('input,output\n"What is it?","A test."\n')
    with (tmp_path / "my_data.csv").open("rb") as dataset:
        files = {"dataset": dataset}
        data = {"model": "llama-2-7b"}
        response = requests.post(f"{studio.address}/api/train", data=data, files=files)
    job = response.json()
    assert set(job) == {"job_id", "colab_url", "message"} and job["message"].startswith("Training job created")
    status = requests.get(f"{studio.address}/api/train/status/{job['job_id']}").json()
    assert status["model"] == "meta-llama/Llama-2-7b-hf"
    expected = {"job_id": job["job_id"], "status": "pending", "progress": 0, "colab_url": job["colab_url"]}
    assert expected.items() <= status.items()
    assert status["created_at"].startswith("20") and status["updated_at"] >= status["created_at"]


def test_a_notebook_tells_of_a_job_to_its_end(api: httpx.Client, make_job: Callable[..., str]) -> None:
    job = make_job(engine="colab")

    def tell(**form: object) -> httpx.Response:
        return api.post(f"/api/train/update/{job}", data=form)

    assert tell(status="completed", progress=100).status_code == 409, "it has not begun"
    assert tell(status="pending").json()["status"] == "pending"
    assert tell(status="training", progress=45).json()["progress"] == 45
    assert tell(status="training", progress=20).json()["progress"] == 45, "progress never falls"
    assert tell(status="pending").status_code == 409
    assert tell(status="training", progress=100).json()["progress"] == 99
    done = tell(status="completed").json()
    assert (done["status"], done["progress"], done["state"]) == ("completed", 100, "completed")
    assert tell(status="completed").status_code == 200, "said twice"
    assert tell(status="training", progress=3).status_code == 409
    assert api.get(f"/api/train/status/{job}").json()["progress"] == 100
    assert api.get(f"/api/train/adapter/{job}").status_code == 404, "nobody handed one in"


@pytest.mark.parametrize("engine", ["local", "worker", "colab"])
@pytest.mark.parametrize("how", ["pending", "again"])
def test_a_job_that_a_notebook_gave_up_is_as_new(
    api: httpx.Client, make_job: Callable[..., str], how: str, engine: str
) -> None:
    job = make_job(engine=engine)

    def tell(**form: object) -> dict[str, object]:
        answer = api.post(f"/api/train/update/{job}", data=form)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    assert tell(status="training")["engine"] == "colab"
    failed = tell(status="failed", error="boom")
    assert failed["error"] == "boom" and failed["finished_at"]
    found = tell(status="pending") if how == "pending" else api.post(f"/api/jobs/{job}/again").json()
    assert (found["state"], found["error"], found["finished_at"]) == ("queued", None, None)
    taken = api.post("/api/workers/claim", json={"worker": "w", "engines": [engine]})
    assert taken.json()["id"] == job, "it waits for those for whom it was made"


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"status": "cancelled"},
        {"status": "training", "progress": "101"},
        {"status": "training", "progress": "-1"},
        {"status": "training", "progress": "0" * 9 + "9" * 4500},
    ],
)
def test_what_is_no_update_changes_nothing(
    api: httpx.Client, make_job: Callable[..., str], form: dict[str, str]
) -> None:
    job = make_job()
    answer = api.post(f"/api/train/update/{job}", data=form)
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert api.get(f"/api/train/status/{job}").json()["status"] == "pending"
    assert api.post("/api/train/update/nobody", data={"status": "training"}).status_code == 404


def test_a_notebook_that_was_cancelled_hears_of_it(api: httpx.Client, make_job: Callable[..., str]) -> None:
    job = make_job()
    api.post(f"/api/train/update/{job}", data={"status": "training"})
    cancelled = api.post(f"/api/jobs/{job}/cancel").json()
    assert (cancelled["state"], cancelled["status"]) == ("cancelled", "failed")
    assert api.post(f"/api/train/update/{job}", data={"status": "training"}).status_code == 409


def test_a_worker_that_has_a_job_is_the_only_one_who_tells(
    api: httpx.Client, make_job: Callable[..., str], studio: Studio, hand_in: Callable[..., object]
) -> None:
    job, server = make_job(), Server(studio.address)
    claimed = server.claim("w", ("local",))
    assert claimed and claimed["id"] == job
    assert api.post(f"/api/train/update/{job}", data={"status": "failed"}).status_code == 409
    hand_in(job, 1, model="tiny:1")
    server.close()
    packed = zipfile.ZipFile(io.BytesIO(api.get(f"/api/train/adapter/{job}").content))
    assert sorted(packed.namelist()) == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"]
    assert api.get(f"/api/train/dataset/{job}").content == b"input,output\na,b\n"


def test_the_same_request_twice_is_one_job(api: httpx.Client) -> None:
    def ask(content: bytes, model: str = "tiny") -> httpx.Response:
        headers = {"Idempotency-Key": "once"}
        return api.post("/api/train", data={"model": model}, files={"dataset": ("d.csv", content)}, headers=headers)

    first = ask(b"input,output\n1,2\n").json()["job_id"]
    assert ask(b"input,output\n1,2\n").json()["job_id"] == first
    assert ask(b"input,output\n1,3\n").status_code == 422
    assert ask(b"input,output\n1,2\n", "other").status_code == 422
    (data,) = api.get("/v1/files").json()["data"]
    assert api.get(f"/api/jobs/{first}").json()["file_id"] == data["id"], "what was sent in vain is not kept"


@pytest.mark.parametrize("model", ["../x", "http://169.254.169.254/a", "/etc", "a/b/c", "", "x y", "[::1]/a", "--data"])
def test_a_model_is_a_name_and_no_address(api: httpx.Client, model: str) -> None:
    answer = api.post("/api/train", data={"model": model}, files={"dataset": ("d.csv", b"a,b\n")})
    assert answer.status_code == 400 and "hub id" in answer.json()["error"]["message"]
    assert api.get("/api/jobs").json()["data"] == [] == api.get("/v1/files").json()["data"]


@pytest.mark.parametrize("options", ['{"push": "a/b"}', '{"output": "/etc"}', '{"epochs": [1]}', "[]", "{", "null"])
def test_options_do_not_reach_beyond_the_training(api: httpx.Client, options: str) -> None:
    form = {"model": "tiny", "options": options}
    assert api.post("/api/train", data=form, files={"dataset": ("d.csv", b"a,b\n")}).status_code == 400


def test_a_file_keeps_its_name_and_nothing_else_of_it(api: httpx.Client, studio: Studio) -> None:
    name = '../../x"\r\nSet-Cookie: a=b<img onerror=1>.csv'
    form, file = {"model": "tiny"}, {"dataset": (name, b"input,output\n1,2\n")}
    job = api.post("/api/train", data=form, files=file).json()["job_id"]
    answer = api.get(f"/api/train/dataset/{job}")
    assert answer.status_code == 200 and "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"].startswith("attachment")
    assert {file.parent.name for file in studio.folder.rglob("file-*")} == {"files"}


def test_who_may_ask(api: httpx.Client, make_job: Callable[..., str], studio: Studio) -> None:
    job, other = make_job(), make_job()
    path = f"/api/train/status/{job}"

    def got(headers: dict[str, str], method: str = "GET") -> int:
        return api.request(method, path if method == "GET" else f"/api/jobs/{job}/cancel", headers=headers).status_code

    assert got({}) == 200
    assert got({"host": "evil.test"}) == got({"host": "127.0.0.1.evil.test"}) == 421
    assert got({"origin": "http://evil.test"}) == got({"origin": "null"}) == 403
    assert got({"sec-fetch-site": "cross-site"}, "POST") == got({"sec-fetch-site": "same-site"}, "POST") == 403
    assert got({"origin": studio.address, "sec-fetch-site": "same-origin"}) == 200
    outside = ({"host": "studio.example.org"}, {"x-forwarded-for": "1.2.3.4"}, {"via": "1.1 proxy"})
    with studio.store.writing() as session:
        token, wrong = tokens.make(studio.store, session, job), tokens.make(studio.store, session, other)
    for headers in outside:
        assert got(headers) == got({**headers, "authorization": "Bearer guess"}) == 401
        assert got({**headers, "authorization": f"Bearer {token}"}) == 200
        assert got({**headers, "authorization": f"Bearer {wrong}"}) == 403
        assert api.get("/api/jobs", headers={**headers, "authorization": f"Bearer {token}"}).status_code == 403
    claim = {"worker": "w", "engines": ["local"], "job_id": other}
    headers = {**outside[0], "authorization": f"Bearer {token}"}
    assert api.post("/api/workers/claim", json=claim, headers=headers).json()["id"] == job, "the job of its token"


def test_pages_may_do_little(api: httpx.Client) -> None:
    for path in ("/health", "/nothing"):
        headers = api.get(path).headers
        assert "unsafe" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_too_much_is_refused_before_it_is_read(studio: Studio) -> None:
    port = int(studio.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = f"POST /api/train HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {3 << 30}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:  # that does not say how long it is
        head = f"POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        with suppress(OSError):  # it may hang up before it has read all of it
            for _ in range(20):
                connection.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        answer = connection.recv(100)
        assert answer[9:12] in (b"413", b"400"), answer
    assert list((studio.folder / "spool").iterdir()) == []
