"""Whose a run is: its own record says so, not the word of whoever reports on a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import FINISHED, RunRecord
from llm_installer.install.installer import install
from llm_installer.studio.colab.accept import ELSEWHERE
from llm_installer.studio.store import jobs
from tests.studio.people import PUBLIC, Person, World, running

TRAINED = "20260101-000000-medium"


@pytest.fixture
def folder(llm_home: Path) -> ModelDir:
    return ModelDir(install("tiny", say=lambda text: None).root)


@pytest.fixture
def world(folder: ModelDir) -> Iterator[World]:
    with running() as found:
        yield found


def run_of(folder: ModelDir, name: str, data: str, **result: object) -> Run:
    run = Run(folder.runs / name)
    run.root.mkdir(parents=True)
    RunRecord(FINISHED, "2026-01-01T00:00:00", {"data": data}, "", "", {}, "", data, result).write(run)
    (run.root / "report.md").write_text("adas-own", encoding="utf-8")
    for step in (20, 40):
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (run.checkpoints / f"checkpoint-{step}" / "state.json").write_text("{}", encoding="utf-8")
    return run


def seen(person: Person, key: str) -> list[int]:
    paths = ("/runs/{}", "/runs/{}/files/report.md", "/runs/{}/made")
    return [person.get(path.format(key)).status_code for path in paths]


def steps(person: Person, job: str) -> list[int]:
    found = person.get(f"/v1/fine_tuning/jobs/ftjob-{job}/checkpoints").json()["data"]
    return [one["step_number"] for one in found]


def test_a_run_of_another_is_not_had_by_its_name(world: World, folder: ModelDir) -> None:
    ada, bob = world.people["ada"], world.people["bob"]
    run_of(folder, TRAINED, f"/srv/studio/jobs/{ada.job()}/data/a.csv")
    job = bob.job(engine="colab")
    code = bob.post(f"/api/jobs/{job}/colab").json()["code"]
    with world.client(host=PUBLIC.partition("//")[2]) as anyone:
        token = anyone.post("/api/workers/pair", json={"code": code}).json()["token"]
    with world.with_key(token) as worker:
        assert worker.post("/api/workers/claim", json={"worker": "w", "engines": ["colab"]}).status_code == 200
        report = {"attempt": 1, "state": "training", "run": TRAINED}
        assert worker.post(f"/api/workers/jobs/{job}/report", json=report).status_code == 200
    assert seen(bob, f"{folder.root.name}/{TRAINED}") == [404, 404, 404]
    assert seen(bob, job) == [200, 409, 409]
    assert steps(bob, job) == steps(world.people["root"], job) == []
    assert bob.post(f"/runs/{job}/use").status_code == 409
    bob.post(f"/runs/{job}/cancel")
    for person in (bob, world.people["root"]):
        page = person.get(f"/runs/{job}").text
        assert TRAINED not in page and "adas-own" not in page
    assert TRAINED not in bob.get("/runs").text
    with world.with_key(token) as worker:
        worker.post(f"/api/workers/jobs/{job}/fail", json={"attempt": 1, "why": "cancelled"})
    bob.post(f"/runs/{job}/delete")
    assert (folder.runs / TRAINED / "run.json").is_file()


def test_what_came_of_an_own_job_is_seen(world: World, folder: ModelDir) -> None:
    ada = world.people["ada"]
    here, there = ada.job(), ada.job()
    run_of(folder, TRAINED, f"/srv/studio/jobs/{here}/data/a.csv")
    run_of(folder, f"{TRAINED}-2", "a.csv", **{ELSEWHERE: there})
    with world.studio.store.writing() as session:
        jobs.find(session, here).run, jobs.find(session, there).run = TRAINED, f"{TRAINED}-2"
    assert steps(ada, here) == steps(ada, there) == [40, 20]
    for key in (here, there, f"{folder.root.name}/{TRAINED}", f"{folder.root.name}/{TRAINED}-2"):
        assert seen(ada, key) == [200, 200, 200]
        assert 404 in seen(world.people["bob"], key)
