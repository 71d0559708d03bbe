"""Listing, updating and removing what is installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.files import switch_link
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.install import install, list_models, remove, update
from llm_installer.install.staging import directory_lock, staging_dir

Make = Callable[..., Path]


@pytest.fixture
def found(home: Path, make_model: Make) -> ModelDir:
    return install(str(make_model()), say=lambda _: None)


def test_nothing_is_listed_before_the_first_install(home: Path) -> None:
    assert list_models() == []


def test_a_list_says_what_lies_there(found: ModelDir, make_model: Make) -> None:
    adapter = found.runs / "one" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "w").write_bytes(bytes(5000))
    switch_link(found.lora, adapter)
    install(str(make_model()), name="another", say=lambda _: None)
    (models_dir() / "stray").mkdir()
    another, small = list_models()
    assert (another.name, small.name) == ("another", "small")
    assert (small.root, small.parameters, small.size, small.complete) == (found.root, 1000, "1.0K", True)
    assert (small.adapter, another.adapter) == ("runs/one/adapter", "")
    on_disk = sum(f.stat().st_size for f in found.root.rglob("*") if f.is_file() and "logs" not in f.parts)
    assert small.bytes == on_disk > 5000
    assert small.installed[:2] == "20"


def test_a_dangling_lora_link_is_no_adapter(found: ModelDir) -> None:
    switch_link(found.lora, found.runs / "gone" / "adapter")
    assert list_models()[0].adapter == ""


@pytest.mark.parametrize("harm", ["cut", "gone", "config", "record", "foreign"])
def test_harm_is_seen(harm: str, found: ModelDir) -> None:
    weights = found.weights / "model.safetensors"
    acts: dict[str, Callable[[], object]] = {
        "cut": lambda: weights.write_bytes(weights.read_bytes()[:-1]),
        "gone": weights.unlink,
        "config": (found.weights / "config.json").unlink,
        "record": lambda: found.info.write_text("{"),
        "foreign": lambda: found.info.write_text('{"model_id": "x"}'),
    }
    acts[harm]()
    [listed] = list_models()
    assert (listed.name, listed.complete) == ("small", False)


def test_update_writes_the_scripts_again_and_touches_nothing_else(found: ModelDir) -> None:
    (found.root / "train.sh").unlink()
    (found.root / "start.sh").write_text("old")
    (found.runs / "one").mkdir()
    before = {p: p.stat().st_mtime_ns for p in [*found.weights.iterdir(), found.info, found.runs / "one"]}
    written = update("small")
    assert written == [found.root / n for n in ("train.sh", "start.sh", "train_lora.py")]
    assert "exec" in (found.root / "start.sh").read_text() and os.access(found.root / "train.sh", os.X_OK)
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize("by", ["name", "path", "relative", "dot"])
def test_remove_takes_the_whole_directory(
    by: str, found: ModelDir, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(found.root if by == "dot" else home)
    words = {"name": "small", "path": str(found.root), "relative": "models/small", "dot": "."}
    assert remove(words[by]) == found.root
    assert os.listdir(home / "models") == []


def test_a_hub_id_names_its_directory(home: Path, make_model: Make) -> None:
    root = install(str(make_model()), name="org_name", say=lambda _: None).root
    assert remove("org/name") == root and not root.exists()


def test_remove_keeps_the_folder_behind_a_link(home: Path, make_model: Make) -> None:
    source = make_model()
    before = sorted(os.listdir(source))
    install(str(source), link=True, say=lambda _: None)
    remove("small")
    assert sorted(os.listdir(source)) == before and list_models() == []


def test_remove_works_when_the_folder_behind_a_link_is_gone(home: Path, make_model: Make) -> None:
    source = make_model()
    install(str(source), link=True, say=lambda _: None)
    source.rename(source.with_name("moved"))
    assert not list_models()[0].complete
    remove("small")
    assert list_models() == []


def test_remove_deletes_an_interrupted_install(home: Path) -> None:
    unfinished = staging_dir("org_name").root
    unfinished.mkdir(parents=True)
    assert remove("org/name") == unfinished and not unfinished.exists()


@pytest.mark.parametrize("act", [remove, update])
@pytest.mark.parametrize("words", ["", ".", "..", "/", "nothing", "thesis", "thesis/model_info.json", "linked"])
def test_only_installed_models_are_touched(
    act: Callable[[str], object], words: str, found: ModelDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "model_info.json").write_text("{}")
    (tmp_path / "linked").symlink_to(found.root)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as refused:
        act(words)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "thesis" / "model_info.json").exists() and found.info.exists()


def test_a_model_that_is_being_changed_is_left_alone(found: ModelDir) -> None:
    with directory_lock("small"), pytest.raises(InstallerError, match="Another process"):
        remove("small")
    assert list_models()[0].complete
