"""Mending a model directory: scripts, links and half-done swaps at once, model files when asked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, ModelError, TrainingError
from llm_installer.core.files import switch_link
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.lock import only_training
from llm_installer.install import install, list_models
from llm_installer.install.doctor import Check
from llm_installer.install.fix import fix_model

Make = Callable[..., Path]


@pytest.fixture
def found(home: Path, make_model: Make) -> ModelDir:
    made = install(str(make_model()), say=lambda _: None)
    adapter = made.runs / "one" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "w").write_bytes(b"what was learned")
    switch_link(made.lora, adapter)
    return made


def fix(again: bool = False) -> dict[str, Check]:
    return {check.name: check for check in fix_model("small", again, lambda _: None)}


def harm(found: ModelDir, how: str) -> None:
    weights = found.weights / "model.safetensors"
    acts: dict[str, Callable[[], object]] = {
        "folder": lambda: shutil.rmtree(found.weights),
        "config": (found.weights / "config.json").unlink,
        "weights": weights.unlink,
        "cut": lambda: weights.write_bytes(weights.read_bytes()[:-1]),
        "content": lambda: weights.write_bytes(weights.read_bytes()[:-1] + b"\xff"),
        "tokenizer": lambda: (found.weights / "tokenizer.json").write_text("{"),
    }
    acts[how]()


@pytest.mark.parametrize("how", ["folder", "config", "weights", "cut", "content", "tokenizer"])
def test_broken_model_files_come_again_and_runs_and_lora_stay(found: ModelDir, how: str) -> None:
    before = {p.name: p.read_bytes() for p in found.weights.iterdir()}
    harm(found, how)
    seen = fix()["model files"]
    if how not in ("content", "tokenizer"):  # which only a comparison with the source shows
        assert seen.ok is False and seen.fix == "get them again with: llm-installer fix small --reinstall"
    assert fix(again=True)["model files"].ok is True
    assert {p.name: p.read_bytes() for p in found.weights.iterdir()} == before
    assert os.readlink(found.lora) == "runs/one/adapter" and (found.lora / "w").read_bytes() == b"what was learned"
    assert list_models()[0].complete and sorted(os.listdir(models_dir())) == ["small"]


def test_a_lost_folder_names_the_command_that_brings_it_back(found: ModelDir) -> None:
    harm(found, "folder")
    with pytest.raises(ModelError, match=r"has lost its model/ folder; .* llm-installer fix small --reinstall$"):
        ModelDir.find("small")


def test_scripts_are_written_and_links_to_what_is_gone_are_taken_away(found: ModelDir) -> None:
    (found.root / "start.sh").unlink()
    shutil.rmtree(found.runs / "one")
    switch_link(found.root / "checkpoints", found.runs / "one" / "checkpoints")
    seen = fix()
    assert (found.root / "start.sh").is_file() and not found.lora.is_symlink()
    assert not (found.root / "checkpoints").is_symlink() and seen["links"].ok
    assert "links" not in fix(), "a second time there is nothing to do"


def test_a_half_done_swap_is_undone(found: ModelDir) -> None:
    (found.root / ".replaced").mkdir()
    found.weights.rename(found.root / ".replaced" / "model")
    assert fix()["model files"].ok


def test_a_damaged_record_is_said_with_what_to_do(found: ModelDir) -> None:
    found.info.write_text("{")
    for again in (False, True):
        seen = fix(again)["model files"]
        assert seen.ok is False and "--name small --force" in seen.fix


@pytest.mark.parametrize("link", [False, True])
def test_a_source_that_is_gone_is_named_and_nothing_is_lost(home: Path, make_model: Make, link: bool) -> None:
    source = make_model()
    found = install(str(source), link=link, say=lambda _: None)
    source.rename(source.with_name("moved"))
    with pytest.raises(ModelError, match="is gone; install it from another folder"):
        fix(again=True)
    assert json.loads(found.info.read_text())["name"] == "small" and found.root.is_dir()


def test_a_model_elsewhere_is_not_mixed_up_with_one_of_its_name(found: ModelDir, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(found.root, tmp_path / "elsewhere" / "small", symlinks=True)
    with pytest.raises(ModelError, match="move it there, or set LLM_HOME"):
        fix_model(str(elsewhere), True, lambda _: None)


def test_a_training_is_not_disturbed(found: ModelDir) -> None:
    with only_training(found), pytest.raises(TrainingError, match="cannot be mended while it is being trained"):
        fix()


@pytest.mark.parametrize("words", ["", "nothing", "smal"])
def test_only_models_are_mended(found: ModelDir, words: str) -> None:
    with pytest.raises(InstallerError, match=r"is not an installed model; (see|did you mean 'small')"):
        fix_model(words, False, lambda _: None)
