"""A training waits while a chat on this machine holds the memory that it needs, and says so."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.core.run.served import ServedRuns
from llm_installer.core.text import GIB
from llm_installer.studio.context import Studio
from llm_installer.studio.store import claims, jobs
from llm_installer.studio.worker import job as worker_job
from llm_installer.studio.worker import room
from llm_installer.studio.worker.client import Server
from llm_installer.studio.worker.job import Job
from llm_installer.studio.worker.telling import Work

FULL = {"memory": {"fits": False, "predicted_bytes": 9 * GIB, "free_bytes": 3 * GIB}}
FREE = {"memory": {"fits": True, "predicted_bytes": 9 * GIB, "free_bytes": 30 * GIB}}


@pytest.fixture
def chat(llm_home: Path) -> ServedRuns:
    """What a server of a model tells others; this process is it."""
    folder = ModelDir(llm_home / "models" / "tiny")
    folder.root.mkdir(parents=True)
    return ServedRuns(folder, "http://127.0.0.1:1234")


def test_who_answers_is_known_by_what_it_says(chat: ServedRuns, llm_home: Path) -> None:
    assert list(room.chats()) == ["tiny"] and "http://127.0.0.1:1234" in room.chats()["tiny"]
    chat.close()
    assert room.chats() == {}


def test_a_job_waits_only_where_that_helps() -> None:
    said = room.in_the_way(FULL, {"tiny": "process 1"})
    assert "needs 9.0 GiB and 3.0 GiB are free while tiny answers" in said and "page Chat" in said
    assert "tiny and other answer; stop them" in room.in_the_way(FULL, {"tiny": "1", "other": "2"})
    assert room.in_the_way(FREE, {"tiny": "1"}) == room.in_the_way(FULL, {}) == ""
    assert room.in_the_way({"error": "no such file"}, {"tiny": "1"}) == "", "training says that itself"


def test_it_goes_on_when_the_chat_ends(
    chat: ServedRuns, studio: Studio, make_job: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan alone is made up: this machine has more memory than a test may fill."""
    asked = threading.Event()

    def plan(*given: object) -> dict[str, object]:
        asked.set()
        return FULL

    monkeypatch.setattr(worker_job.insight, "plan", plan)
    server, job = Server(studio.address), make_job()
    claimed = server.claim("w", ("local",))
    assert claimed
    ending = threading.Event()
    doing = Job(server, Work.of(claimed), tmp_path / "job", ending)
    thread = threading.Thread(target=doing._wait_for_memory, args=(ModelDir(tmp_path), tmp_path / "data"))
    thread.start()
    assert asked.wait(30)
    ends = time.monotonic() + 30
    while "Waiting for memory" not in json.dumps(_log(studio, job)):
        assert time.monotonic() < ends and thread.is_alive()
        time.sleep(0.05)
    with studio.store.reading() as session:
        assert jobs.find(session, job).state in claims.HELD, "its lease is renewed meanwhile"
    chat.close()
    thread.join(30)
    assert not thread.is_alive()
    server.close()


def _log(studio: Studio, job: str) -> list[object]:
    from llm_installer.studio.store import events

    with studio.store.reading() as session:
        return [one.data for one in events.after(session, job)]
