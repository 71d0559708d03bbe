"""A dataset of a hub on loopback becomes a file of the studio, fetched by a command of its own."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import httpx2
import pytest
from sqlalchemy import select, text

from llm_installer.core.paths import ModelDir
from llm_installer.studio.access.who import Who
from llm_installer.studio.pages import fetching
from llm_installer.studio.pages.fetching import checked_dataset
from llm_installer.studio.store import checker, cleaning, files, quotas
from llm_installer.studio.store.account_tables import Account
from llm_installer.studio.store.acting import ACTING
from llm_installer.studio.store.tables import File
from tests.data.reading import test_hub
from tests.data.reading.test_hub import endpoint
from tests.studio.people import World, running
from tests.studio.test_pages import Open, folder, opened_studio

__all__ = ["endpoint", "folder", "opened_studio"]
ROWS = [{"prompt": f"question {n}", "answer": f"answer {n}"} for n in range(5)]


@pytest.fixture
def hub(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    monkeypatch.setitem(test_hub.REPOS, "org/answers", {"train.jsonl": lines})
    for name, value in {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}.items():
        monkeypatch.setenv(name, value)


def ended(opened_studio: Open, where: str) -> httpx2.Response:
    """The page of a fetch once that is over."""
    ends = time.monotonic() + 120
    while True:
        answer = opened_studio.http.get(where.replace("/new/hub?", "/new/hub/now?"))
        if "waiting" not in answer.text:
            return answer
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.slow
def test_a_dataset_of_the_hub_becomes_a_file(opened_studio: Open, folder: ModelDir, hub: None) -> None:
    http = opened_studio.http
    given = http.post("/new", data={"model": "tiny", "dataset": "https://huggingface.co/datasets/org/answers"})
    where = given.headers["location"]
    assert where.startswith("/new/hub?dataset=org%2Fanswers")
    assert "org/answers" in http.get(where).text and "org/answers" in http.get("/new").text
    for _ in range(2):
        answer = ended(opened_studio, where)
        assert "/new/hub/keep" in answer.text and "org/answers" in http.get("/new").text, "looking changes nothing"
    form = {"dataset": "org/answers", "model": "tiny"}
    place = http.post("/new/hub/keep", data=form).headers["location"]
    assert http.post("/new/hub/keep", data=form).headers["location"] == place, "it is kept once"
    assert place.endswith("?model=tiny") and "org_answers.jsonl" in http.get(place).text
    with opened_studio.studio.store.reading() as session:
        (file,) = files.listed(session)
    kept = [json.loads(line) for line in files.path_of(opened_studio.studio.folder, file.id).read_text().splitlines()]
    assert len(kept) == len(ROWS) and "question 3" in str(kept[3]) and "answer 3" in str(kept[3])
    assert "being copied" not in http.get("/new").text

    wrong = ended(opened_studio, http.post("/new", data={"dataset": "org/nothing"}).headers["location"])
    assert "org/nothing does not exist" in wrong.text and "hub has no dataset of that name" in wrong.text
    assert http.post("/new/hub/stop", data={"dataset": "org/nothing"}).headers["location"] == "/new"
    assert "org/nothing" not in http.get("/new").text


def fetched(opened_studio: Open | World, name: str, content: bytes, pid: int = 1) -> Path:
    """A dataset whose command has just ended; its rows."""
    place = fetching.place_of(opened_studio.studio, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    child = fetching.child_of(opened_studio.studio, name).place
    child.with_name(f"{child.name}.json").write_text(json.dumps({"name": name, "pid": pid, "began": "before"}))
    child.with_name(f"{child.name}.end").write_text("0")
    return place


def test_looking_at_what_was_fetched_changes_nothing(opened_studio: Open, folder: ModelDir) -> None:
    http, place = opened_studio.http, fetched(opened_studio, "org/answers", b'{"prompt": "q", "completion": "a"}\n')
    for path in ("/new/hub", "/new/hub/now", "/new/hub/now"):
        assert (
            'action="/new/hub/keep" method="post"' in http.get(f"{path}?dataset=org/answers").text and place.is_file()
        )
    made = http.post("/new/hub/keep", data={"dataset": "org/answers"}).headers["location"]
    assert made.startswith("/new/file-") and not place.exists()
    for answer in (
        http.post("/new/hub/keep", data={"dataset": "org/answers"}),
        http.get("/new/hub?dataset=org/answers"),
    ):
        assert answer.headers["location"] == made, "whoever comes back is sent to the file"
    assert made in http.get("/new/hub/now?dataset=org/answers").text


def unseen(opened_studio: Open, name: str) -> list[Path]:
    """Other files of a dataset: rows for validation, and what a command that was killed left."""
    place = fetching.place_of(opened_studio.studio, name)
    found = [place.with_name(f"{place.stem}.validation.jsonl"), place.with_name(f".{place.name}.77.part")]
    for one in found:
        one.write_bytes(b"{}")
    return found


def test_what_was_beside_the_rows_goes(opened_studio: Open, folder: ModelDir) -> None:
    for way in ("keep", "stop"):
        fetched(opened_studio, "org/answers", b"{}")
        left = unseen(opened_studio, "org/answers")
        opened_studio.http.post(f"/new/hub/{way}", data={"dataset": "org/answers"})
        assert not any(one.exists() for one in left), way


def test_what_nobody_keeps_goes_a_day_after_its_last_word(opened_studio: Open, folder: ModelDir) -> None:
    studio = opened_studio.studio
    place = fetched(opened_studio, "org/answers", b"{}")
    left = [
        place,
        fetching.child_of(studio, "org/answers").place.with_suffix(".json"),
        *unseen(opened_studio, "org/answers"),
    ]
    fresh = fetched(opened_studio, "org/others", b"{}")
    old = time.time() - cleaning.DAY
    for one in left:
        os.utime(one, (old, old))
    os.utime(left[1])
    assert cleaning.sweep(studio.store, studio.folder) == 0, "its log is of today"
    for one in place.parent.glob(f"*{place.name[:24]}*"):
        os.utime(one, (old, old))
    assert cleaning.sweep(studio.store, studio.folder) >= len(left)
    assert fresh.exists() and not any(one.exists() for one in left)
    assert checker.check(studio.store, studio.folder) == []
    opened_studio.http.post("/new/hub/keep", data={"dataset": "org/others"})
    (note,) = place.parent.glob(f"*{files.KEPT}")
    os.utime(note, (old, old))
    assert cleaning.sweep(studio.store, studio.folder) == 0, "it says what the dataset has become"
    opened_studio.http.delete(f"/v1/files/{note.read_text()}")
    assert cleaning.sweep(studio.store, studio.folder) == 1


def test_a_quota_leaves_what_was_fetched(llm_home: Path) -> None:
    with running() as world:
        ada = world.people["ada"]
        with world.studio.store.writing() as session:
            owner = session.scalars(select(Account.id).where(Account.name == "ada")).one()
            quotas.choose(session, {"stored_gib": 1})
            big = File(id="file-big", name="x", bytes=1 << 30, sha256="", purpose="fine-tune", owner=owner,
                       created_at=world.studio.store.now(session))  # fmt: skip
            session.add(big)
        token = ACTING.set(Who(owner, "ada", "member").acting)
        try:
            place = fetched(world, "org/answers", b"{}")
        finally:
            ACTING.reset(token)
        for _ in range(2):
            assert ada.post("/new/hub/keep", {"dataset": "org/answers"}).status_code == 429
            assert place.read_bytes() == b"{}" and "/new/hub/keep" in ada.get("/new/hub?dataset=org/answers").text
        with world.studio.store.writing() as session:
            session.delete(session.get(File, "file-big"))
        made = ada.post("/new/hub/keep", {"dataset": "org/answers"}).headers["location"]
        assert made.startswith("/new/file-") and not place.exists()
        assert (
            "keep a dataset from the hub" in (log := world.people["root"].get("/audit").text) and "org/answers" in log
        )


def test_it_is_kept_once_whoever_presses(opened_studio: Open, folder: ModelDir) -> None:
    place, http, gate = fetched(opened_studio, "org/answers", b"{}\n" * (1 << 20)), opened_studio.http, Barrier(4)

    def press(_: int) -> httpx2.Response:
        gate.wait()
        return http.post("/new/hub/keep", data={"dataset": "org/answers"})

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(press, range(4)))
    with opened_studio.studio.store.reading() as session:
        (file,) = files.listed(session)
    assert {answer.status_code for answer in answers} == {303} and not place.exists()
    places = {answer.headers["location"].partition("?")[0] for answer in answers}
    assert f"/new/{file.id}" in places <= {f"/new/{file.id}", "/new/hub"}


@pytest.mark.parametrize("way", ["again", "stop"])
def test_what_happens_while_it_is_kept_loses_nothing(opened_studio: Open, folder: ModelDir, way: str) -> None:
    place, http = fetched(opened_studio, "org/answers", b'{"text": "old"}'), opened_studio.http
    with ThreadPoolExecutor(1) as threads:
        with opened_studio.studio.store.writing() as session:
            session.execute(text("DELETE FROM files WHERE 1 = 0"))  # nobody else writes until this ends
            kept = threads.submit(http.post, "/new/hub/keep", data={"dataset": "org/answers"})
            ends = time.monotonic() + 60
            while place.exists():
                assert time.monotonic() < ends and not kept.done()
                time.sleep(0.01)
            assert "It becomes a file" in http.get("/new/hub?dataset=org/answers").text
            if way == "stop":
                assert http.post("/new/hub/stop", data={"dataset": "org/answers"}).headers["location"] == "/new"
            else:
                fetched(opened_studio, "org/answers", b'{"text": "new"}', pid=2)
        made = kept.result().headers["location"].removeprefix("/new/").removesuffix("?model=")
    assert files.path_of(opened_studio.studio.folder, made).read_text() == '{"text": "old"}'
    if way == "stop":
        assert "It was stopped" in http.get("/new/hub?dataset=org/answers").text
    else:
        assert place.read_text() == '{"text": "new"}'
        assert http.post("/new/hub/keep", data={"dataset": "org/answers"}).headers["location"].startswith("/new/file-")


def test_what_is_too_large_is_not_kept(opened_studio: Open, folder: ModelDir) -> None:
    place, http = fetched(opened_studio, "org/answers", b"x" * 100), opened_studio.http
    object.__setattr__(opened_studio.studio.settings, "upload_bytes", 99)
    for _ in range(2):
        assert "more than this studio takes" in http.get("/new/hub/now?dataset=org/answers").text
        assert not place.exists(), "it is of no use, and large"
    assert http.post("/new/hub/keep", data={"dataset": "org/answers"}).headers["location"].startswith("/new/hub?")
    http.post("/new/hub/stop", data={"dataset": "org/answers"})
    assert not place.exists() and "org/answers" not in http.get("/new").text
    with opened_studio.studio.store.reading() as session:
        assert files.listed(session) == []


@pytest.mark.parametrize("name", ["squad", "tatsu-lab/alpaca", "a/b:train", "a/b:config:train", " a/b "])
def test_names_of_datasets(name: str) -> None:
    assert checked_dataset(name) == name.strip()
