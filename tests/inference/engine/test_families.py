"""Which families answer rows together, and that those which do, and those which do not, say what they say alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llm_installer.inference.engine import trial
from llm_installer.inference.engine.alone import Alone
from llm_installer.inference.engine.bank import AdapterBank
from llm_installer.inference.engine.masks import Masks, masks_of
from llm_installer.inference.engine.planned import Planned, plan_of
from llm_installer.inference.engine.slots import Slots
from llm_installer.inference.engine.trial import NEAR, steps_alike, tried

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2,
}  # fmt: skip
MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6, "head_dim": 8}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
MAMBA = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
TOGETHER: dict[str, Mapping[str, object]] = {
    "llama": SIZES,
    "mistral": {**SIZES, "sliding_window": 6},
    "qwen2": {**SIZES, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": {**SIZES, "head_dim": 16},
    "gemma2": {**SIZES, **MIXED},
    "gemma3_text": {**SIZES, **MIXED},
    "phi3": {**SIZES, "sliding_window": 6},
    "gpt2": {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": SIZES,
    "gpt_oss": {**SIZES, **MIXED, **ROPE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "cohere2": {**SIZES, **MIXED},
    "mixtral": {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo2": SIZES,
    "opt": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "llama4_text": {
        **SIZES, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 2, "interleave_moe_layer_step": 2,
        "attention_chunk_size": 8, "no_rope_layers": [1, 0], "num_experts_per_tok": 1,
    },
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 16,
    "short_factor": [1.0] * 4, "long_factor": [1.0, 3.0, 5.0, 7.0],
}  # fmt: skip
ALONE: dict[str, Mapping[str, object]] = {
    "phi3": {**SIZES, "rope_parameters": LONGROPE, "original_max_position_embeddings": 16},
    "mamba": MAMBA,
    "bloom": {"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon_h1": {
        **SIZES, "head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1,
        "mamba_d_state": 8, "mamba_chunk_size": 8,
    },
}  # fmt: skip


def made(family: str, config: Mapping[str, object]) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model


@pytest.mark.parametrize("family", TOGETHER)
def test_rows_together_are_rows_alone_beyond_every_window(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(family, TOGETHER[family])
    assert tried(model).why_alone == ""
    monkeypatch.setattr(trial, "LENGTHS", (7, 25, 2))
    monkeypatch.setattr(trial, "STEPS", 12)
    masks = masks_of(model.config.get_text_config(), model.dtype)
    assert masks is not None
    assert trial._apart(model, masks, Slots(model.config.num_hidden_layers)) < NEAR[torch.float32]


def test_a_mask_without_its_window_is_seen() -> None:
    """What the trial and these tests look for can be found."""
    model = made("mistral", TOGETHER["mistral"])
    blind = Masks({"all": masks_of(AutoConfig.for_model("llama"), model.dtype).sights["all"]}, False, model.dtype)  # type: ignore[union-attr]
    assert trial._apart(model, blind, Slots(2)) > 10 * NEAR[torch.float32]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_planned_steps_are_the_models_own(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(family, TOGETHER[family])
    bank = AdapterBank(model)
    whole = model(input_ids=torch.arange(12).unsqueeze(0)).logits
    plan = plan_of(model, bank)
    assert plan is not None and torch.equal(model(input_ids=torch.arange(12).unsqueeze(0)).logits, whole)
    masks = masks_of(model.config.get_text_config(), model.dtype)
    assert masks is not None and steps_alike(model, masks, plan)
    first, *rest = plan._layers
    assert not steps_alike(model, masks, Planned(model, bank, [replace(first, scale=3 * first.scale), *rest]))
    monkeypatch.setattr(trial, "LENGTHS", (7, 25, 2))
    monkeypatch.setattr(trial, "STEPS", 12)
    assert trial._apart(model, masks, Slots(2), plan) < NEAR[torch.float32]
    assert plan_of(model.to(torch.bfloat16), bank) is None, "only measured in float32"


@pytest.mark.parametrize("family", sorted({*TOGETHER, *ALONE} - {"llama", "mistral", "qwen2", "qwen3"}))
def test_what_is_not_known_is_not_planned(family: str) -> None:
    model = made(family, TOGETHER.get(family) or ALONE[family])
    assert plan_of(model, AdapterBank(model)) is None


@pytest.mark.parametrize("family", ALONE)
def test_what_cannot_be_together_answers_alone(family: str) -> None:
    model = made(family, ALONE[family])
    found = tried(model)
    assert found.masks is None and found.why_alone
    ids = torch.randint(96, (1, 14), generator=torch.Generator().manual_seed(1))
    batch = Alone(model, AdapterBank(model), SimpleNamespace(inputs=lambda ids, images: {}))  # type: ignore[arg-type]
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False).logits[0]
        steps = [batch._forward("base", ids[:, :9], {})]
        steps += [batch._forward("base", ids[:, at : at + 1], {}) for at in range(9, 14)]
    for at, logits in enumerate(steps, 8):
        torch.testing.assert_close(logits[0], whole[at], rtol=1e-3, atol=1e-3)


def test_positions_that_go_by_the_longest_text_are_not_shared() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert tried(made("llama", {**SIZES, "rope_parameters": rope})).why_alone
