"""Weights that are missing, of a wrong shape or no numbers are refused by name: from headers alone, and when loaded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llm_installer.cli.main import cli
from llm_installer.core.errors import ModelError
from llm_installer.core.text import short_path
from llm_installer.install.installer import install
from llm_installer.models.base import load_base
from llm_installer.models.from_files import check_weights

Weights = dict[str, Tensor]
LLAMA = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32}
SMALL: dict[str, dict[str, object]] = {
    "llama": LLAMA,
    "qwen2": {**LLAMA, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32, "n_positions": 32},
    "mixtral": {**LLAMA, "num_key_value_heads": 2, "num_local_experts": 4},
    "gpt_neox": LLAMA,
}


@pytest.fixture(scope="module", params=SMALL)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(request.param, **SMALL[request.param])
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def change(folder: Path, how: Callable[[Weights], object]) -> Path:
    """The folder, with its weights changed by `how`."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    how(weights)
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def untied(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}), "utf-8")
    return folder


def renamed(prefix: str) -> Callable[[Weights], object]:
    def rename(weights: Weights) -> None:
        for name in list(weights):
            weights[prefix + name] = weights.pop(name)

    return rename


def half(weights: Weights) -> None:
    for name in sorted(weights)[::2]:
        del weights[name]


def no_queries(weights: Weights) -> None:
    for name in [n for n in weights if "q_proj" in n]:
        del weights[name]


def wider(weights: Weights) -> None:
    weights["model.norm.weight"] = torch.ones(33)


def one_layer_less(weights: Weights) -> None:
    for name in [n for n in weights if ".layers.1." in n]:
        del weights[name]


WRONG: dict[str, tuple[Callable[[Weights], object], str]] = {
    "a tensor": (lambda w: w.pop("model.norm.weight"), r"lacks 1 of the \d+ tensors .*: model.norm.weight; "),
    "the queries of all layers": (
        no_queries,
        "lacks 2 of .*layers.0.self_attn.q_proj.weight, .*; (install the|copy the folder)",
    ),
    "the embedding": (lambda w: w.pop("model.embed_tokens.weight"), "model.embed_tokens.weight"),
    "another prefix": (renamed("base."), "those in its files begin with base.; "),
    "half of them": (half, "and others; "),
    "a layer": (one_layer_less, "lacks 9 of .*layers.1"),
    "another shape": (wider, "model.norm.weight has the shape 33, and LlamaForCausalLM needs 32; "),
    "no tensor": (lambda w: [w.clear(), w.update(x=torch.ones(1))], "says that there are 2 layers|lacks"),
}


@pytest.mark.parametrize("how", WRONG)
def test_missing_weights_are_refused_by_name_at_check_install_and_load(how: str, model: Path, llm_home: Path) -> None:
    damage, says = WRONG[how]
    change(model, damage)
    for use in (lambda: check_weights(model), lambda: load_base(model, "float32", "cpu")):
        with pytest.raises(ModelError, match=says if how != "no tensor" else "lacks") as refused:
            use()
        assert "\n" not in str(refused.value)
    with pytest.raises(ModelError, match=says):
        install(str(model), say=lambda text: None)
    assert not list((llm_home / "models").iterdir())
    ended = CliRunner().invoke(cli, ["check", str(model)], standalone_mode=False)
    assert isinstance(ended.exception, ModelError)


def test_a_head_that_is_not_tied_must_be_there(model: Path) -> None:
    check_weights(model)
    load_base(model, "float32", "cpu")
    untied(model)
    for use in (lambda: check_weights(model), lambda: load_base(model, "float32", "cpu")):
        with pytest.raises(ModelError, match=r"lacks 1 of the 21 tensors that LlamaForCausalLM needs: lm_head.weight"):
            use()
    change(model, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()}))
    check_weights(model)
    load_base(model, "float32", "cpu")


def test_half_a_shard_is_refused_by_the_name_of_the_shard(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[:8], "b.safetensors": names[8:]}
    for shard, held in shards.items():
        save_file({n: weights[n] for n in held}, model / shard, metadata={"format": "pt"})
    index = {name: shard for shard, held in shards.items() for name in held}
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}), "utf-8")
    check_weights(model)
    load_base(model, "float32", "cpu")
    save_file({n: weights[n] for n in shards["b.safetensors"][:-2]}, model / "b.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"b.safetensors lacks 2 tensors that model.safetensors.index.json names"):
        check_weights(model)


def test_every_family_is_complete_and_no_tensor_of_it_can_be_missing(family: Path, tmp_path: Path) -> None:
    check_weights(family)
    every = load_file(family / "model.safetensors")
    for number, name in enumerate(every):
        folder = Path(shutil.copytree(family, tmp_path / str(number)))
        change(folder, lambda weights, name=name: weights.pop(name))  # type: ignore[misc]
        with pytest.raises(ModelError, match=r"lacks|do not go together"):
            check_weights(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_no_numbers_are_the_bases(model: Path, value: float) -> None:
    change(model, lambda w: w["model.layers.1.mlp.up_proj.weight"].view(-1)[5:6].fill_(value))
    with pytest.raises(ModelError, match=r"The base model .* is damaged: model.layers.1.mlp.up_proj.weight holds"):
        load_base(model, "bfloat16", "cpu")


@pytest.mark.parametrize(("family", "field"), [("llama", "intermediate_size"), ("gpt2", "n_inner")])
def test_a_size_of_nothing_is_named(family: str, field: str, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SMALL[family])).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, field: 0}), "utf-8")
    for use in (check_weights, lambda folder: load_base(folder, "float32", "cpu")):
        with pytest.raises(ModelError, match=rf"does not fit its config\.json: .* since {field} is 0; "):
            use(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_act": "blub"}, 'hidden_act in {} is "blub", which this version of transformers does not know'),
        ({"rope_parameters": {"rope_type": "blub"}}, 'rope_parameters.rope_type in {} is "blub", which'),
        ({"rope_scaling": {"type": "blub", "factor": 2.0}}, 'rope_scaling.type in {} is "blub", which'),
        ({"dtype": "blub"}, 'dtype in {} is "blub", which'),
        ({"attn_implementation": "blub"}, "attn_implementation in {} does not fit: Specified `attn_impl"),
        ({"layer_types": ["blub"] * 2}, "layer_types in {} does not fit: The `layer_types` entries must be in"),
        ({"attention_bias": 0}, "attention_bias in {} does not fit: Field 'attention_bias' expected bool"),
    ],
)
def test_a_name_that_no_table_has_is_said_by_its_field(change: dict[str, object], says: str, model: Path) -> None:
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(ModelError, match=re.escape(says.format(short_path(file)))):
        check_weights(model)


def test_every_word_of_a_config_is_known_by_its_field(family: Path, tmp_path: Path) -> None:
    file = Path(shutil.copytree(family, tmp_path / "model")) / "config.json"
    config = json.loads(file.read_text("utf-8"))
    refused = set()
    for name in [name for name, value in config.items() if isinstance(value, str)]:
        file.write_text(json.dumps({**config, name: "blub"}), "utf-8")
        try:
            check_weights(file.parent)
        except ModelError as error:
            assert f"{name} in {short_path(file)} " in str(error) or name == "model_type", error
            refused.add(name)
    assert {"hidden_act", "activation_function"} & refused
