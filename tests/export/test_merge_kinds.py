"""Every kind of adapter, merged file by file: the logits are those of PEFT, and each tensor of the adapter is used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm_installer.core.errors import AdapterError, ModelError
from llm_installer.core.paths import ModelDir
from llm_installer.core.weight_files import read_headers
from llm_installer.export.adapter import read_changes
from llm_installer.export.tensors import Base, Plan, plan_files, untied_by
from llm_installer.export.write import write_model
from llm_installer.models.file_names import places, tied_weights
from llm_installer.models.from_files import check_weights, without_weights
from tests.export.made_models import logits_of, make_adapter, make_model, tuned_logits
from tests.tiers import first_here

pytestmark = pytest.mark.filterwarnings("ignore")
EXPERTS = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "lora": ("llama", {"target_modules": ["q_proj", "down_proj"]}),
    "rslora-patterns": (
        "llama",
        {
            "target_modules": "all-linear",
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"v_proj": 3},
        },
    ),
    "one-layer": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1]}),
    "dora": ("llama", {"target_modules": "all-linear", "use_dora": True}),
    "dora-embeddings": ("llama", {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "use_dora": True}),
    "tied-embedding": ("llama-tied", {"target_modules": ["embed_tokens", "q_proj"]}),
    "tied-head": ("llama-tied", {"target_modules": ["lm_head"]}),
    "tied-saved-head": ("llama-tied", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "tied-saved-both": ("llama-tied", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
    "saved-norm": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm", "embed_tokens"]}),
    "tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 9, 77]}),
    "tied-tokens": ("llama-tied", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 9, 77]}),
    "bias-lora": ("llama-bias", {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "bias-all": ("llama-bias", {"target_modules": ["q_proj"], "bias": "all"}),
    "bias-of-lora": ("llama-bias", {"target_modules": ["q_proj"], "lora_bias": True}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "gpt2-dora": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "use_dora": True}),
    "qwen3": ("qwen3", {"target_modules": "all-linear"}),
    "gemma2": ("gemma2", {"target_modules": "all-linear"}),
    "mixtral": ("mixtral", {"target_modules": ["q_proj"], **EXPERTS}),
    "qwen3-moe": ("qwen3-moe", {"target_modules": ["q_proj"], **EXPERTS, "use_rslora": True}),
}
UNTIED = ("tied-embedding", "tied-head", "tied-saved-head", "tied-saved-both")
IDS = torch.randint(3, 2048, (2, 20), generator=torch.Generator().manual_seed(3))


def planned(base: ModelDir, lora: Path, dtype: str = "auto") -> tuple[Plan, bool]:
    """What would be written, and whether embedding and output layer are two in it."""
    bare = without_weights(base.weights)
    model = Base(base.weights, places(bare, read_headers(base.weights)), tied_weights(bare))
    changes = read_changes(bare, lora)
    return plan_files(model, changes, dtype), untied_by(model, changes)


def merged(base: ModelDir, lora: Path, folder: Path, dtype: str = "auto") -> Plan:
    """The files of the merged model."""
    plan, apart = planned(base, lora, dtype)
    folder.mkdir()
    write_model(plan, base.weights, lora, folder, ("float32" if dtype == "auto" else dtype, apart))
    return plan


@pytest.mark.parametrize("kind", first_here(KINDS, 3))
def test_the_merged_model_computes_what_peft_does(kind: str, base: Callable[[str], ModelDir], tmp_path: Path) -> None:
    family, settings = KINDS[kind]
    lora = make_adapter(base(family), tmp_path / "lora", **settings)
    plan = merged(base(family), lora, tmp_path / "model")
    check_weights(tmp_path / "model")
    found, tuned = logits_of(tmp_path / "model", IDS), tuned_logits(base(family), lora, IDS)
    assert (found - tuned).abs().max() < 1e-5
    assert (found - logits_of(base(family).weights, IDS)).abs().max() > 1e-3
    assert (plan.untied > 0) == (kind in UNTIED)


@pytest.mark.slow
def test_a_tied_model_with_a_trained_head_is_whole_in_another_process(
    base: Callable[[str], ModelDir], tmp_path: Path
) -> None:
    lora = make_adapter(base("llama-tied"), tmp_path / "lora", modules_to_save=["lm_head"], target_modules=["q_proj"])
    plan = merged(base("llama-tied"), lora, tmp_path / "model")
    held = load_file(tmp_path / "model" / "model.safetensors")
    assert plan.untied == held["lm_head.weight"].numel() * 4
    assert json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))["tie_word_embeddings"] is False
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM as A\n"
        "model = A.from_pretrained(sys.argv[1]); ids = torch.tensor(eval(sys.argv[2]))\n"
        "torch.save(model(input_ids=ids).logits.detach(), sys.argv[3])"
    )
    words = [str(tmp_path / "model"), str(IDS.tolist()), str(tmp_path / "logits")]
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
    found = torch.load(tmp_path / "logits")
    assert (found - tuned_logits(base("llama-tied"), lora, IDS)).abs().max() < 1e-5


def renamed(lora: Path, change: Callable[[str], str]) -> Path:
    """The adapter with other names in its weights."""
    weights = load_file(lora / "adapter_model.safetensors")
    save_file({change(name): tensor for name, tensor in weights.items()}, lora / "adapter_model.safetensors")
    return lora


def test_names_may_have_that_of_the_adapter_in_them(base: Callable[[str], ModelDir], tmp_path: Path) -> None:
    lora = make_adapter(base("llama"), tmp_path / "lora", target_modules=["q_proj", "v_proj"])
    tuned = tuned_logits(base("llama"), lora, IDS)
    renamed(lora, lambda name: name.replace(".weight", ".default.weight"))
    merged(base("llama"), lora, tmp_path / "model")
    assert (logits_of(tmp_path / "model", IDS) - tuned).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("layers.1.self_attn.q_proj.lora", "layers.1.self_attn.r_proj.lora", "self_attn.r_proj.lora_A.weight"),
        ("layers.1.", "layers.7.", "layers.7.self_attn.q_proj.lora_A.weight"),
        ("layers.0.self_attn.q_proj.lora_B", "layers.0.self_attn.q_proj.lora_C", "lora_C.weight"),
    ],
)
def test_a_tensor_that_nothing_takes_is_named(
    old: str, new: str, said: str, base: Callable[[str], ModelDir], tmp_path: Path
) -> None:
    lora = make_adapter(base("llama"), tmp_path / "lora", target_modules=["q_proj"])
    renamed(lora, lambda name: name.replace(old, new))
    with pytest.raises(AdapterError, match=said):
        planned(base("llama"), lora)


def test_a_tensor_that_is_missing_is_named(base: Callable[[str], ModelDir], tmp_path: Path) -> None:
    lora = make_adapter(base("llama"), tmp_path / "lora", target_modules=["q_proj"])
    weights = load_file(lora / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layers.1.self_attn.q_proj.lora_B" not in name}
    save_file(kept, lora / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"incomplete: model.layers.1.self_attn.q_proj.lora_B.weight is missing"):
        planned(base("llama"), lora)


def test_an_initialisation_that_changes_the_base_is_refused(base: Callable[[str], ModelDir], tmp_path: Path) -> None:
    lora = make_adapter(base("llama"), tmp_path / "lora", target_modules=["q_proj"])
    config = json.loads((lora / "adapter_config.json").read_text("utf-8"))
    (lora / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": "pissa"}), "utf-8")
    with pytest.raises(AdapterError, match="its initialisation"):
        planned(base("llama"), lora)


def test_a_base_without_the_prefix_of_its_family(base: Callable[[str], ModelDir], tmp_path: Path) -> None:
    """GPT-2's first files name their tensors without `transformer.`, which transformers adds when it loads them."""
    lora = make_adapter(base("gpt2"), tmp_path / "lora", target_modules=["c_attn"], fan_in_fan_out=True)
    tuned = tuned_logits(base("gpt2"), lora, IDS)
    old = tmp_path / "old"
    make_model("gpt2", old / "model")
    weights = load_file(old / "model" / "model.safetensors")
    short = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    save_file(short, old / "model" / "model.safetensors", metadata={"format": "pt"})
    merged(ModelDir(old), lora, tmp_path / "model")
    assert set(load_file(tmp_path / "model" / "model.safetensors")) == set(short)
    assert (logits_of(tmp_path / "model", IDS) - tuned).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_are_rounded_once(dtype: str, base: Callable[[str], ModelDir], tmp_path: Path) -> None:
    lora = make_adapter(base("llama"), tmp_path / "lora", target_modules=["q_proj"])
    plan = merged(base("llama"), lora, tmp_path / "model", dtype)
    merged(base("llama"), lora, tmp_path / "exact")
    found, exact = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "exact"))
    kind = getattr(torch, dtype)
    assert all(torch.equal(found[name], exact[name].to(kind)) for name in exact)
    assert json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))["dtype"] == dtype
    assert plan.count.moved == 2 * 48 * 48 and plan.count.lost < plan.count.moved


def test_steps_too_small_for_the_type_are_counted(tmp_path: Path) -> None:
    """A weight of about 0.02 has steps of 6e-5 in bfloat16, so that most of a change of 1e-6 is lost."""
    small = ModelDir(tmp_path / "base")
    make_model("llama", small.weights, torch.bfloat16)
    lora = make_adapter(small, tmp_path / "lora", strength=1e-6, target_modules=["q_proj"])
    plan = merged(small, lora, tmp_path / "model")
    assert plan.count.moved > 4000 and plan.count.lost > 0.9 * plan.count.moved


def test_shards_keep_their_names_and_what_is_in_them(tmp_path: Path) -> None:
    sharded = ModelDir(tmp_path / "base")
    make_model("llama-tied", sharded.weights, shards="300KB")
    lora = make_adapter(sharded, tmp_path / "lora", target_modules=["q_proj"], modules_to_save=["lm_head"])
    merged(sharded, lora, tmp_path / "model")
    index = "model.safetensors.index.json"
    before, after = (
        json.loads((p / index).read_text("utf-8"))["weight_map"] for p in (sharded.weights, tmp_path / "model")
    )
    assert len(set(before.values())) > 1 and after == {**before, "lm_head.weight": before["model.embed_tokens.weight"]}
    assert (logits_of(tmp_path / "model", IDS) - tuned_logits(sharded, lora, IDS)).abs().max() < 1e-5


def test_a_tensor_in_another_form_is_refused_before_it_is_read(base: Callable[[str], ModelDir], tmp_path: Path) -> None:
    from dataclasses import replace

    lora = make_adapter(base("llama"), tmp_path / "lora", target_modules=["q_proj"])
    bare = without_weights(base("llama").weights)
    found = places(bare, read_headers(base("llama").weights))
    name = "model.layers.0.self_attn.q_proj.weight"
    model = Base(base("llama").weights, {**found, name: replace(found[name], converted=True)}, None)
    with pytest.raises(ModelError, match=f"{name} is stored in another form"):
        plan_files(model, read_changes(bare, lora), "auto")
