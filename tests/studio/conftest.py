"""Databases for the tests of the studio: SQLite always, and a real Postgres where its programs are installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from llm_installer.studio.context import Studio
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.store.opening import Store, open_store
from llm_installer.studio.story import opened as opened_studio
from llm_installer.studio.worker.client import Server


def _program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a Postgres of this session, on a Unix socket; as another account where this one is root, which
    Postgres refuses."""
    initdb, server = _program("initdb"), _program("postgres")
    if not (initdb and server):
        pytest.skip("Postgres is not installed")
    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")  # the path of a socket may have 107 bytes
    account: list[str] = []
    if os.getuid() == 0:
        account = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        shutil.chown(folder, "nobody", "nogroup")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*account, initdb, "-D", f"{folder}/db", "-U", "studio", "-A", "trust", "-N"], check=True, **quiet)
    fast = ("-c", "fsync=off", "-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}")
    process = subprocess.Popen([*account, server, "-D", f"{folder}/db", *fast, "-c", "max_connections=200"], **quiet)
    try:
        _until_it_answers(folder, process)
        yield folder
    finally:
        process.send_signal(signal.SIGINT)  # it waits for nobody
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _until_it_answers(folder: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(host=folder, user="studio", dbname="postgres").close()
        except psycopg.OperationalError:
            if time.monotonic() > ends or process.poll() is not None:
                raise
            time.sleep(0.05)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty database may be made: a path, or an address."""
    if request.param == "sqlite":
        yield str(tmp_path / "studio" / "studio.sqlite3")
        return
    folder, name = request.getfixturevalue("postgres"), f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(host=folder, user="studio", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"postgresql://studio@/{name}?host={folder}"


@pytest.fixture
def opened(database: str) -> Iterator[Callable[[], Store]]:
    """Opens the database of the test, as often as it is called."""
    stores: list[Store] = []

    def again() -> Store:
        stores.append(open_store(database))
        return stores[-1]

    yield again
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], Store]) -> Store:
    """An empty database."""
    return opened()


@pytest.fixture
def studio(llm_home: Path) -> Iterator[Studio]:
    """A studio that answers on loopback, without a worker of its own."""
    with opened_studio(StudioRequest(port=0, worker=False, public_url="https://studio.example.org")) as running:
        thread = threading.Thread(target=running.run)
        thread.start()
        try:
            yield running.studio
        finally:
            running.stop()
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def api(studio: Studio) -> Iterator[httpx.Client]:
    """A client of that studio, as a program on this machine is one."""
    with httpx.Client(base_url=studio.address, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def make_job(api: httpx.Client) -> Callable[..., str]:
    """Creates a training of `tiny` as a form does, and returns its id."""

    def make(content: bytes = b"input,output\na,b\n", **fields: str) -> str:
        answer = api.post("/api/train", data={"model": "tiny", **fields}, files={"dataset": ("my data.csv", content)})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    return make


ADAPTER = {
    "adapter/adapter_model.safetensors": (2).to_bytes(8, "little") + b"{}",
    "adapter/adapter_config.json": b'{"peft_type": "LORA"}',
    "metrics.jsonl": b'{"kind": "step"}\n',
}
"""A small result."""


@pytest.fixture
def hand_in(studio: Studio) -> Iterator[Callable[..., dict[str, object]]]:
    """Sends a small result of a job that an attempt holds, and completes it."""
    server = Server(studio.address)

    def send(job_id: str, attempt: int, **result: object) -> dict[str, object]:
        files = []
        for path, content in ADAPTER.items():
            digest = hashlib.sha256(content).hexdigest()
            server.put(digest, 0, content, len(content))
            files.append({"path": path, "sha256": digest, "bytes": len(content)})
        return server.tell(job_id, "complete", {"attempt": attempt, "files": files, "result": result})

    yield send
    server.close()
