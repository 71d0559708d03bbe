"""What other engines would make of an adapter: each row of the table on an adapter made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.export.check_for import check
from llm_installer.export.engines import (
    DROPS,
    OLLAMA,
    RANKS,
    REFUSES,
    ROWS,
    VLLM,
    Finding,
    Module,
    findings,
    max_rank,
    read_adapter,
    served_name,
    vllm_words,
)
from tests.install.conftest import safetensors

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 8, "lora_alpha": 16.0, "target_modules": ["q_proj"], "bias": "none"}
MADE: dict[tuple[str, str], dict[str, Any]] = {
    (VLLM, "rank"): {"r": 600},
    (VLLM, "DoRA"): {"use_dora": True},
    (VLLM, "bias"): {"bias": "lora_only"},
    (VLLM, "modules_to_save"): {"modules_to_save": ["lm_head"]},
    (VLLM, "lora_alpha"): {"lora_alpha": 2.5},
    (VLLM, "rank_pattern"): {"rank_pattern": {"q_proj": 2}},
    (VLLM, "alpha_pattern"): {"alpha_pattern": {"q_proj": 2}},
    (VLLM, "trainable tokens"): {"trainable_token_indices": {"lm_head": [2]}},
    (VLLM, "target_parameters"): {"target_parameters": ["experts.down_proj"]},
    (VLLM, "layers_to_transform"): {"layers_to_transform": [0, 1]},
    (VLLM, "initialisation"): {"init_lora_weights": "pissa_niter_4"},
    (OLLAMA, "DoRA"): {"use_dora": True},
    (OLLAMA, "bias"): {"lora_bias": True},
    (OLLAMA, "modules_to_save"): {"modules_to_save": ["lm_head"]},
    (OLLAMA, "trainable tokens"): {"trainable_token_indices": [2]},
    (OLLAMA, "target_parameters"): {"target_parameters": ["experts.down_proj"]},
    (OLLAMA, "lora_alpha"): {"lora_alpha": 2.5},
    (OLLAMA, "family"): {"family": "qwen3"},
    (OLLAMA, "rank_pattern"): {"rank_pattern": {"q_proj": 2}},
    (OLLAMA, "alpha_pattern"): {"alpha_pattern": {"q_proj": 2}},
    (OLLAMA, "rsLoRA"): {"use_rslora": True},
    (OLLAMA, "layers_to_transform"): {"layers_to_transform": 1},
    (OLLAMA, "initialisation"): {"init_lora_weights": "olora"},
}


def make(place: Path, settings: dict[str, Any]) -> tuple[Path, ModelDir]:
    """An adapter of these settings, and the directory of its base."""
    folder, lora = ModelDir(place / "base"), place / "lora of mine"
    folder.weights.mkdir(parents=True)
    lora.mkdir()
    family = settings.get("family", "llama")
    (folder.weights / "config.json").write_text(json.dumps({"model_type": family}), "utf-8")
    config = {**PLAIN, **{name: value for name, value in settings.items() if name != "family"}}
    (lora / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    tensors = {"m.q_proj.lora_A.weight": [config["r"], 32], "m.q_proj.lora_B.weight": [32, config["r"]]}
    (lora / "adapter_model.safetensors").write_bytes(safetensors(tensors))
    return lora, folder


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.engine}-{row.name}")
def test_each_row_is_found_on_an_adapter_that_has_it_and_on_no_other(row: Any, tmp_path: Path) -> None:
    lora, folder = make(tmp_path, MADE[row.engine, row.name])
    found = findings(row.engine, read_adapter(lora, folder))
    assert [(one.name, one.effect) for one in found] == [(row.name, row.effect)]
    assert row.effect in found[0].said and "\n" not in found[0].said
    plain, plain_folder = make(tmp_path / "plain", {})
    assert findings(row.engine, read_adapter(plain, plain_folder)) == ()


def test_every_row_has_an_adapter_made_for_it() -> None:
    assert {(row.engine, row.name) for row in ROWS} == MADE.keys() and len(ROWS) == len(MADE)


def test_what_is_refused_comes_before_what_is_dropped(tmp_path: Path) -> None:
    lora, folder = make(tmp_path, {"use_dora": True, "rank_pattern": {"q_proj": 2}})
    assert [one.effect for one in check(VLLM, folder, lora, "a").findings] == [REFUSES, DROPS]


@pytest.mark.parametrize(("rank", "said"), [(1, 1), (2, 8), (8, 8), (9, 16), (33, 64), (300, 320), (512, 512)])
def test_ranks_are_rounded_up_to_what_vllm_accepts(rank: int, said: int) -> None:
    assert max_rank(rank) == said and said in RANKS


def test_the_rank_is_that_of_the_largest_layer(tmp_path: Path) -> None:
    lora, folder = make(tmp_path, {})
    tensors = {"m.q_proj.lora_A.weight": [4, 32], "m.k_proj.lora_A.weight": [40, 32]}
    (lora / "adapter_model.safetensors").write_bytes(safetensors(tensors))
    assert read_adapter(lora, folder).ranks == (4, 40)
    assert "--max-lora-rank 64 " in check(VLLM, folder, lora, "a=b c").commands[0]


def test_the_whole_command_is_said(tmp_path: Path) -> None:
    lora, folder = make(tmp_path, {})
    (lora / "chat_template.jinja").write_text("x", "utf-8")
    (command,) = check(VLLM, folder, lora, "20261120-090000-fast").commands
    words = command.split(" ")
    assert words[:2] == ["vllm", "serve"] and "--enable-lora" in words and "--max-lora-rank" not in command
    assert "--lora-modules 20261120-090000-fast=" in command and command.endswith("chat_template.jinja'")
    assert served_name("a=b c/d") == "a-b-c-d" and served_name("==") == "tuned"
    short = "vllm serve org/base --enable-lora --lora-modules n=org/lora"
    assert " ".join(vllm_words("org/base", [Module("n", "org/lora", 16)])) == short


@pytest.mark.parametrize("engine", [VLLM, OLLAMA])
def test_what_helps_is_a_merge(engine: str, tmp_path: Path) -> None:
    lora, folder = make(tmp_path, {"use_dora": True})
    found = check(engine, folder, lora, "a")
    assert isinstance(found.findings[0], Finding) and "DoRA" in found.findings[0].said
    if engine == OLLAMA:
        (command,) = found.commands
        assert command.startswith("llm-installer export ") and command.endswith(" --to ollama"), "it merges on the way"
        return
    assert found.commands[0].startswith("llm-installer merge ") and found.commands[0].endswith(" --to base-merged")
    assert found.commands[1].startswith("vllm serve")
