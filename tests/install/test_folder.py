"""Installing what lies on this machine: complete or absent, and nothing that the user made is lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, ModelError, TrainingError
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.lock import only_training
from llm_installer.install import install, list_models
from llm_installer.install.check import check_model

Make = Callable[..., Path]


def quiet(_: str) -> None:
    return


def test_a_copy_has_what_is_needed_and_nothing_else(home: Path, make_model: Make) -> None:
    extra = {"pytorch_model.bin": b"x", "model.onnx": b"x", "model.gguf": b"x", "optimizer.pt": b"x", "notes.md": b"x"}
    source = make_model(extra=extra)
    found = install(str(source), say=quiet)
    assert found.root == home / "models" / "small"
    assert sorted(os.listdir(found.root)) == [
        "logs", "model", "model_info.json", "runs", "start.sh", "train.sh", "train_lora.py",
    ]  # fmt: skip
    assert sorted(os.listdir(found.weights)) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert ModelDir.find("small") == found
    assert sorted(os.listdir(home / "models")) == ["small"]


def test_the_record_says_what_was_installed(home: Path, make_model: Make) -> None:
    source = make_model(values=2_000_000)
    found = install(str(source), say=quiet)
    record = json.loads(found.info.read_text())
    data = (source / "model.safetensors").read_bytes()
    assert record["weights"] == {"model.safetensors": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}}
    assert (record["id"], record["name"], record["source"]) == (str(source), "small", "folder")
    assert (record["parameters"], record["size"], record["dtype"]) == (2_000_000, "2.0M", "float32")
    assert (record["model_type"], record["revision"], record["linked"]) == ("llama", "", False)
    assert record["fingerprint"] == fingerprint(source)
    assert record["bytes"] == len(data)
    assert record["installed"].endswith("+00:00")
    assert all(record["versions"][k] for k in ("llm_installer", "transformers", "torch", "peft"))


def test_content_behind_links_is_copied(home: Path, make_model: Make, tmp_path: Path) -> None:
    source = make_model()
    blob = tmp_path / "blob"
    shutil.move(source / "model.safetensors", blob)
    (source / "model.safetensors").symlink_to(blob)
    found = install(str(source), say=quiet)
    copied = found.weights / "model.safetensors"
    assert not copied.is_symlink() and copied.read_bytes() == blob.read_bytes()


def test_tiny_installs_offline(home: Path) -> None:
    found = install("tiny", say=quiet)
    assert found.root == home / "models" / "tiny"
    record = json.loads(found.info.read_text())
    assert (record["id"], record["source"]) == ("tiny", "built-in")
    assert record["parameters"] > 0


@pytest.mark.parametrize("value", ["", None])
def test_without_llm_home_models_go_below_the_users_home(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Make
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LLM_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("LLM_HOME", value)
    assert install(str(make_model()), say=quiet).root == tmp_path / "LLM" / "models" / "small"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"model.safetensors": b"\x08\0\0\0\0\0\0\0not json"}, "is damaged"),
        ({"config.json": None}, "config.json is missing"),
        ({"model.safetensors": None}, "holds no weights"),
    ],
)
def test_a_bad_folder_is_refused_and_leaves_nothing(
    extra: dict[str, bytes | None], says: str, home: Path, make_model: Make
) -> None:
    with pytest.raises(ModelError) as refused:
        install(str(make_model(extra=extra)), say=quiet)
    assert says in str(refused.value)
    assert os.listdir(home / "models") == []


def test_truncated_weights_are_found_before_they_are_copied(home: Path, make_model: Make) -> None:
    source = make_model()
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    said: list[str] = []
    with pytest.raises(ModelError, match="is truncated"):
        install(str(source), say=said.append)
    assert said == []


def test_too_small_a_disk_is_one_sentence(home: Path, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 1000))
    with pytest.raises(InstallerError) as refused:
        install(str(make_model()), say=quiet)
    assert "1 KiB free" in str(refused.value) and "set LLM_HOME" in str(refused.value)
    assert list_models() == []


def test_a_home_that_cannot_be_written_is_one_sentence(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLM_HOME", str(tmp_path / "file"))
    with pytest.raises(InstallerError, match="set LLM_HOME to a folder that can be"):
        install(str(make_model()), say=quiet)


def test_link_uses_the_folder_in_place(home: Path, make_model: Make) -> None:
    source = make_model()
    found = install(str(source), link=True, say=quiet)
    assert os.readlink(found.weights) == str(source)
    assert json.loads(found.info.read_text())["linked"] is True
    assert list_models()[0].complete
    shutil.rmtree(source)
    assert not list_models()[0].complete


def test_a_model_is_never_linked_to_itself(home: Path, make_model: Make) -> None:
    found = install(str(make_model()), say=quiet)
    with pytest.raises(ModelError, match="cannot be linked to itself"):
        install(str(found.weights), name="small", link=True, force=True, say=quiet)
    assert list_models()[0].complete


def test_what_to_do_about_wrong_files_depends_on_where_they_are(home: Path, make_model: Make) -> None:
    source = make_model()
    installed = install(str(source), name="mine", say=quiet)
    for folder, says in ((source, "copy the folder again from where it was made"), (installed.weights, "--force")):
        file = folder / "config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "hidden_size": 0}))
        with pytest.raises(ModelError, match=rf"hidden_size in .* must be .* not 0; .*{says}$"):
            check_model(str(folder))
    with pytest.raises(ModelError, match=r"get the model again$"):
        install(str(source), name="other", say=quiet)


def test_a_model_in_training_is_installed_already(home: Path, make_model: Make) -> None:
    source = str(make_model())
    found = install(source, say=quiet)
    with only_training(found):
        with pytest.raises(TrainingError, match=r"^small is already installed, and is being trained now: process "):
            install(source, say=quiet)
        with pytest.raises(TrainingError, match=r"^small cannot be replaced while it is being trained: process "):
            install(source, force=True, say=quiet)


def test_the_root_of_the_machine_is_no_model(home: Path) -> None:
    with pytest.raises(ModelError, match=r"^/ holds all of this machine; give the folder that holds config.json"):
        install("/", say=quiet)
