"""Databases for the tests of the studio: SQLite always, and a real Postgres where its programs are installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from llm_installer.studio.store.opening import Store, open_store


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


@pytest.fixture(params=["sqlite", "postgres"])
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
