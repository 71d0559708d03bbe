"""Which layers get a LoRA, in tiny random models of families with experts and state spaces: each trains and loads."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model_state_dict
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from llm_installer.core.errors import ModelError, UsageError
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.inference.load import _put_on as put_on
from llm_installer.models.base import add_lora, load_base
from llm_installer.models.from_files import without_weights
from llm_installer.models.peft_names import config_from_files
from llm_installer.models.skeleton import skeleton
from llm_installer.models.targets import Targets, choose_targets
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.contradictions import refuse_contradictions
from llm_installer.planning.decide import make_plan
from llm_installer.planning.layers import adapter_parameters
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.registry import find_handler
from llm_installer.planning.table import plan_rows
from llm_installer.training.checkpoint import adapter_weights, load_weights, save_adapter
from llm_installer.training.fast.interface import speed_up
from llm_installer.training.start import checked

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
GIB = 1 << 30
HARDWARE = Hardware("cpu", "CPU", 1, 8 * GIB, 8 * GIB, False, 2)
FACTS = DataFacts(36, 4, "instruct", 20, 22)

IDS = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
SIZES = {**IDS, "vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 64}
WIDE = {**GROUPED, "head_dim": 16}
ROUTED = {"num_local_experts": 4, "num_experts_per_tok": 2}
NUMBERED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHARED = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
LINEAR_ATTENTION = {
    "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 2,
}  # fmt: skip
MAMBA = {**IDS, "vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
CONFIGS: dict[str, Mapping[str, object]] = {
    "llama4_text": {
        **WIDE, "intermediate_size_mlp": 64, "num_local_experts": 2, "interleave_moe_layer_step": 2,
        "attention_chunk_size": 32, "no_rope_layers": [1, 0],
    },
    "deepseek_v3": {**GROUPED, **LATENT, **SHARED, "num_key_value_heads": 4},
    "glm4_moe": {**WIDE, **SHARED},
    "qwen3_next": {**WIDE, **NUMBERED, **LINEAR_ATTENTION, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {**WIDE, **NUMBERED},
    "gpt_oss": {**WIDE, **ROUTED, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "granitemoe": {**GROUPED, **ROUTED},
    "granitemoeshared": {**GROUPED, **ROUTED, "shared_intermediate_size": 32},
    "mixtral": {**GROUPED, **ROUTED},
    "falcon_h1": {
        **WIDE, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8,
        "mamba_chunk_size": 8,
    },
    "mamba": MAMBA,
    "mamba2": {**MAMBA, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    "nemotron_h": {
        **WIDE, **SHARED, "num_hidden_layers": 4, "layers_block_type": ["mamba", "attention", "mlp", "moe"],
        "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 1, "ssm_state_size": 8, "chunk_size": 8,
        "moe_shared_expert_intermediate_size": 16,
    },
    "jamba": {
        **GROUPED, "num_experts": 2, "mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1,
        "expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False,
    },
}  # fmt: skip

ATTENTION = "2 q_proj, 2 k_proj, 2 v_proj, 2 o_proj"
MIXED = (
    "1 mlp.gate_proj, 1 mlp.up_proj, 1 mlp.down_proj, "
    "1 shared_experts.gate_proj, 1 shared_experts.up_proj, 1 shared_experts.down_proj"
)
LEFT = "; left alone: routed experts (add the word experts to --target-modules)"
OUT = "2 out_proj (PEFT refuses it)"
ADAPTED = {
    "llama4_text": (
        f"{ATTENTION}, {MIXED}{LEFT}".replace("mlp.", "feed_forward.")
        .replace("shared_experts.", "shared_expert.")
        .replace("alone: ", "alone: 1 router (router), ")
    ),
    "deepseek_v3": f"2 q_a_proj, 2 q_b_proj, 2 kv_a_proj_with_mqa, 2 kv_b_proj, 2 o_proj, {MIXED}{LEFT}",
    "glm4_moe": f"{ATTENTION}, {MIXED}{LEFT}",
    "qwen3_next": (
        "1 in_proj_qkvz, 1 in_proj_ba, 1 out_proj, 2 gate_proj, 2 up_proj, 2 down_proj, 1 q_proj, 1 k_proj, 1 v_proj, "
        "1 o_proj" + LEFT.replace("alone: ", "alone: 2 shared_expert_gate (router), ")
    ),
    "qwen3_moe": ATTENTION + LEFT,
    "gpt_oss": ATTENTION + LEFT,
    "granitemoe": ATTENTION + LEFT,
    "granitemoeshared": f"{ATTENTION}, 2 input_linear, 2 output_linear{LEFT}",
    "mixtral": ATTENTION + LEFT,
    "falcon_h1": f"2 gate_proj, 2 up_proj, 2 down_proj, 2 in_proj, {ATTENTION}; left alone: {OUT}",
    "mamba": f"2 in_proj, 2 x_proj; left alone: {OUT}, 2 dt_proj (a LoRA has no effect)",
    "mamba2": f"2 in_proj; left alone: {OUT}",
    "nemotron_h": (
        "1 in_proj, 1 q_proj, 1 k_proj, 1 v_proj, 1 o_proj, 1 mixer.up_proj, 1 mixer.down_proj, "
        "1 shared_experts.up_proj, 1 shared_experts.down_proj"
        + LEFT.replace("alone: ", "alone: 1 out_proj (PEFT refuses it), ")
    ),
    "jamba": (
        "1 in_proj, 1 x_proj, 1 out_proj, 1 gate_proj, 1 up_proj, 1 down_proj, 1 q_proj, 1 k_proj, 1 v_proj, 1 o_proj"
        + LEFT.replace("alone: ", "alone: 1 dt_proj (a LoRA has no effect), ")
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the random model of each family is; made when it is asked for."""
    found = {}
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    for model_type, config in CONFIGS.items():
        found[model_type] = tmp_path_factory.mktemp(model_type)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **config)).save_pretrained(found[model_type])
        tokenizer.save_pretrained(found[model_type])
    return found


def plan_of(folder: Path, **options: object) -> Plan:
    info = read_model_info(folder)
    plan = make_plan(Options(data="x", **options), info, find_handler(info), HARDWARE, FACTS, (22, ""))  # type: ignore[arg-type]
    return checked(plan, info, folder)


def token_ids() -> torch.Tensor:
    return torch.randint(3, 120, (2, 12), generator=torch.Generator().manual_seed(1))


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=token_ids(), use_cache=False).logits
    return found


def one_step(folder: Path, plan: Plan, fast: bool) -> tuple[PeftModel, torch.Tensor]:
    """A model after one step, in which every adapter has changed; and its loss."""
    model, ids = add_lora(load_base(folder, "float32", "cpu"), plan).train(), token_ids()
    if fast:
        speed_up(model, plan)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=0.01)
    loss = F.cross_entropy(model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    assert all("lora_" in name for name in trained)
    assert [name for name, p in trained.items() if "lora_B" in name and torch.equal(p, before[name])] == []
    return model, loss.detach()


def saved(model: PeftModel, folder: Path) -> Path:
    weights = adapter_weights(model)
    load_weights(model, weights)
    save_adapter(folder, model, weights, lambda fresh: None)
    return folder


def loaded_by_peft(folder: Path, adapter: Path) -> PeftModel:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning)
        # PEFT looks for the names of a pattern among modules, and uses them for parameters too.
        warnings.filterwarnings("ignore", message=".*keys did not match any targeted module", category=RuntimeWarning)
        found = PeftModel.from_pretrained(load_base(folder, "float32", "cpu"), str(adapter))
    assert isinstance(found, PeftModel)
    return found


def loaded_here(folder: Path, adapter: Path) -> PeftModel:
    return put_on(load_base(folder, "float32", "cpu"), adapter, ModelDir(folder))


@pytest.mark.parametrize("family", CONFIGS)
def test_each_family_trains_by_default_and_is_loaded_again(
    folders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    folder = folders[family]
    plan = plan_of(folder)
    assert plan.why["adapted"] == ADAPTED[family]
    row = next(row for row in plan_rows(plan) if row.name == "adapted")
    assert row.value == f"{sum(int(word) for word in ADAPTED[family].partition(';')[0].split()[::2])} layers"
    plain, plain_loss = one_step(folder, plan, fast=False)
    fast, fast_loss = one_step(folder, plan, fast=True)
    torch.testing.assert_close(fast_loss, plain_loss, rtol=1e-5, atol=1e-5)
    adapter = saved(fast, tmp_path / "adapter")
    trained = logits(fast)
    torch.testing.assert_close(trained, logits(plain), rtol=1e-3, atol=1e-3)
    assert (trained - logits(load_base(folder, "float32", "cpu"))).abs().max() > 1e-3
    for load in (loaded_by_peft, loaded_here):
        torch.testing.assert_close(logits(load(folder, adapter)), trained, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "wanted", "layers", "blocks"),
    [
        ("glm4_moe", "all-linear,experts", 14, 2),
        ("gpt_oss", "q_proj,experts", 2, 4),
        ("llama4_text", "experts", 0, 2),
        ("nemotron_h", "all-linear,experts", 9, 2),
    ],
)
def test_experts_are_adapted_where_they_are_asked_for(
    folders: dict[str, Path], tmp_path: Path, family: str, wanted: str, layers: int, blocks: int
) -> None:
    folder = folders[family]
    plan, info = plan_of(folder, target_modules=wanted), read_model_info(folder)
    assert f"{blocks} blocks of routed experts" in plan.adapted and ("layers" in plan.adapted) == bool(layers)
    model, _ = one_step(folder, plan, fast=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * (layers + blocks)
    assert not any("router" in name or ".gate." in name for name in trained)
    numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert numbers <= adapter_parameters(info, plan.lora_r, plan.target_modules) <= 1.5 * numbers
    adapter = saved(model, tmp_path / "adapter")
    for load in (loaded_by_peft, loaded_here):
        torch.testing.assert_close(logits(load(folder, adapter)), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "wanted", "said"),
    [
        ("falcon_h1", "all-linear,experts", "This model has no routed experts; leave the word experts out"),
        ("qwen3_moe", "q_proj,gate_proj", "named gate_proj; .*, and the word experts for routed experts"),
        ("llama4_text", "q_proj,router", "router is a router that computes in its own way, and PEFT cannot adapt it"),
        ("mamba2", "in_proj,out_proj", "PEFT refuses these layers"),
    ],
)
def test_what_cannot_be_adapted_is_refused_by_name(
    folders: dict[str, Path], family: str, wanted: str, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        plan_of(folders[family], target_modules=wanted)


def test_a_router_that_is_a_plain_layer_is_adapted_where_it_is_named(folders: dict[str, Path]) -> None:
    plan = plan_of(folders["qwen3_next"], target_modules="q_proj,shared_expert_gate")
    assert plan.why["adapted"].startswith("2 shared_expert_gate, 1 q_proj")


@pytest.mark.parametrize("more", [{"lora_dropout": 0.1}, {"use_dora": True}, {"init_lora_weights": "olora"}])
def test_what_peft_has_for_layers_only_is_refused_with_experts(more: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="leave those out, or the word experts in --target-modules"):
        refuse_contradictions(Options(target_modules="q_proj,experts", **more))  # type: ignore[arg-type]


NAMES = ["q_proj", "o_proj", "gate_proj", "up_proj", "mlp.down_proj", "shared_experts.down_proj", "experts"]


@given(wanted=st.lists(st.sampled_from(NAMES), min_size=1, unique=True), ranked=st.booleans())
@settings(max_examples=8, deadline=None)
def test_any_names_mean_the_layers_that_have_them_also_for_peft(
    folders: dict[str, Path], wanted: list[str], ranked: bool
) -> None:
    """In GLM-4.5, whose `gate_proj` PEFT takes for one of a routed expert."""
    folder = folders["glm4_moe"]
    pattern = {"rank_pattern": f"{wanted[0]}=3"} if ranked and wanted[0] != "experts" else {}
    plan = plan_of(folder, target_modules=",".join(wanted), **pattern)
    model, chosen = skeleton(read_model_info(folder), plan)
    assert all(any(f".{name}".endswith(f".{word}") for word in wanted) for name in chosen.layers)
    assert bool(chosen.experts) == ("experts" in wanted)
    weights = {name: torch.zeros(w.shape) for name, w in get_peft_model_state_dict(model).items()}
    adapter = folder / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    save_adapter(adapter, model, weights, lambda fresh: None)
    for load in (loaded_by_peft, loaded_here):
        again = adapter_weights(load(folder, adapter))
        assert {name: w.shape for name, w in again.items()} == {name: w.shape for name, w in weights.items()}
    taken = config_from_files(adapter, without_weights(folder))
    assert (taken is None) == (not any(word.endswith(("gate_proj", "up_proj", "down_proj")) for word in wanted))


def test_models_without_experts_are_named_as_before(tiny_llama: Path) -> None:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert choose_targets(model, ("q_proj",)) == Targets(tuple(f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)))
    every = choose_targets(model, ("all-linear",))
    assert (len(every.layers), every.routers, every.refused, every.bypassed, every.has_experts) == (
        14,
        (),
        (),
        (),
        False,
    )
