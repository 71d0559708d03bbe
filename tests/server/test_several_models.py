"""Two bases in one server: names, answers, lists, figures and training rows of each stay its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.served import servers
from llm_installer.install.installer import install
from llm_installer.server import story
from llm_installer.server.request import ServeRequest
from tests.server.conftest import RUNS, Quiet, Running, running


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    """The built-in model once more, by a name that begins like that of the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(tmp_path_factory.mktemp("other")))
        return ModelDir(install("tiny", name="tiny-two", say=lambda text: None).root)


@pytest.fixture(scope="module")
def both(served_folder: ModelDir, other: ModelDir) -> Iterator[Running]:
    yield from running(served_folder, ServeRequest(port=0, rows=4), other)


def test_both_answer_by_their_names(both: Running, other: ModelDir) -> None:
    ids = [model["id"] for model in both.http.get("/v1/models").json()["data"]]
    assert ids == ["tiny", *(f"tiny:{run}" for run in RUNS), "tiny:lora", "tiny-two"]
    parents = {model["id"]: model["parent"] for model in both.http.get("/v1/models").json()["data"]}
    assert parents["tiny"] is parents["tiny-two"] is None and parents["tiny:lora"] == "tiny"
    said = {name: both.chat("Who are you?", model=name).json() for name in ("tiny", "tiny-two", f"tiny:{RUNS[0]}")}
    assert said["tiny"]["choices"] == said["tiny-two"]["choices"] != said[f"tiny:{RUNS[0]}"]["choices"]
    for name in ("tiny-two:lora", "tiny-t", "tiny-two:base", "", ":"):
        assert both.chat("Hi", model=name).status_code == 404, name
    assert {server.pid for server in servers(other)} == {server.pid for server in servers(both.folder)} == {os.getpid()}


def test_it_says_what_they_take_before_they_are_loaded(both: Running) -> None:
    assert both.voice.lines[0].startswith("Weights: tiny 11 MiB, tiny-two 11 MiB; with what is read and said 4.0 GiB")
    assert " are free" in both.voice.lines[0]


def test_figures_and_health_are_told_for_each(both: Running) -> None:
    text = both.http.get("/metrics").text
    for name in ("tiny", "tiny-two"):
        assert f'llm_installer_up{{model="{name}"}} 1' in text
    assert text.count("# TYPE llm_installer_up gauge") == 1
    assert both.http.get("/health").json() == {"status": "ok"}
    second = both.server.service.hosts.all[1].engine
    second.fault = "RuntimeError: broken"
    assert both.http.get("/health").status_code == 503
    assert both.chat("Hi", model="tiny-two").status_code == 503 and both.chat("Hi").status_code == 200
    second.fault = ""


def test_a_training_row_goes_to_its_model(both: Running, other: ModelDir) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
    for name, folder in (("tiny-two", other), ("tiny:lora", both.folder), ("", both.folder)):
        answer = both.http.post("/page/rows", params={"model": name}, json=row).json()
        assert Path(answer["path"]).parent == folder.root
    assert orjson.loads((other.root / "rows.jsonl").read_bytes()) == row
    (both.folder.root / "rows.jsonl").unlink()


def test_one_name_twice_is_refused_before_anything_is_loaded(served_folder: ModelDir) -> None:
    twice = [served_folder, served_folder]
    with (
        pytest.raises(UsageError, match=r"^Two of these models are called tiny"),
        story.opened(twice, ServeRequest(port=0), Quiet()),
    ):
        pass


def test_what_fails_on_the_way_up_leaves_nothing(served_folder: ModelDir, tmp_path: Path) -> None:
    """The first model is in memory when the second cannot be loaded."""
    broken = tmp_path / "broken"
    (broken / "model").mkdir(parents=True)
    for file in served_folder.weights.iterdir():
        if file.suffix == ".json" and "index" not in file.name:
            (broken / "model" / file.name).write_bytes(file.read_bytes())
    (broken / "model_info.json").write_text(json.dumps({}))
    before = {thread.name for thread in threading.enumerate()}
    with pytest.raises(InstallerError):
        story.opened([served_folder, ModelDir(broken)], ServeRequest(port=0), Quiet()).__enter__()
    assert {thread.name for thread in threading.enumerate()} == before
    assert not [server for server in servers(served_folder) if not server.runs]
