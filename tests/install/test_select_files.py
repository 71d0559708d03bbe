"""Which files are taken, and which models are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llm_installer.core.errors import ModelError
from llm_installer.install.select_files import select_files
from llm_installer.install.trainable import check_trainable

CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[0]}})
SMALL = {"config.json": CONFIG, "tokenizer.json": "{}"}


def reader(texts: dict[str, str]) -> Callable[[str], str]:
    return lambda name: texts[name]


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5", "model.onnx"], ["model.safetensors"]),
        (["model.safetensors", "adapter_model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["model.safetensors", "model.safetensors.index.json", *SHARDS], ["model.safetensors"]),
        (["model.safetensors.index.json", *SHARDS, "model-00001-of-00003.safetensors"], SHARDS),
        (["pytorch_model.bin", "flax_model.msgpack", "model.q4.gguf"], ["pytorch_model.bin"]),
    ],
)
def test_weights_are_taken_once(names: list[str], weights: list[str]) -> None:
    texts = {**SMALL, "model.safetensors.index.json": INDEX}
    chosen = select_files([*SMALL, *names], reader(texts), "it")
    assert list(chosen.weights) == weights
    assert ("model.safetensors.index.json" in chosen.others) == (len(weights) > 1)


def test_companions_are_taken_and_leftovers_of_training_are_not() -> None:
    wanted = [*SMALL, "merges.txt", "generation_config.json", "chat_template.jinja", "spiece.model", "LICENSE"]
    wanted += ["additional_chat_templates/tool_use.jinja"]
    unwanted = [
        "optimizer.pt",
        "trainer_state.json",
        "training_args.bin",
        "README.md",
        "modeling_x.py",
        ".gitattributes",
    ]
    unwanted += ["original/params.json", "onnx/model.onnx", "pytorch_model.bin.index.json", "adapter_config.json"]
    chosen = select_files([*wanted, *unwanted, "model.safetensors"], reader(SMALL), "it")
    assert sorted(chosen.others) == sorted(wanted)


@pytest.mark.parametrize(
    ("texts", "others", "says"),
    [
        ({}, ["README.md"], "config.json is missing"),
        ({"config.json": "{"}, ["model.safetensors"], "config.json is not valid JSON"),
        ({"config.json": "[]"}, ["model.safetensors"], "config.json is not a JSON object"),
        (SMALL, ["tf_model.h5"], "holds no weights"),
        (SMALL, ["model.q4.gguf"], "holds only GGUF files"),
        ({}, ["model.q4.gguf"], "holds only GGUF files"),
        (SMALL, ["adapter_model.safetensors", "adapter_config.json"], "llm-installer install org/base"),
        ({}, ["adapter_model.safetensors", "adapter_config.json"], "llm-installer install org/base"),
        ({"config.json": CONFIG}, ["model.safetensors"], "has no tokenizer"),
        (SMALL, ["model.safetensors.index.json", SHARDS[0]], f"names {SHARDS[1]}, which is not there"),
        (SMALL, ["pytorch_model.bin.index.json"], 'names "../evil.bin", which is not the name of a weight file'),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(texts: dict[str, str], others: list[str], says: str) -> None:
    texts = {
        **texts,
        "adapter_config.json": json.dumps({"base_model_name_or_path": "org/base"}),
        "model.safetensors.index.json": INDEX,
        "pytorch_model.bin.index.json": json.dumps({"weight_map": {"a": "../evil.bin"}}),
    }
    names = [n for n in texts if n in ("config.json", "tokenizer.json")] + others + ["../evil.bin"]
    with pytest.raises(ModelError) as refused:
        select_files(names, reader(texts), "it")
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model_type", "architecture", "more"),
    [
        ("llama", "LlamaForCausalLM", {}),
        ("gpt2", "GPT2LMHeadModel", {}),
        ("gemma3", "Gemma3ForConditionalGeneration", {"vision_config": {}}),
        ("gemma3_text", "Gemma3ForCausalLM", {}),
        ("llama", "", {}),
        ("moshi", "MoshiForCausalLM", {}),
    ],
)
def test_causal_models_are_welcome(model_type: str, architecture: str, more: dict[str, Any]) -> None:
    check_trainable({"model_type": model_type, "architectures": [architecture], **more}, "it")


@pytest.mark.parametrize(
    ("model_type", "architecture", "more", "says"),
    [
        ("bert", "BertForMaskedLM", {}, "is a BertForMaskedLM, which is not a causal language model"),
        ("llama", "LlamaForSequenceClassification", {}, "is a LlamaForSequenceClassification"),
        ("t5", "T5ForConditionalGeneration", {"is_encoder_decoder": True}, "is a T5ForConditionalGeneration"),
        ("t5", "T5ForConditionalGeneration", {}, "is a T5ForConditionalGeneration"),
        ("clip", "", {}, "is a clip, which is not a causal language model"),
        ("brand_new", "BrandNewForCausalLM", {"auto_map": {}}, "of the type brand_new"),
        ("", "LlamaForCausalLM", {}, "names no model_type"),
    ],
)
def test_other_models_are_refused_by_name(model_type: str, architecture: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError) as refused:
        check_trainable({"model_type": model_type, "architectures": [architecture], **more}, "it")
    assert says in str(refused.value)
