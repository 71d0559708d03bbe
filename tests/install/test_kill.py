"""A directory is complete or absent: kills in the middle of an install, and two installs at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.paths import ModelDir
from llm_installer.install import install, list_models
from tests.commands import PATIENCE, processes

Make = Callable[..., Path]


def quiet(_: str) -> None:
    return


def wait_at_each_line(source: str, environment: dict[str, str], talk: Connection) -> None:
    """An install that says each line to `talk` and goes on when it hears something."""

    def say(line: str) -> None:
        talk.send(line)
        talk.recv()

    os.environ.update(environment)
    install(source, say=say)


def sharded(make_model: Make) -> Path:
    """A model in two shards, so that an install can be stopped between them."""
    source = make_model("sharded")
    data = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").unlink()
    for name in ("a.safetensors", "b.safetensors"):
        (source / name).write_bytes(data)
    index = {"weight_map": {"w": "a.safetensors", "model.norm.weight": "b.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    return source


@pytest.fixture
def half_way(home: Path, make_model: Make) -> Iterator[BaseProcess]:
    """An install that has copied one of two shards and waits."""
    talk, its = processes.Pipe()
    environment = {"LLM_HOME": str(home)}
    process = processes.Process(target=wait_at_each_line, args=(str(sharded(make_model)), environment, its))
    process.start()
    its.close()
    assert talk.poll(PATIENCE) and "a.safetensors" in talk.recv()
    talk.send("go on")
    assert talk.poll(PATIENCE) and "b.safetensors" in talk.recv()
    yield process
    process.kill()
    process.join()


def test_after_a_kill_nothing_looks_installed_and_the_next_install_succeeds(
    half_way: BaseProcess, home: Path, tmp_path: Path
) -> None:
    half_way.kill()
    half_way.join()
    assert list_models() == []
    assert (home / "models" / ".sharded.installing" / "model" / "a.safetensors").is_file()
    with pytest.raises(ModelError):
        ModelDir.find("sharded")
    found = install(str(tmp_path / "sharded"), say=quiet)
    assert list_models()[0].complete and (found.weights / "b.safetensors").is_file()
    assert os.listdir(home / "models") == ["sharded"]


def test_the_second_of_two_installs_is_told(half_way: BaseProcess, tmp_path: Path) -> None:
    with pytest.raises(InstallerError, match="Another process is installing or removing sharded"):
        install(str(tmp_path / "sharded"), say=quiet)
