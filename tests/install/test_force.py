"""Replacing an installed model: nothing that the user made is lost, whatever happens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.errors import ModelError
from llm_installer.core.files import switch_link
from llm_installer.core.paths import ModelDir
from llm_installer.install import install, list_models
from llm_installer.install.staging import publish, staging_dir

Make = Callable[..., Path]


def quiet(_: str) -> None:
    return


def train_a_little(found: ModelDir) -> Path:
    """What a run leaves behind."""
    adapter = found.runs / "20260102-030405-medium" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"learned")
    switch_link(found.lora, adapter)
    (found.root / "notes.txt").write_text("mine")
    return adapter


def test_a_second_install_is_refused_and_changes_nothing(home: Path, make_model: Make) -> None:
    found = install(str(make_model()), say=quiet)
    before = found.info.read_bytes()
    with pytest.raises(ModelError) as refused:
        install(str(make_model(fill=1)), say=quiet)
    assert "--force" in str(refused.value)
    assert found.info.read_bytes() == before


def test_force_replaces_the_model_and_keeps_what_was_learned(home: Path, make_model: Make) -> None:
    found = install(str(make_model()), say=quiet)
    adapter = train_a_little(found)
    (found.root / "train.sh").write_text("old")
    said: list[str] = []
    again = install(str(make_model(fill=1)), force=True, say=said.append)
    assert again == found
    assert (found.weights / "model.safetensors").read_bytes()[-1] == 1
    assert (adapter / "adapter_model.safetensors").read_bytes() == b"learned"
    assert found.lora.resolve() == adapter.resolve()
    assert (found.root / "notes.txt").read_text() == "mine"
    assert any("adapters" in line for line in said)
    assert list_models()[0].complete
    assert "exec" in (found.root / "train.sh").read_text()
    assert sorted(n for n in os.listdir(found.root) if n.startswith(".")) == [".training.gate", ".training.lock"]
    assert os.listdir(home / "models") == ["small"]


def test_force_with_the_same_weights_does_not_warn(home: Path, make_model: Make) -> None:
    train_a_little(install(str(make_model()), say=quiet))
    said: list[str] = []
    install(str(make_model()), force=True, say=said.append)
    assert not any("adapters" in line for line in said)


def test_force_with_a_bad_model_keeps_the_old_one(home: Path, make_model: Make) -> None:
    found = install(str(make_model()), say=quiet)
    with pytest.raises(ModelError):
        install(str(make_model("bad", extra={"model.safetensors": None})), name="small", force=True, say=quiet)
    assert (found.weights / "model.safetensors").is_file() and list_models()[0].complete


def test_force_between_a_link_and_a_copy_leaves_the_users_folder(home: Path, make_model: Make) -> None:
    source = make_model()
    found = install(str(source), link=True, say=quiet)
    install(str(source), force=True, say=quiet)
    assert not found.weights.is_symlink() and (source / "model.safetensors").is_file()
    install(str(source), link=True, force=True, say=quiet)
    assert found.weights.is_symlink() and (found.weights / "model.safetensors").is_file()


def test_a_folder_that_is_no_model_is_never_replaced(home: Path, make_model: Make) -> None:
    (home / "models" / "small").mkdir(parents=True)
    (home / "models" / "small" / "thesis.txt").write_text("mine")
    with pytest.raises(ModelError, match="is not an installed model"):
        install(str(make_model()), force=True, say=quiet)
    assert (home / "models" / "small" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("stop_at", range(1, 6))
def test_a_swap_that_stops_half_way_is_undone(
    stop_at: int, home: Path, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """publish dies at each of its renames in turn; the old model must come back, with its own record."""
    found = install(str(make_model()), say=quiet)
    record = found.info.read_bytes()
    source = make_model("other", fill=1)
    other = install(str(source), link=True, say=quiet)
    other.root.rename(staging_dir("small").root)
    acts = 0

    class Killed(BaseException):
        pass

    def dying(act: Callable[..., None]) -> Callable[..., None]:
        def run(*args: Path) -> None:
            nonlocal acts
            acts += 1
            if acts == stop_at:
                raise Killed
            act(*args)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dying(os.rename))
        patch.setattr(os, "replace", dying(os.replace))
        with pytest.raises(Killed):
            publish(staging_dir("small"), found)
    with pytest.raises(ModelError, match="is already installed"):
        install(str(make_model()), say=quiet)
    assert found.info.read_bytes() == record
    assert (found.weights / "model.safetensors").read_bytes()[-1] == 0
    assert (source / "model.safetensors").is_file()
    assert list_models()[0].complete and not (found.root / ".replaced").exists()
