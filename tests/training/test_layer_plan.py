"""Layers planned ahead: the same loss and gradients as plain PEFT, and few operations to give them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from llm_installer.training.device_memory import checkpoint_layers
from llm_installer.training.fast import layer_plan
from llm_installer.training.fast.flat import FlatAdapters, flatten
from llm_installer.training.fast.interface import speed_up
from llm_installer.training.fast.layer_choice import plan_with
from llm_installer.training.fast.lora import fuse_lora, watch_of
from llm_installer.training.fast.loss import LossSum, PlainLoss, SupervisedLoss
from tests.training import counted

SHAPE: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip
ATTENTION, ALL = ["q_proj", "k_proj", "v_proj", "o_proj"], "all-linear"


def qwen2() -> nn.Module:
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE))
    for name, bias in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(bias)
    return model


FAMILIES: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)), True),
    "qwen2": (qwen2, True),
    "gemma": (lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, head_dim=16)), True),
    "mistral, through a window": (lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8)), True),
    "gemma2": (lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8)), False),
    "granite": (lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, residual_multiplier=0.5)), False),
    "qwen3": (lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)), False),
}
"""How each is made, and whether its layers are known."""


def adapted(build: Callable[[], nn.Module], targets: Any, **changed: Any) -> PeftModel:
    """With B as it is early in a run: near zero."""
    torch.manual_seed(0)
    model = build().requires_grad_(False)
    config = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", target_modules=targets, **changed)
    made = get_peft_model(model, config)
    assert isinstance(made, PeftModel)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.02)
    return made.train()


def planned(model: PeftModel) -> tuple[FlatAdapters, str]:
    """The model with all that is fast, and what is said of its layers."""
    flat = flatten(model)
    assert flat
    flat.attach()
    notes = speed_up(model, flat=flat)
    return flat, next((note for note in notes if "planned" in note), "")


def one_pass(model: PeftModel, loss: LossSum) -> tuple[float, Tensor]:
    """Loss and gradient of three rows, one of which is padded."""
    ids = torch.randint(1, 96, (3, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    places = torch.tensor([3, 4, 5, 18, 20, 25, 30, 47, 58])
    model.zero_grad()
    total = loss(ids, places, ids.reshape(-1)[places + 1], {"attention_mask": mask})
    (total / 7).backward()
    return float(total.detach()), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("targets", [ALL, ATTENTION, ["q_proj", "v_proj", "up_proj"]], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_plain_peft(family: str, targets: Any) -> None:
    build, knows = FAMILIES[family]
    more = {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 5}} if family == "qwen2" else {}
    model = adapted(build, targets, **more)
    loss, expected = one_pass(model, PlainLoss(model))
    _, note = planned(model)
    assert note == ("2 layers planned ahead" if knows else "")
    for _ in range(2):  # and again from zero
        own, found = one_pass(model, SupervisedLoss(model))
        assert own == pytest.approx(loss, rel=1e-6)
        assert float((found - expected).norm()) <= 1e-6 * float(expected.norm())


def test_micro_batches_add_up_and_checkpointed_layers_change_nothing() -> None:
    model = adapted(FAMILIES["llama"][0], ALL)
    flat, _ = planned(model)
    loss, ids = SupervisedLoss(model), torch.arange(1, 21).unsqueeze(0)
    found = []
    for times, checkpointed in ((1, 0), (1, 2), (2, 0)):
        checkpoint_layers(model, checkpointed)
        flat.zero_grad()
        for _ in range(times):
            loss(ids, torch.arange(4), ids[0, 1:5]).backward()
        found.append(flat.gradients.clone())
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[2], 2 * found[0])


def test_weights_are_row_blocks_of_a_stack_and_merging_is_pefts_own() -> None:
    model, plain = (adapted(FAMILIES["qwen2"][0], ATTENTION) for _ in range(2))
    planned(model)
    layer = model.get_base_model().model.layers[0]
    q, k, v = (getattr(layer.self_attn, f"{n}_proj").base_layer.weight for n in "qkv")
    assert q.untyped_storage().data_ptr() == k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr()
    assert q.is_contiguous() and q.untyped_storage().nbytes() == sum(w.nbytes for w in (q, k, v))
    ids = torch.arange(1, 21).unsqueeze(0)
    merged, expected = (m.merge_and_unload()(input_ids=ids).logits for m in (copy.deepcopy(model), plain))
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


def test_switched_off_merged_and_moved_adapters_take_pefts_own_path() -> None:
    model, plain = (adapted(FAMILIES["llama"][0], ALL) for _ in range(2))
    planned(model)
    ids = torch.arange(1, 21).unsqueeze(0)

    def same() -> None:
        torch.testing.assert_close(model(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=1e-4, atol=1e-5)

    same()
    for change in ("merge_adapter", "unmerge_adapter", "disable_adapter_layers", "enable_adapter_layers"):
        for each in (model, plain):
            getattr(each.base_model, change)()
        same()
    for each in (model, plain):
        layer = each.get_base_model().model.layers[1].self_attn.q_proj
        layer.lora_B["default"].weight.data = layer.lora_B["default"].weight.data * 3
    same()


def dispatched(layers: int, targets: Any, ahead: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """(launches, all operations) of the decoder in a second pass, forward and backward, when all that is made once is
    made. Each kernel of a library counts once; gradients are there already, as in every micro-batch but a first."""
    shape = {**SHAPE, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": layers}
    model = adapted(lambda: LlamaForCausalLM(LlamaConfig(**shape)).bfloat16(), targets)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.get_base_model().set_attn_implementation(counted.ATTENTION)
    flat = flatten(model)
    assert flat
    flat.attach()
    fuse_lora(model, flat)
    with monkeypatch.context() as patch:
        if ahead:
            watch = watch_of(model)
            patch.setattr(layer_plan, "add_product", counted.add_product)
            assert watch and plan_with(model, watch, counted.KERNELS, blocks=True)
        else:
            counted.put_on(model, patch)
        decoder = model.get_base_model().model
        for _ in range(2):
            with counted.Counting() as count:
                hidden = decoder(input_ids=torch.arange(24)[None], use_cache=False).last_hidden_state
                torch.autograd.backward(hidden, torch.ones_like(hidden))
    return count.launches, sum(count.found.values())


@pytest.mark.parametrize("targets", [ATTENTION, ALL], ids=["q, k, v and o", "all linear layers"])
def test_a_planned_layer_dispatches_four_tenths_and_launches_half(
    targets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one layer more costs, beside what LoRA and a library's kernels cost where each layer looks up its own."""
    each = []
    for ahead in (False, True):
        few, many = (dispatched(layers, targets, ahead, monkeypatch) for layers in (2, 4))
        each.append([(b - a) / 2 for a, b in zip(few, many, strict=True)])
    (launches, everything), (few_launches, few) = each
    print(f"launches {launches} -> {few_launches}, all {everything} -> {few}")
    assert few_launches <= 0.5 * launches
    assert few <= 0.4 * everything
