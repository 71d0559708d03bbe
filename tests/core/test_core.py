"""What is read from folders and how names of files come about."""

from __future__ import annotations

import errno
import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from llm_installer.core import errors
from llm_installer.core.errors import InstallerError, Interrupted, ModelError, TrainingError
from llm_installer.core.files import switch_link, write_folder
from llm_installer.core.hardware import memory_bytes, probe_hardware
from llm_installer.core.home import llm_home
from llm_installer.core.model_info import fingerprint, read_model_info
from llm_installer.core.paths import ModelDir


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "copy"))


def test_model_info_equals_the_real_model(tiny_llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    info = read_model_info(tiny_llama)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert info.parameters == sum(p.numel() for p in model.parameters())
    assert (info.model_type, info.layers, info.heads, info.kv_heads, info.head_dim) == ("llama", 2, 4, 2, 8)
    assert (info.hidden_size, info.intermediate_size, info.max_positions) == (32, 64, 256)
    assert info.chat_template and not info.vision and info.dtype == "float32"


@pytest.mark.parametrize(
    ("parameters", "shown"), [(260_032, "260K"), (135e6, "135M"), (1.24e9, "1.2B"), (8.03e9, "8.0B"), (70e9, "70B")]
)
def test_sizes_are_said_as_people_say_them(tiny_llama: Path, parameters: float, shown: str) -> None:
    import dataclasses

    assert dataclasses.replace(read_model_info(tiny_llama), parameters=int(parameters)).size == shown


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
        (lambda f: os.truncate(f / "model.safetensors", 5000), "truncated"),
        (lambda f: (f / "model.safetensors").write_bytes(b"rubbish"), "damaged"),
        (
            lambda f: (
                (f / "model.safetensors")
                .rename(f / "model.safetensors.index.json")
                .write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
            ),
            "gone.safetensors is missing",
        ),
    ],
)
def test_damage_is_one_sentence(folder: Path, damage, says: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=says):
        read_model_info(folder)


def test_fingerprint_tells_bases_apart_and_survives_a_move(folder: Path, tiny_llama: Path) -> None:
    assert fingerprint(folder) == fingerprint(tiny_llama)
    weights = folder / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-1] ^= 1
    weights.write_bytes(whole)
    assert fingerprint(folder) != fingerprint(tiny_llama)


def test_the_machine_is_probed() -> None:
    found, (free, total) = probe_hardware(), memory_bytes()
    assert found.device in ("cpu", "cuda", "mps") and found.cores >= 1
    assert 0 < free <= total
    assert "GiB free" in found.summary


def test_home_and_finding_a_model(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert llm_home() == installed.parents[1]
    assert ModelDir.find(installed.name).root == ModelDir.find(installed).root == installed
    for missing in ("nowhere", installed / "runs"):
        with pytest.raises(ModelError):
            ModelDir.find(missing)
    assert ModelDir.find(installed / "model").root == installed, "the weights of a model directory mean that"
    monkeypatch.chdir(installed)
    for inside in ("model", "./model", "model/", ".", "runs/../model"):
        assert ModelDir.find(inside).root.resolve() == installed.resolve()
    monkeypatch.setenv("LLM_HOME", "")
    assert llm_home() == Path.home() / "LLM"


def test_a_hub_id_means_the_model_that_was_installed_from_it(installed: Path) -> None:
    record = installed / "model_info.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"source": "hub", "id": "Org/Some-Model"}))
    assert ModelDir.find("Org/Some-Model").root == ModelDir.find("org/some-model").root == installed
    with pytest.raises(ModelError, match=r"^Org/Other is neither .*; install it with: llm-installer install Org/Other"):
        ModelDir.find("Org/Other")


def test_two_runs_of_one_second_have_two_folders(installed: Path) -> None:
    now, folder = datetime(2026, 1, 2, 3, 4, 5), ModelDir.find(installed)
    assert [folder.new_run("fast", now).id for _ in range(3)] == [
        "20260102-030405-fast", "20260102-030405-fast-2", "20260102-030405-fast-3",
    ]  # fmt: skip


def test_a_link_is_switched_and_survives_a_move(tmp_path: Path) -> None:
    home = tmp_path / "model dir"
    for name in ("a", "b"):
        (home / "runs" / name).mkdir(parents=True)
    switch_link(home / "lora", home / "runs" / "a")
    switch_link(home / "lora", home / "runs" / "b")
    moved = home.rename(tmp_path / "elsewhere")
    assert (moved / "lora").resolve() == moved / "runs" / "b"
    assert sorted(p.name for p in moved.iterdir()) == ["lora", "runs"]


def test_links_through_a_linked_home_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "real" / "runs" / "a").mkdir(parents=True)
    (tmp_path / "alias").symlink_to("real")
    switch_link(tmp_path / "alias" / "lora", tmp_path / "alias" / "runs" / "a")
    assert os.readlink(tmp_path / "real" / "lora") == "runs/a"


def test_every_error_has_an_exit_code_and_is_in_the_drawn_tree() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, InstallerError)]
    for kind in kinds:
        assert kind.__name__ in str(errors.__doc__)
    assert {k.exit_code for k in kinds} == {1, 2}
    assert Interrupted("stopped", 15).exit_code == 143


def test_who_may_not_write_is_not_told_to_free_space(tmp_path: Path) -> None:
    for number, says in ((errno.EACCES, "check that you may write there"), (errno.ENOSPC, "free some space there")):

        def refuse(_folder: Path, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with pytest.raises(TrainingError, match=says):
            write_folder(tmp_path / "adapter", refuse)
    assert list(tmp_path.iterdir()) == []
