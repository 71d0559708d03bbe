"""Secrets are where they are used, and nowhere else: not in the database, a file, an answer or a list of processes."""

from __future__ import annotations

import base64
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from llm_installer.studio.store import tokens
from llm_installer.studio.store.opening import open_store
from tests.studio.test_survival import House, house, until
from tests.tiers import minutes

__all__ = ["house"]
HUB = "hf_canaryCanaryCanary0123456789"


def leaks(secrets: dict[str, str], text: str) -> set[str]:
    """Names of the secrets that a text has, as they are or in base64."""
    return {
        name
        for name, secret in secrets.items()
        if secret in text or base64.b64encode(secret.encode()).decode().rstrip("=") in text
    }


@minutes
@pytest.mark.slow
def test_no_canary_is_found(
    house: Callable[..., House],
    start: Callable[..., subprocess.Popen[str]],
    installed: Path,
    write_rows: Callable[..., Path],
    llm_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", HUB)
    studio = house("--no-worker", "--lease", "2")
    job = studio.job(write_rows(24), engine="worker")
    store = open_store(llm_home / "studio" / "studio.sqlite3")
    with store.writing() as session:
        token = tokens.make(store, session, job)
        code = tokens.make(store, session, job, tokens.PAIRING, 600)
    store.close()
    hook = studio.api.post("/api/webhooks", json={"url": "https://8.8.8.8/", "states": ["queued"]}).json()
    secrets = {"hub": HUB, "token": token, "code": code, "hook": hook["secret"].removeprefix("whsec_")}
    environment = {**os.environ, "LLM_STUDIO_TOKEN": token}
    worker = start("worker", "--server", f"http://127.0.0.1:{studio.port}", "--job", job, env=environment)
    until(lambda: int(str((studio.asked(f"/api/jobs/{job}") or {}).get("step", 0))) >= 2)
    listed = ""
    for process in [psutil.Process(os.getpid()), *psutil.Process(os.getpid()).children(recursive=True)]:
        listed += " ".join(process.cmdline())
    assert "--server" in listed and leaks(secrets, listed) == set()
    until(lambda: (studio.asked(f"/api/jobs/{job}") or {}).get("state") in ("completed", "failed"))
    paths = (f"/api/jobs/{job}", f"/api/jobs/{job}/log", "/api/webhooks", f"/runs/{job}", "/settings", "/openapi.json",
             f"/api/jobs/{job}/notebook", "/api/colab/notebook", f"/jobs/{job}/colab")  # fmt: skip
    for path in paths:
        assert leaks(secrets, studio.api.get(path).text) == set(), path
    said = "".join(worker.communicate(timeout=60))
    studio.end()
    said += "".join(studio.process.communicate())
    assert leaks(secrets, said) == set()
    with closing(sqlite3.connect(llm_home / "studio" / "studio.sqlite3")) as base:
        assert leaks(secrets, "\n".join(base.iterdump())) == set()
    seen = 0
    for file in llm_home.rglob("*"):
        if file.is_file() and not file.is_symlink():
            seen += 1
            assert leaks(secrets, file.read_bytes().decode("latin-1")) == set(), file
    assert seen > 20


def test_a_canary_would_be_found() -> None:
    secrets = {"one": HUB}
    assert leaks(secrets, f"x{HUB}y") == leaks(secrets, base64.b64encode(HUB.encode()).decode()) == {"one"}
    assert leaks(secrets, "nothing") == set()
