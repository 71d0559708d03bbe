"""The checker finds nothing in a database that only the program wrote, and each thing that someone else did to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from llm_installer.studio import blobs
from llm_installer.studio.results import NEEDED, ResultFile, as_json
from llm_installer.studio.store import checker, checkpoints, claims, cleaning, events, files, hooks, jobs, tokens
from llm_installer.studio.store.claims import Claim, Report, Told
from llm_installer.studio.store.events import NewEvent
from llm_installer.studio.store.jobs import NewJob
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.tables import Checkpoint
from tests.commands import command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "studio"


def stored(folder: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    assert blobs.write(folder, digest, 0, content, len(content))[1]
    return digest


def a_file(store: Store, folder: Path) -> str:
    place = files.receiving(folder)
    place.write_bytes(b"a,b\n")
    return files.keep(store, folder, place, "x.csv").id


@pytest.fixture
def lived(store: Store, folder: Path) -> dict[str, str]:
    """A database in which every kind of thing has happened."""
    hooks.create(store, "https://a.test/", [], "", "k")
    found = {}
    for name in ("done", "failed", "cancelled", "again", "told", "lost", "back", "held", "queued"):
        job, _ = jobs.create(store, NewJob("tiny", a_file(store, folder), engine="worker"))
        found[name] = job.id
        if name not in ("queued", "told"):
            assert claims.claim(store, Claim(name, ("worker",), job.id))
            with store.writing() as session:
                told = Report(1, "training", 40, 4, 10, "r", events=[NewEvent("metrics", {"step": 4})])
                claims.report(store, session, job.id, told)
    with store.writing() as session:
        claims.fail(store, session, found["failed"], 1, "why not")
        jobs.cancel(store, session, found["cancelled"])
        claims.fail(store, session, found["cancelled"], 1, "It was cancelled")
        claims.fail(store, session, found["again"], 1, "why not")
        jobs.again(store, session, found["again"])
        claims.give_back(store, session, found["lost"], 1, "gone")
        claims.give_back(store, session, found["back"], 1, "gone")
        claims.report(store, session, found["back"], Report(1, "training"))
        claims.update(store, session, found["told"], Told("training", 50))
        claims.update(store, session, found["told"], Told("completed"))
        tokens.make(store, session, found["held"])
    assert claims.claim(store, Claim("w", ("worker",), found["again"]))
    digests = {name: stored(folder, name.encode()) for name in (*NEEDED, "run.json")}
    result = [ResultFile(name, digests[name], len(name)) for name in NEEDED]
    with store.writing() as session:
        claims.complete(store, session, found["done"], 1, {"files": as_json(result)})
        kept = Checkpoint(job_id=found["held"], attempt=1, run="r", step=4)
        checkpoints.keep(store, session, kept, [ResultFile("run.json", digests["run.json"], 8)])
    return found


def test_nothing_is_wrong_with_what_the_program_wrote(store: Store, folder: Path, lived: dict[str, str]) -> None:
    assert checker.check(store, folder, 0) == []
    assert cleaning.sweep(store, folder, 0) == 0
    cleaning.delete_job(store, lived["done"])
    files.remove(store, folder, _file_of(store, lived["failed"]))
    assert cleaning.sweep(store, folder, 0) == 2, "the contents of the result"
    assert checker.check(store, folder, 0) == []
    assert "8 jobs, 5 of them not ended" in checker.said(store, [])


def _file_of(store: Store, job: str) -> str:
    with store.reading() as session:
        return str(jobs.find(session, job).file_id)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE jobs SET state = 'training' WHERE id = :queued", "its events end with queued"),
        ("UPDATE jobs SET attempt = 7 WHERE id = :held", "its events end with training at attempt 1"),
        ("UPDATE jobs SET progress = 100 WHERE id = :held", "its progress is 100"),
        ("UPDATE jobs SET finished_at = NULL WHERE id = :done", "lacks a time"),
        ("UPDATE jobs SET lease_until = created_at WHERE id = :done", "has a lease"),
        ("UPDATE jobs SET lease_until = NULL WHERE id = :held", "nothing would end that"),
        ("UPDATE jobs SET error = '' WHERE id = :failed", "without a reason"),
        ("UPDATE jobs SET result = '{}' WHERE id = :done", "lacks adapter/adapter_model.safetensors"),
        ("UPDATE jobs SET state = 'odd' WHERE id = :held", "does not exist"),
        ("DELETE FROM events WHERE id = (SELECT min(id) FROM events WHERE job_id = :done)", "after nothing"),
        ("UPDATE files SET sha256 = bytes", "has changed since it came"),
    ],
)
def test_what_somebody_else_did_is_found(
    store: Store, folder: Path, lived: dict[str, str], change: str, found: str
) -> None:
    given = {name: job for name, job in lived.items() if f":{name}" in change}
    with store.writing() as session:
        assert session.execute(text(change), given).rowcount  # type: ignore[attr-defined]
    assert any(found in sentence for sentence in checker.check(store, folder)), checker.check(store, folder)


def test_events_that_do_not_follow_each_other_are_found(store: Store, folder: Path, lived: dict[str, str]) -> None:
    for data, wanted in (
        ({"state": "queued", "attempt": 1, "progress": 40}, "became queued after training"),
        ({"state": "uploading", "attempt": 2, "progress": 40}, "from attempt 1 to 2"),
        ({"state": "uploading", "attempt": 1, "progress": 3}, "fell from"),
    ):
        with store.writing() as session:
            held = jobs.locked(session, lived["back"])
            events.add(session, held, [NewEvent("state", {"status": "training", **data})], store.now(session))
            last = events.last_number(session, held.id)
        assert any(wanted in sentence for sentence in checker.check(store, folder)), wanted
        with store.writing() as session:
            session.execute(text("DELETE FROM events WHERE id = :last"), {"last": last})
    assert checker.check(store, folder, 0) == []


def test_contents_that_are_missing_changed_or_nobodys_are_found(
    store: Store, folder: Path, lived: dict[str, str]
) -> None:
    place = blobs.place(folder, hashlib.sha256(NEEDED[0].encode()).hexdigest())
    content = place.read_bytes()
    place.write_bytes(content[::-1])
    assert any("has changed" in one for one in checker.check(store, folder))
    place.unlink()
    assert any("not there completely" in one for one in checker.check(store, folder))
    place.write_bytes(content)
    stored(folder, b"nobody's")
    (folder / "files" / "file-nobodys").write_bytes(b"x")
    blobs.write(folder, "1" * 64, 0, b"half", 9)
    assert checker.check(store, folder) == [], "they came just now: somebody may be about to refer to them"
    assert sum("belongs to nothing" in one for one in checker.check(store, folder, 0)) == 3
    assert cleaning.sweep(store, folder, 0) == 3 and checker.check(store, folder, 0) == []


def test_a_file_of_a_job_that_is_gone_is_found(opened: Callable[[], Store], folder: Path, database: str) -> None:
    if database.startswith("postgresql"):
        pytest.skip("Postgres lets nobody do that")
    store = opened()
    job, _ = jobs.create(store, NewJob("tiny", a_file(store, folder)))
    with store.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("DELETE FROM files")
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
    found = checker.check(store, folder)
    assert any("refers to a row of files" in one for one in found)
    assert any(f"Job {job.id} is to learn from file" in one for one in found)


def test_the_command_says_it(llm_home: Path) -> None:
    nothing = command("studio", "--check")
    assert nothing.returncode == 1 and "There is no studio in" in nothing.stderr
    from llm_installer.studio.store.opening import open_store

    store = open_store(llm_home / "studio" / "studio.sqlite3")
    jobs.create(store, NewJob("tiny", None))
    good = command("studio", "--check")
    assert (good.returncode, good.stdout) == (
        0,
        "The studio's database is as it should be: 1 job, 1 of them not ended\n",
    ), good.stderr
    with store.writing() as session:
        session.execute(text("UPDATE jobs SET progress = 400"))
    store.close()
    bad = command("studio", "--check")
    assert bad.returncode == 1 and "its progress is 400" in bad.stdout and "1 found wrong" in bad.stderr
