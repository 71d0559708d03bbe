"""Checkpoints of workers elsewhere: what may be one, the newest is kept, and whoever takes over resumes from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import RUNNING, RunRecord
from llm_installer.studio.context import Studio
from llm_installer.studio.plain import Json
from llm_installer.studio.store import cleaning, jobs
from llm_installer.studio.worker.client import Refusal, Replaced, Server
from llm_installer.studio.worker.keeping import Keeping, brought_back
from llm_installer.studio.worker.telling import AT_ONCE, WORDS, Telling, Work
from tests.studio.test_survival import House, adapter_of, house, metrics_of, until
from tests.tiers import minutes

__all__ = ["house"]
ID = "20261127-101112-medium"


@pytest.fixture
def server(studio: Studio) -> Iterator[Server]:
    found = Server(studio.address)
    yield found
    found.close()


def a_run(folder: ModelDir, *steps: int, data: str = "/elsewhere/data.csv", **options: object) -> Run:
    """The folder of a run that was at work, with checkpoints."""
    run = Run(folder.runs / ID)
    for step in steps:
        place = run.checkpoints / f"checkpoint-{step}"
        place.mkdir(parents=True)
        parts = {"state.json": b"{}", "optimizer.pt": f"of {step}".encode(), "adapter_model.safetensors": b"weights"}
        for name, content in parts.items():
            (place / name).write_bytes(content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
        (place / "manifest.json").write_text(json.dumps(hashes))
    given = {"data": data, "epochs": 3, "model_path": "/elsewhere/tiny", **options}
    RunRecord(RUNNING, "2026-11-27T10:11:12", given, "/elsewhere", "rows", {}, "model", "data").write(run)
    run.plan.write_text("{}")
    run.metrics.write_text('{"kind": "step", "step": 1}\n')
    return run


def claimed(server: Server, job: str) -> Work:
    found = server.claim("w", ("worker",), job)
    assert found
    return Work.of(found)


def keeping(server: Server, work: Work, folder: Path) -> tuple[Keeping, Telling]:
    telling = Telling(server, work, threading.Event())

    def send(sha256: str, file: Path) -> None:
        server.put(sha256, 0, file.read_bytes(), file.stat().st_size)

    return Keeping(server, telling, folder / "keeping", send), telling


def model(folder: Path) -> ModelDir:
    found = ModelDir(folder / "models" / "tiny")
    found.runs.mkdir(parents=True)
    return found


def test_the_newest_is_kept_and_brought_back_as_a_run_of_the_other_machine(
    studio: Studio, server: Server, make_job: Callable[..., str], tmp_path: Path
) -> None:
    job = make_job(engine="worker")
    work = claimed(server, job)
    assert work.checkpoint is None
    sends, telling = keeping(server, work, tmp_path)
    run = a_run(model(tmp_path / "one"), 20, 40, push="me/mine", eval_prompts="/etc/passwd", wandb=True)
    sends.send(run)
    sends.send(run)
    assert [one["data"] for one in telling.waiting] == [{"text": "The checkpoint of step 40 is kept by the studio"}]
    assert not (tmp_path / "keeping").exists()
    server.tell(job, "give-back", {"attempt": 1, "why": "it goes"})
    again = claimed(server, job)
    assert again.checkpoint and (again.checkpoint["run"], again.checkpoint["step"]) == (ID, 40)
    there, data = model(tmp_path / "two"), tmp_path / "two" / "data.csv"
    found = brought_back(server, again, there, None, {"data": data})
    assert found and found.root == there.runs / ID
    assert [place.name for place in found.checkpoints.iterdir()] == ["checkpoint-40"]
    assert (found.checkpoints / "checkpoint-40" / "optimizer.pt").read_text() == "of 40"
    record = RunRecord.read(found)
    assert record and record.options == {"data": str(data), "epochs": 3, "model_path": str(there.root)}
    assert record.base == str(there.root) and found.metrics.read_text() == run.metrics.read_text()
    assert sorted(place.name for place in there.runs.iterdir()) == [ID]
    assert brought_back(server, again, there, found, {"data": data}) == found, "it is here by now"
    assert cleaning.sweep(studio.store, studio.folder, 0) == 0, "its contents are needed"
    with pytest.raises(Replaced):
        server.tell(job, "checkpoint", {"attempt": 1, "run": ID, "step": 60, "files": described(run, 40, 60)})


@pytest.mark.parametrize("how", ["give-back", "fail"])
def test_what_waits_is_told_before_the_end(
    server: Server, api: httpx.Client, make_job: Callable[..., str], tmp_path: Path, how: str
) -> None:
    """The last checkpoint is sent when the training has stopped, and nothing is reported after that."""
    job = make_job(engine="worker")
    sends, telling = keeping(server, claimed(server, job), tmp_path)
    telling.waiting = [{"type": "message", "level": "info", "data": {"text": str(n)}} for n in range(AT_ONCE)]
    sends.send(a_run(model(tmp_path), 40))
    telling.end(how, "its worker was stopped")
    found: list[dict[str, object]] = []
    while more := api.get(f"/api/jobs/{job}/log", params={"after": found[-1]["id"] if found else 0}).json()["data"]:
        found += more
    kept = [n for n, one in enumerate(found) if "step 40 is kept by the studio" in str(one["data"])]
    ended = [n for n, one in enumerate(found) if "its worker was stopped" in str(one["data"])]
    assert len(kept) == 1 and ended and kept < ended
    assert telling.waiting == [] and api.get(f"/api/jobs/{job}").json()["state"] in ("resumable", "failed")


def test_the_end_is_told_where_what_waits_is_refused(
    server: Server, api: httpx.Client, make_job: Callable[..., str], tmp_path: Path
) -> None:
    job = make_job(engine="worker")
    _, telling = keeping(server, claimed(server, job), tmp_path)
    wrong: list[Json] = [{"type": "no such type", "data": {}}] * AT_ONCE
    telling.waiting = wrong * (WORDS + 1) + [{"type": "message", "level": "info", "data": {"text": "the last words"}}]
    telling.end("fail", "no reason")
    assert telling.waiting == [] and api.get(f"/api/jobs/{job}").json()["state"] == "failed"
    assert "the last words" in api.get(f"/api/jobs/{job}/log").text, "only what was refused is dropped"


def described(run: Run, step: int, as_step: int) -> list[dict[str, object]]:
    found = [("run.json", run.record), ("plan.json", run.plan)]
    for file in (run.checkpoints / f"checkpoint-{step}").iterdir():
        found.append((f"checkpoints/checkpoint-{as_step}/{file.name}", file))
    return [
        {"path": path, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
        for path, file in found
    ]


def test_an_older_one_changes_nothing_and_the_end_of_the_job_forgets_it(
    studio: Studio,
    server: Server,
    make_job: Callable[..., str],
    hand_in: Callable[..., dict[str, object]],
    tmp_path: Path,
) -> None:
    job = make_job(engine="worker")
    work = claimed(server, job)
    run = a_run(model(tmp_path), 40)
    keeping(server, work, tmp_path)[0].send(run)
    answer = server.tell(job, "checkpoint", {"attempt": 1, "run": ID, "step": 20, "files": described(run, 40, 20)})
    assert answer["step"] == 40
    hand_in(job, 1)
    with studio.store.reading() as session:
        assert jobs.find(session, job).state == "completed"
    assert cleaning.sweep(studio.store, studio.folder, 0) == 6, "of seven files two are the same"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda files: [*files, {**files[0], "path": "../x"}], "no file"),
        (lambda files: [*files, {**files[0], "path": "checkpoints/checkpoint-40/../../x.pt"}], "no file"),
        (lambda files: [*files, {**files[0], "path": "adapter/adapter_model.safetensors"}], "no file"),
        (lambda files: files[1:], "lacks run.json"),
        (lambda files: files[:2], "of that step only"),
        (lambda files: [*files, {**files[2], "path": "checkpoints/checkpoint-41/state.json"}], "of that step only"),
        (lambda files: [*files, files[0]], "twice"),
        (lambda files: [{**files[0], "bytes": 1}, *files[1:]], "not sent completely"),
        (lambda files: [{**files[0], "sha256": "0" * 64}, *files[1:]], "not sent completely"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    server: Server,
    make_job: Callable[..., str],
    tmp_path: Path,
    change: Callable[[list[dict[str, object]]], list[dict[str, object]]],
    why: str,
) -> None:
    job = make_job(engine="worker")
    work = claimed(server, job)
    run = a_run(model(tmp_path), 40)
    for file in [run.record, run.plan, *(run.checkpoints / "checkpoint-40").iterdir()]:
        content = file.read_bytes()
        server.put(hashlib.sha256(content).hexdigest(), 0, content, len(content))
    given = {"attempt": work.attempt, "run": ID, "step": 40}
    with pytest.raises(Refusal, match=why):
        server.tell(job, "checkpoint", {**given, "files": change(described(run, 40, 40))})
    with pytest.raises(Refusal, match="not the id of a run"):
        server.tell(job, "checkpoint", {**given, "run": "../../x", "files": described(run, 40, 40)})


def test_a_token_reads_the_checkpoint_of_its_own_job(
    studio: Studio, server: Server, api: httpx.Client, make_job: Callable[..., str], tmp_path: Path
) -> None:
    from llm_installer.studio.store import tokens

    job, other = make_job(engine="worker"), make_job(engine="worker")
    keeping(server, claimed(server, job), tmp_path)[0].send(a_run(model(tmp_path), 40))
    with studio.store.writing() as session:
        mine, theirs = (tokens.make(studio.store, session, each) for each in (job, other))
    outside = {"host": "studio.example.org"}
    for token, status in ((mine, 200), (theirs, 403), ("none", 401)):
        headers = {**outside, "authorization": f"Bearer {token}"}
        for path in ("checkpoint", "checkpoint/run.json"):
            assert api.get(f"/api/workers/jobs/{job}/{path}", headers=headers).status_code == status
    assert api.get(f"/api/workers/jobs/{other}/checkpoint").status_code == 204
    assert api.get(f"/api/workers/jobs/{other}/checkpoint/run.json").status_code == 404
    assert api.get(f"/api/workers/jobs/{job}/checkpoint/nothing").status_code == 404


def test_a_studio_without_room_stops_no_training(
    studio: Studio, server: Server, make_job: Callable[..., str], tmp_path: Path
) -> None:
    """200 MB of the disk stay free for the database; here all of it is kept back."""
    job = make_job(engine="worker")
    work = claimed(server, job)
    sends, telling = keeping(server, work, tmp_path)
    object.__setattr__(studio.settings, "kept_back", shutil.disk_usage(studio.folder).total)
    sends.send(a_run(model(tmp_path), 40))
    assert telling.waiting == []
    server.tell(job, "report", {"attempt": 1, "state": "training", "progress": 50})
    object.__setattr__(studio.settings, "kept_back", 0)
    sends.send(Run(tmp_path / "models" / "tiny" / "runs" / ID))
    assert "step 40 is kept" in str(telling.waiting)


def a_worker(start: Callable[..., subprocess.Popen[str]], studio: House, home: Path, job: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "LLM_HOME": str(home)}
    return start("worker", "--server", f"http://127.0.0.1:{studio.port}", "--job", job, env=environment)


@minutes
@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_another_machine_goes_on_bit_for_bit(
    house: Callable[..., House],
    start: Callable[..., subprocess.Popen[str]],
    installed: Path,
    write_rows: Callable[..., Path],
    llm_home: Path,
    tmp_path: Path,
    how: str,
) -> None:
    """Two machines that share nothing but the studio; the first is asked to end, or is gone from one moment to the
    next."""
    studio = house("--no-worker", "--lease", "2")
    homes = []
    for name in ("one", "two", "three"):
        homes.append(tmp_path / name)
        shutil.copytree(llm_home / "models", homes[-1] / "models", symlinks=True)
    data = write_rows(40)

    def asked(job: str) -> dict[str, object]:
        return studio.asked(f"/api/jobs/{job}") or {}

    undisturbed, job = studio.job(data, engine="worker"), studio.job(data, engine="worker")
    assert a_worker(start, studio, homes[0], undisturbed).wait(240) == 0
    first = a_worker(start, studio, homes[1], job)
    until(lambda: int(str(asked(job).get("step", 0))) >= 10)
    if how == "SIGKILL":
        path = f"/api/workers/jobs/{job}/checkpoint"
        until(lambda: studio.api.get(path).status_code == 200 or asked(job)["state"] == "completed")
        assert asked(job)["state"] != "completed", "no checkpoint came while it was trained"
    first.send_signal(getattr(signal, how))
    first.wait(120)
    until(lambda: asked(job)["state"] == "resumable")
    shutil.rmtree(homes[1])
    assert a_worker(start, studio, homes[2], job).wait(240) == 0
    found = asked(job)
    assert (found["state"], found["attempt"]) == ("completed", 2), found
    told = [str(one["data"]) for one in studio.api.get(f"/api/jobs/{job}/log").json()["data"]]
    assert any("Resuming run" in one for one in told) and any("is kept by the studio" in one for one in told)
    assert adapter_of(studio, job) == adapter_of(studio, undisturbed)
    assert metrics_of(studio, job) == metrics_of(studio, undisturbed)
    studio.end()
