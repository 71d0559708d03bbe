"""Adapters that are damaged, only in part there or made for another model are refused with the true reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llm_installer.core.errors import AdapterError
from llm_installer.core.paths import ModelDir
from llm_installer.inference.load import load_assistant
from llm_installer.models.base import load_base

Weights = dict[str, Tensor]


@pytest.fixture
def lora(installed: Path, tmp_path: Path) -> Path:
    """An adapter that was made elsewhere: without a manifest and without a word about its base."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    folder = tmp_path / "lora"
    get_peft_model(load_base(installed / "model", "float32", "cpu"), config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(installed / "model").save_pretrained(folder)
    return folder


def weights(how: Callable[[Weights], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        held = load_file(file)
        how(held)
        save_file(held, file, metadata={"format": "pt"})

    return change


def config(**more: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | more), "utf-8")

    return change


def without(part: str) -> Callable[[Path], None]:
    def drop(held: Weights) -> None:
        for name in [n for n in held if part in n]:
            del held[name]

    return weights(drop)


def another_width(held: Weights) -> None:
    for name in [n for n in held if "v_proj.lora_B" in n]:
        held[name] = torch.cat([held[name], held[name]])


def more_layers(held: Weights) -> None:
    for name in [n for n in held if ".layers.1." in n]:
        held[name.replace(".layers.1.", ".layers.7.")] = held[name].clone()


def other_words(folder: Path) -> None:
    file = folder / "tokenizer.json"
    found = json.loads(file.read_text("utf-8"))
    vocabulary = found["model"]["vocab"]
    one, other = list(vocabulary)[300:302]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    file.write_text(json.dumps(found), "utf-8")


def more_words(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<one>", "<more>"])
    tokenizer.save_pretrained(folder)


HEAD = "base_model.model.lm_head.weight"
WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "half of the pairs": (
        without("lora_B"),
        "is incomplete: .*lora_B.weight is missing from adapter_model.safetensors",
    ),
    "one half": (without("layers.1.self_attn.q_proj.lora_A"), "is incomplete: .*layers.1.self_attn.q_proj.lora_A"),
    "half of the layers": (without("layers.1."), "it lacks weights for some of the layers that it names"),
    "a weight": (
        weights(lambda w: next(iter(w.values())).view(-1)[:1].fill_(math.nan)),
        "is damaged: .*lora_A.*not numb",
    ),
    "an infinite weight": (
        weights(lambda w: list(w.values())[-1].view(-1)[:1].fill_(math.inf)),
        "is damaged: .*lora_B",
    ),
    "alpha": (config(lora_alpha=math.nan), "lora_alpha in .* must be a finite number, not NaN"),
    "a textual alpha": (config(lora_alpha="x"), 'lora_alpha in .* must be a finite number, not "x"'),
    "a negative rank": (config(r=-1), "r in .* must be a whole number from 1, not -1"),
    "another rank": (config(r=8), r"does not fit tiny-llama \(.*size mismatch"),
    "another width": (weights(another_width), "for another base than tiny-llama: its .*v_proj is .* x .*, and there"),
    "an unknown kind": (
        config(peft_type="MAGIC"),
        'peft_type in .*json is "MAGIC", which this version of PEFT does not',
    ),
    "a broken pattern": (config(target_modules="(("), r"target_modules in .*json is no regular expression: missing \)"),
    "a module to import": (config(megatron_config={}, megatron_core="os"), "absent, since it names a module to import"),
    "more layers": (weights(more_layers), "it holds weights for .*layers.7.*, which this model does not have"),
    "a larger head": (
        weights(lambda w: w.update({HEAD: torch.ones(77, 32)})),
        "a vocabulary of 77 tokens, and tiny-llama",
    ),
    "other words": (other_words, "was made with another vocabulary than that of tiny-llama .the id 30"),
    "more words": (more_words, "was made with another vocabulary than that of tiny-llama .it has ids up to"),
}


def test_one_that_fits_is_taken(installed: Path, lora: Path) -> None:
    assert load_assistant(ModelDir(installed), lora).adapter


@pytest.mark.parametrize("how", WRONG)
def test_the_true_reason_is_said(how: str, installed: Path, lora: Path) -> None:
    damage, says = WRONG[how]
    damage(lora)
    with pytest.raises(AdapterError, match=says) as refused:
        load_assistant(ModelDir(installed), lora)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 900
