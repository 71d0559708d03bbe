"""A directory is complete or absent: kills in the middle of an install, and two installs at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.paths import ModelDir
from llm_installer.install import install, list_models

Make = Callable[..., Path]


def quiet(_: str) -> None:
    return


WAITS = """
import sys
from llm_installer.install import install
def say(line):
    print(line, flush=True)
    sys.stdin.readline()
install(sys.argv[1], say=say)
"""


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
def half_way(home: Path, make_model: Make) -> subprocess.Popen[str]:
    """An install that has copied one of two shards and waits."""
    source, pipe = sharded(make_model), subprocess.PIPE
    command = [sys.executable, "-c", WAITS, str(source)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
    assert process.stdin and process.stdout
    assert "a.safetensors" in process.stdout.readline()
    process.stdin.write("\n")
    process.stdin.flush()
    assert "b.safetensors" in process.stdout.readline()
    return process


def finish(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_after_a_kill_nothing_looks_installed_and_the_next_install_succeeds(
    half_way: subprocess.Popen[str], home: Path, tmp_path: Path
) -> None:
    os.kill(half_way.pid, signal.SIGKILL)
    finish(half_way)
    assert list_models() == []
    assert (home / "models" / ".sharded.installing" / "model" / "a.safetensors").is_file()
    with pytest.raises(ModelError):
        ModelDir.find("sharded")
    found = install(str(tmp_path / "sharded"), say=quiet)
    assert list_models()[0].complete and (found.weights / "b.safetensors").is_file()
    assert os.listdir(home / "models") == ["sharded"]


def test_the_second_of_two_installs_is_told(half_way: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(InstallerError, match="Another process is installing or removing sharded"):
        install(str(tmp_path / "sharded"), say=quiet)
    finish(half_way)
