"""The command with accounts: what its terminal says, what its processes show, and its worker, which nobody else is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from llm_installer.core.errors import InstallerError
from llm_installer.studio.access import accounts, sessions
from llm_installer.studio.access.accounts import FIRST
from llm_installer.studio.access.starting import reset_link, secret_line
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.store.opening import open_store
from tests.studio.people import PASSWORD, running, until

Start = Callable[..., "subprocess.Popen[str]"]


def test_its_own_worker_is_let_in_and_no_process_shows_why(start: Start, llm_home: Path) -> None:
    process = start("studio", "--port", "0", "--accounts")
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(2)]
    address = re.search(r"http://127\.0\.0\.1:\d+", lines[0])
    assert address, lines
    file = llm_home / "studio" / "first-link.txt"
    assert str(file) in lines[1] and file.stat().st_mode & 0o077 == 0, "no terminal: it is not in what may be a log"
    link = file.read_text(encoding="utf-8").strip()
    with httpx.Client(base_url=address[0], trust_env=False, timeout=60) as http:
        form = {"name": "root", "password": PASSWORD, "again": PASSWORD}
        assert http.post(link.removeprefix(address[0]), data=form).status_code == 303
        token = re.search(r'name="form_token" value="(\w+)"', http.get("/account").text)
        assert token
        headers = {"x-form-token": token[1]}
        files = {"dataset": ("a.csv", b"input,output\nq,a\n" * 3)}
        made = http.post("/api/train", data={"model": "no-such-model"}, files=files, headers=headers).json()
        until(lambda: http.get(f"/api/jobs/{made['job_id']}").json()["state"] == "failed", 60)
    worker = next(one for one in psutil.Process(process.pid).children(recursive=True) if "worker" in one.cmdline())
    key = worker.environ()["LLM_STUDIO_TOKEN"]
    everything = [word for one in psutil.process_iter(["cmdline"]) for word in one.info["cmdline"] or ()]
    assert len(key) > 40 and not any(key in word for word in everything)
    assert not any(key.encode() in one.read_bytes() for one in (llm_home / "studio").rglob("*") if one.is_file())


def test_a_link_for_who_is_locked_out(llm_home: Path) -> None:
    with running() as world:
        with pytest.raises(InstallerError, match="there are: ada, bob, root, vic"):
            reset_link(StudioRequest(), "nobody")
        old = world.people["ada"]
        link = reset_link(StudioRequest(), "ADA")  # as it knows from the server that runs
        assert link.startswith(f"{world.base}/reset/")
        with world.client() as http:
            form = {"password": "a sentence of her own", "again": "a sentence of her own"}
            assert http.post(link.removeprefix(world.base), data=form).status_code == 303
            assert http.get("/account").status_code == 200
        assert old.get("/account").status_code == 303, "who was signed in is not any more"
        assert world.signed_in("ada").status_code == 401
        assert world.signed_in("ada", "a sentence of her own").status_code == 303


def test_a_second_start_makes_the_first_link_worthless(llm_home: Path) -> None:
    folder = llm_home / "studio"
    store = open_store(folder / "studio.sqlite3")
    with store.writing() as session:
        first = accounts.make_link(store, session, FIRST, "admin")
        accounts.make_link(store, session, FIRST, "admin")
    with store.reading() as session, pytest.raises(accounts.NoLink):
        accounts.link_of(store, session, FIRST, first)
    store.close()
    for _ in range(2):
        assert secret_line("http://x/first/y", folder) == f"see {folder / 'first-link.txt'}"


def test_a_worker_with_a_key_trains_what_a_member_wants(llm_home: Path) -> None:
    """Elsewhere, by its environment: the key is gone from there before any training is started."""
    with running() as world:
        key = world.people["root"].key("work")
        job = world.people["ada"].job(engine="worker", model="no-such-model")
        environment = {**os.environ, "LLM_STUDIO_TOKEN": key, "LLM_HOME": str(llm_home / "elsewhere")}
        command = ["python", "-m", "llm_installer", "worker", "--server", world.base, "--job", job]
        from sys import executable

        done = subprocess.run([executable, *command[1:]], env=environment, capture_output=True, text=True, timeout=120)
        assert world.people["ada"].get(f"/api/jobs/{job}").json()["state"] == "failed", done.stderr
        assert key not in done.stdout + done.stderr
        file = llm_home / "key"
        file.write_text(f"{key}\n")
        environment.pop("LLM_STUDIO_TOKEN")
        done = subprocess.run([executable, *command[1:], "--token-file", str(file)], env=environment,
                              capture_output=True, text=True, timeout=120)  # fmt: skip
        assert f"Job {job} is not waiting" in done.stdout, done.stdout + done.stderr


def test_the_client_of_openai_with_a_key(llm_home: Path) -> None:
    openai = pytest.importorskip("openai")
    with running() as world:
        client = openai.OpenAI(base_url=f"{world.base}/v1", api_key=world.people["ada"].key("train"), max_retries=0)
        file = client.files.create(file=("a.jsonl", b'{"prompt": "q", "answer": "a"}\n'), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
        assert [one.id for one in client.fine_tuning.jobs.list()] == [job.id]
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
        other = openai.OpenAI(base_url=f"{world.base}/v1", api_key=world.people["bob"].key("train"), max_retries=0)
        assert [*other.fine_tuning.jobs.list()] == [] == [*other.files.list()]
        with pytest.raises(openai.NotFoundError):
            other.fine_tuning.jobs.retrieve(job.id)
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{world.base}/v1", api_key="sk-wrong", max_retries=0).files.list()
        for one in (client, other):
            one.close()


def test_a_browser_story_as_forms(llm_home: Path) -> None:
    """The audit log says it as it was, by session and by key."""
    with running() as world:
        ada = world.people["ada"]
        with world.with_key(ada.key("train")) as program:
            file = program.post("/v1/files", files={"file": ("a.csv", b"input,output\nq,a\n")}).json()["id"]
        job = ada.job(file)
        ada.post(f"/runs/{job}/cancel")
        world.signed_in("ada", "wrong number")
        page = world.people["root"].get("/audit?who=ada").text
        for words in ("make an account", "make a key", "upload a file", "create a job", "cancel a job", job, "llmi-"):
            assert words in page, words
        assert "refused, 401" in page and "wrong number" not in page
        assert sessions.form_token("x") != sessions.form_token("y")
