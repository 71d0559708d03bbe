"""Colab over HTTP: a wheel, a notebook for all jobs with codes that a person types, and results that are dropped."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.runs.listing import list_runs
from llm_installer.studio.colab import pairing
from llm_installer.studio.colab.child import StepFailed
from llm_installer.studio.colab.notebook import paired_notebook
from llm_installer.studio.colab.wheel import running_version
from llm_installer.studio.context import Studio
from llm_installer.studio.store.tables import Token
from llm_installer.studio.worker import story
from llm_installer.studio.worker.client import Refusal, Server
from tests.studio.test_accept import changed, model_at, sound, zipped
from tests.studio.test_notebook import cells, execute, printed
from tests.tiers import minutes

MakeJob = Callable[..., str]


def left_to_colab(api: httpx.Client, job: str) -> dict[str, str]:
    answer = api.post(f"/api/jobs/{job}/colab")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_code_gives_the_token_of_one_job_once(studio: Studio, api: httpx.Client, make_job: MakeJob) -> None:
    job = make_job()
    given = left_to_colab(api, job)
    found = api.post("/api/workers/pair", json={"code": f" {given['code'].lower()} "}).json()
    assert found["job"] == job and found["version"] == running_version()
    again = api.post("/api/workers/pair", json={"code": given["code"]})
    assert again.status_code == 401 and "has been used" in again.json()["error"]["message"]
    assert api.get(f"/api/jobs/{job}").json()["engine"] == "colab", "the worker of this machine leaves it alone"
    outside = {"authorization": f"Bearer {found['token']}", "host": "studio.example.org"}
    assert api.get(f"/api/train/status/{job}", headers=outside).status_code == 200
    assert api.get(f"/api/train/status/{make_job()}", headers=outside).status_code == 403
    assert api.get("/api/jobs", headers=outside).status_code == 403
    database = b"".join(file.read_bytes() for file in studio.folder.glob("studio.sqlite3*"))
    for secret in (given["code"].replace("-", ""), found["token"]):
        assert secret.encode() not in database


def test_a_code_lives_ten_minutes(studio: Studio, api: httpx.Client, make_job: MakeJob) -> None:
    given = left_to_colab(api, make_job())
    assert given["seconds"] == 600
    with studio.store.writing() as session:
        token = session.scalars(select(Token)).one()
        assert token.expires_at and token.expires_at - token.created_at == timedelta(seconds=600)
        token.expires_at = token.created_at
    assert api.post("/api/workers/pair", json={"code": given["code"]}).status_code == 401


def test_the_notebook_for_all_jobs_holds_no_secret(api: httpx.Client, make_job: MakeJob) -> None:
    content = api.get("/api/colab/notebook").content
    given = left_to_colab(api, make_job())
    assert content == api.get("/api/colab/notebook").content == paired_notebook("https://studio.example.org/")
    assert [*cells(content)] == ["about", "values", "program", "install", "pair", "train"]
    for name, text in cells(content).items():
        assert name == "about" or compile(text, name, "exec")
    assert given["code"].encode() not in content and given["notebook"].startswith("/api/jobs/")


def test_a_machine_is_paired_once_and_another_one_needs_a_code_of_its_own(
    studio: Studio, api: httpx.Client, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second kernel has the same notebook and even the same code: it is refused. And nothing is printed."""
    job = make_job()
    code, version = left_to_colab(api, job)["code"], running_version()
    one, two = tmp_path / "one", tmp_path / "two"
    for place in (one, two):
        place.mkdir()
        monkeypatch.setenv(pairing.CODE, code)
        if place == two:
            with pytest.raises(StepFailed, match="has been used"):
                pairing.pair(studio.address, version, place)
            continue
        assert pairing.pair(studio.address, version, place) == job
        assert pairing.CODE not in os.environ, "what is started later does not see it"
        assert stat.S_IMODE((place / "token.json").stat().st_mode) == 0o600
        assert pairing.pair(studio.address, version, place) == job, "run once more, the cell asks nothing"
    with pytest.raises(StepFailed, match="not paired"):
        pairing.work(studio.address, two)


def test_a_server_with_other_code_is_no_server_for_this_notebook(
    studio: Studio, api: httpx.Client, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pairing.CODE, left_to_colab(api, make_job())["code"])
    with pytest.raises(StepFailed, match=r"0\.1\.0\+h0") as error:
        pairing.pair(studio.address, "0.1.0+h0", tmp_path)
    assert running_version() in str(error.value) and not list(tmp_path.glob("token*"))
    monkeypatch.setattr(story, "running_version", lambda: "0.1.0+h0")
    with pytest.raises(Refusal, match=r"0\.1\.0\+h0") as refused:
        monkeypatch.setattr(story.signal, "signal", lambda *_: None)
        story.work(story.WorkerRequest(studio.address), lambda text: None)
    assert running_version() in str(refused.value)


def test_the_wheel_is_what_its_headers_say(api: httpx.Client) -> None:
    answer = api.get("/api/workers/wheel")
    assert answer.headers["x-sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["x-wheel"] == f"llm_installer-{running_version()}-py3-none-any.whl"


def test_a_dropped_result_completes_its_job(studio: Studio, api: httpx.Client, make_job: MakeJob) -> None:
    model = model_at(models_dir() / "two-layers")
    job, other = make_job(model="two-layers"), make_job(model="two-layers")
    carried = cells(api.get(f"/api/jobs/{job}/notebook").content)
    assert json.dumps(job)[1:-1] in carried["values"] and "some/base" in carried["values"]
    left_to_colab(api, job)
    content = zipped(sound(model), model, job=job)
    refused = api.post(f"/api/jobs/{other}/result", content=content)
    assert refused.status_code == 422 and "another job" in refused.json()["error"]["message"]
    assert api.post(f"/api/jobs/{job}/result", content=content[:-1]).status_code == 422
    assert list_runs(model) == []
    done = api.post(f"/api/jobs/{job}/result", content=content)
    assert done.status_code == 200, done.text
    found = done.json()
    assert (found["status"], found["progress"], found["engine"]) == ("completed", 100, "colab")
    assert [row.run.id for row in list_runs(model)] == [found["run"]]
    weights = api.get(f"/api/jobs/{job}/files/adapter/adapter_model.safetensors")
    assert weights.content == sound(model)["adapter/adapter_model.safetensors"]
    twice = api.post(f"/api/jobs/{job}/result", content=content)
    assert twice.status_code == 409 and "already" in twice.json()["error"]["message"]
    assert len(list_runs(model)) == 1


def hand_over(server: Server, job: str, parts: dict[str, bytes]) -> None:
    """As a worker elsewhere does it."""
    claimed = server.claim("elsewhere", ("colab",), job)
    assert claimed
    files = []
    for path, content in parts.items():
        digest = hashlib.sha256(content).hexdigest()
        server.put(digest, 0, content, len(content))
        files.append({"path": path, "sha256": digest, "bytes": len(content)})
    attempt = claimed["attempt"]
    server.tell(job, "report", {"attempt": attempt, "run": "20261127-194231-medium"})
    for _ in range(2):  # the first answer may be lost
        server.tell(job, "complete", {"attempt": attempt, "files": files, "result": {"steps": 5}})


def test_what_a_worker_elsewhere_sends_is_checked_as_a_dropped_file_is(
    studio: Studio, api: httpx.Client, make_job: MakeJob
) -> None:
    model = model_at(models_dir() / "two-layers")
    server, good, bad = Server(studio.address), make_job(model="two-layers"), make_job(model="two-layers")
    for job in (good, bad):
        left_to_colab(api, job)
    hand_over(server, good, sound(model))
    assert [row.run.id for row in list_runs(model)] == ["20261127-194231-medium"], "under the name that it had there"
    config = "adapter/adapter_config.json"
    with pytest.raises(Refusal, match="auto_map"):
        hand_over(server, bad, changed(sound(model), config, rank_pattern={"auto_map": 2}))
    assert len(list_runs(model)) == 1
    states = [api.get(f"/api/jobs/{job}").json()["state"] for job in (good, bad)]
    assert states[0] == "completed" and states[1] != "completed"
    server.close()


def test_a_result_for_a_job_that_somebody_does_is_refused(studio: Studio, api: httpx.Client, make_job: MakeJob) -> None:
    job = make_job()
    assert api.post("/api/workers/claim", json={"worker": "one"}).json()["id"] == job
    answer = api.post(f"/api/jobs/{job}/result", content=b"x")
    assert answer.status_code == 409 and "is being done by one" in answer.json()["error"]["message"]
    assert api.post(f"/api/jobs/{job}/colab").status_code == 409


@pytest.mark.slow
@minutes
def test_a_paired_notebook_takes_its_job_from_pending_to_completed(
    studio: Studio, api: httpx.Client, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program comes from the server, progress and result go to it, the notebook holds nothing afterwards."""
    from llm_installer.install.installer import install

    content = "input,output\n" + "".join(f"What is number {i}?,It is thing {i}.\n" for i in range(20))
    install("tiny", say=lambda text: None)
    job = make_job(content.encode(), options=json.dumps({"epochs": 2, "skip_test": True}))
    code = left_to_colab(api, job)["code"]
    monkeypatch.setenv(pairing.CODE, code)
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.3):
            seen.add(api.get(f"/api/train/status/{job}").json()["status"])

    watching = threading.Thread(target=watch)
    watching.start()
    process = execute(paired_notebook(studio.address), tmp_path / "colab")
    _, errors = process.communicate(timeout=500)
    ended.set()
    watching.join()
    assert not process.returncode, errors
    found = api.get(f"/api/jobs/{job}").json()
    assert found["status"] == "completed", found["error"]
    assert {"pending", "training"} <= seen
    assert "adapter/adapter_model.safetensors" in found["files"]
    assert [row.run.id for row in list_runs(ModelDir.find("tiny"))] == [found["run"]]
    left = (tmp_path / "colab" / "done.ipynb").read_text(encoding="utf-8")
    token = json.loads((tmp_path / "colab" / "llm-installer-paired" / "token.json").read_text())["token"]
    assert code not in left and token not in left
    assert f"Paired with job {job}" in printed(tmp_path / "colab")["pair"]
