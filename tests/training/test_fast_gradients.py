"""The fast path against the plain one of the same switch: losses and gradients, on families that differ in them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from llm_installer.planning.plan import Plan
from llm_installer.training.fast.interface import FastPath, prepare, speed_up
from llm_installer.training.fast.loss import SupervisedLoss

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False))


def qwen() -> nn.Module:
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True))
    for name, bias in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(bias)
    return model


def gemma() -> nn.Module:
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.5))
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.normal_(weight, std=0.2)
    return model


def granite() -> nn.Module:
    return GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=3.0, residual_multiplier=0.5))


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
    )


FAMILIES = {
    "llama": (llama, "all-linear", 14, 2, 5),
    "qwen2": (qwen, ["q_proj", "v_proj", "down_proj"], 6, 2, 5),
    "gemma2": (gemma, "all-linear", 14, 2, 9),
    "granite": (granite, ["o_proj", "k_proj"], 4, 2, 5),
    "gpt2": (gpt2, ["c_attn", "c_proj"], 6, 0, 0),
}
"""Builder, layers that are adapted, and how many layers, gates and norms are to be replaced."""


def adapted(build: Callable[[], nn.Module], targets: Any, **changed: Any) -> PeftModel:
    torch.manual_seed(0)
    model = build().requires_grad_(False)
    config = LoraConfig(
        r=4, lora_alpha=12, init_lora_weights=False, task_type="CAUSAL_LM", target_modules=targets, **changed
    )
    if build is gpt2:
        config.fan_in_fan_out = True
    result = get_peft_model(model, config)
    assert isinstance(result, PeftModel)
    return result.train()


def scored() -> tuple[Tensor, Tensor, Tensor]:
    """Ids of rows of one length, the flat places that are scored, and what follows them."""
    ids = torch.randint(3, 300, (3, 20), generator=torch.Generator().manual_seed(1))
    places = torch.tensor([3, 4, 5, 18, 20, 25, 38, 47, 58])
    return ids, places, ids.reshape(-1)[places + 1]


PathOf = Callable[..., FastPath]


@pytest.fixture
def path_of(plan_for: Callable[..., Plan]) -> PathOf:
    """How a model is trained with the switch on or off."""
    return lambda model, fast: prepare(model, plan_for(8, fast=fast))


def one_pass(path: FastPath) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of three rows with scattered targets."""
    loss = path.loss(*scored())
    (loss / 7).backward()
    return float(loss.detach()), gradients(path.model)


def test_the_plain_loss_is_cross_entropy_over_the_models_own_logits(path_of: PathOf) -> None:
    model = adapted(llama, "all-linear")
    ids, places, targets = scored()
    logits = model(input_ids=ids, use_cache=False).logits
    expected = nn.functional.cross_entropy(logits.view(-1, logits.shape[-1])[places], targets, reduction="none")
    plain = path_of(model, False)
    assert torch.equal(plain.loss(ids, places, targets, reduction="none"), expected)
    assert plain.loss(ids, places, targets).item() == pytest.approx(expected.sum().item(), rel=1e-6)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def worst(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys() and found
    return max(float((found[n] - e).norm() / e.norm()) for n, e in expected.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_those_of_plain_peft(family: str, path_of: PathOf) -> None:
    build, targets, layers, gates, norms = FAMILIES[family]
    model = adapted(build, targets)
    loss, expected = one_pass(path_of(model, False))
    fast = path_of(model, True)
    assert fast.notes[0] == f"fused LoRA on {layers} of {layers} layers"
    assert gates == 0 or fast.notes[1] == f"memory-saving gates in {gates} layers and {norms} memory-saving norms"
    assert fast.loss.note == "fused loss: logits one chunk at a time"
    own, found = one_pass(fast)
    assert own == pytest.approx(loss, rel=1e-6)
    assert float((flat(found) - flat(expected)).norm() / flat(expected).norm()) < 1e-5
    exact = one_pass(path_of(adapted(build, targets).double(), False))[1]
    assert worst(found, exact) < max(1e-5, 2 * worst(expected, exact)), "each tensor, as near to float64 as plain PEFT"


@pytest.mark.parametrize("family", FAMILIES)
def test_while_on_the_state_is_pefts_own(family: str, tmp_path: Path) -> None:
    build, targets, *_ = FAMILIES[family]
    model, plain = adapted(build, targets), adapted(build, targets)
    config = copy.deepcopy(model.peft_config["default"].to_dict())
    speed_up(model)
    ids = scored()[0]
    expected = plain(input_ids=ids).logits
    assert torch.allclose(model(input_ids=ids).logits, expected, rtol=1e-5, atol=1e-5)
    ours, theirs = get_peft_model_state_dict(model), get_peft_model_state_dict(plain)
    assert all(torch.equal(ours[k], v) for k, v in theirs.items()) and ours.keys() == theirs.keys()
    assert model.peft_config["default"].to_dict() == config
    model.save_pretrained(str(tmp_path))
    again = PeftModel.from_pretrained(adapted(build, targets).unload(), str(tmp_path))
    assert torch.allclose(again(input_ids=ids).logits, expected, rtol=1e-5, atol=1e-5)
    merged = model.merge_and_unload()
    assert torch.allclose(merged(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)


def test_merged_disabled_and_second_adapters_take_pefts_own_path_while_on() -> None:
    model, plain = adapted(llama, "all-linear"), adapted(llama, "all-linear")
    speed_up(model)
    ids = scored()[0]
    for change in ("merge_adapter", "unmerge_adapter", "disable_adapter_layers"):
        for each in (model, plain):
            getattr(each.base_model, change)()
        assert torch.allclose(model(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


def test_a_changed_adapter_is_seen_in_the_next_pass() -> None:
    model, plain = adapted(llama, "all-linear"), adapted(llama, "all-linear")
    speed_up(model)
    ids = scored()[0]
    model(input_ids=ids)
    for each in (model, plain):
        with torch.no_grad():
            for parameter in each.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1.5)
    assert torch.allclose(model(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


def two_adapters(model: PeftModel) -> None:
    model.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"]))


REFUSED = [
    ({"lora_dropout": 0.5}, None, "dropout is on"),
    ({"use_dora": True}, None, "the adapter is not plain LoRA"),
    ({"lora_bias": True}, None, "the adapter has a bias"),
    ({}, two_adapters, "there is more than one adapter"),
    ({}, lambda m: m.merge_adapter(), "the adapter is merged"),
    ({}, lambda m: m.base_model.model.requires_grad_(True), "the base layer is trained too"),
]


@pytest.mark.parametrize(("changed", "change", "why"), REFUSED, ids=[r[2] for r in REFUSED])
def test_what_is_not_covered_keeps_pefts_path_and_says_why(changed: Any, change: Any, why: str) -> None:
    model = adapted(qwen, ["q_proj"], **changed)
    if change:
        change(model)
    notes = speed_up(model)
    assert notes[:2] == ["fused LoRA on 0 of 2 layers", f"2 LoRA layers use PEFT's own path: {why}"]


def test_rank_stabilised_scale_and_bfloat16_base_stay_as_close_as_plain_peft(path_of: PathOf) -> None:
    def build() -> nn.Module:
        return llama().to(torch.bfloat16)

    def small(model: PeftModel) -> PeftModel:
        """B as it is early in a run: near zero."""
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.mul_(0.05)
        return model

    exact, plain, fast = (small(adapted(build, "all-linear", use_rslora=True)) for _ in range(3))
    reference = flat(one_pass(path_of(exact.float(), False))[1])
    theirs = flat(one_pass(path_of(plain, False))[1])
    ours = flat(one_pass(path_of(fast, True))[1])
    cosine = nn.functional.cosine_similarity
    assert float(cosine(ours, reference, dim=0)) > float(cosine(theirs, reference, dim=0)) - 1e-3


@pytest.mark.parametrize(
    ("size", "worst", "all_together"), [(1.0, 1.75, 1.5), (0.05, 1.2, 1.2)], ids=["large", "small"]
)
def test_on_a_bfloat16_base_errors_stay_near_those_of_plain_peft(
    size: float, worst: float, all_together: float, path_of: PathOf
) -> None:
    """Errors against float32, of each tensor the mean over seeds: one seed alone is chance.

    Adapters so large that they outweigh the base lose more, as their products are rounded to 16 bits
    (docs/guides/methods.md).
    """
    theirs: dict[str, float] = {}
    ours: dict[str, float] = {}
    for seed in range(20):
        model = adapted(lambda: llama().to(torch.bfloat16), "all-linear")
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    nn.init.kaiming_uniform_(weight, a=5**0.5)
                    weight.mul_(size if "lora_B" in name else 1)
        exact = one_pass(path_of(copy.deepcopy(model).float(), False))[1]
        plain = one_pass(path_of(model, False))[1]
        found = one_pass(path_of(model, True))[1]
        for name, true in exact.items():
            theirs[name] = theirs.get(name, 0) + float((plain[name] - true).norm() / true.norm())
            ours[name] = ours.get(name, 0) + float((found[name] - true).norm() / true.norm())
    assert max(ours.values()) < worst * max(theirs.values())
    assert sum(ours.values()) < all_together * sum(theirs.values())


def flat(found: dict[str, Tensor]) -> Tensor:
    return torch.cat([found[n].reshape(-1) for n in sorted(found)])


def test_a_trained_head_computes_the_plain_loss(path_of: PathOf) -> None:
    model = adapted(llama, ["q_proj"], modules_to_save=["lm_head"])
    loss, expected = one_pass(path_of(model, False))
    fast = path_of(model, True)
    assert fast.loss.note.startswith("plain loss: the output layer is trained")
    own, found = one_pass(fast)
    assert own == pytest.approx(loss, rel=1e-6) and worst(found, expected) < 1e-5


def test_an_unknown_logit_rule_computes_the_plain_loss(path_of: PathOf) -> None:
    model = adapted(granite, ["q_proj"])

    def double(_module: nn.Module, _given: Any, output: Any) -> Any:
        output.logits = output.logits * 2
        return output

    model.get_base_model().register_forward_hook(double)
    loss, _ = one_pass(path_of(model, False))
    fast = path_of(model, True)
    assert fast.loss.note.startswith("plain loss: this model does something")
    assert one_pass(fast)[0] == pytest.approx(loss, rel=1e-6)


def test_the_output_layer_is_its_own_again_after_each_call() -> None:
    """Also where the model fails half way, and where the layer had another forward before."""
    model = adapted(llama, "all-linear")
    head, loss = model.get_output_embeddings(), SupervisedLoss(model)
    ids, places, targets = scored()
    for before in (None, head.forward):
        if before:
            head.forward = before
        loss(ids, places, targets)
        with pytest.raises(IndexError):
            loss(ids + 1000, places, targets)
        assert vars(head).get("forward") is before
    assert model(input_ids=ids).logits.shape == (3, 20, 300), "and answers are generated as usual"
