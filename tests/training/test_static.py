"""Micro-batches of fixed shapes have the losses and gradients of eager ones, whatever is in them, and one trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from llm_installer.data.batches import Batch, collate, collate_packed
from llm_installer.data.buckets import Bucket, Need, choose_buckets
from llm_installer.data.encoding.row import Row
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.static_batches import StaticBatches
from llm_installer.training.trainer import Trainer
from tests.training.traces import Recorder

LONGEST = 16
SHAPE = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, head_dim=12)),
}


def trainer_of(family: str, plan: Plan, packing: bool = True) -> Trainer:
    torch.manual_seed(0)
    base = FAMILIES[family]()
    for name, parameter in base.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base.requires_grad_(False), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return Trainer(model, dataclasses.replace(plan, packing=packing), pad=0)


def rows(count: int, random: np.random.Generator) -> list[Row]:
    found = []
    for _ in range(count):
        n = int(random.integers(2, LONGEST + 1))
        supervised = random.random(n) < 0.6
        supervised[-1] = True
        found.append(Row(random.integers(1, 97, n), supervised, 0))
    return found


def static_of(trainer: Trainer, buckets: list[Bucket]) -> StaticBatches:
    return StaticBatches(trainer.fast.loss, trainer.packing, buckets, "cpu")


def all_gradients(trainer: Trainer) -> torch.Tensor:
    found = torch.cat([g.flatten() for g in trainer.gradients()])
    for gradient in trainer.gradients():
        gradient.zero_()
    return found


def eager(trainer: Trainer, batch: Batch, supervised: int) -> tuple[float, torch.Tensor]:
    loss = trainer.loss_sum(batch)
    (loss / supervised).backward()
    return float(loss.detach()), all_gradients(trainer)


def fixed(static: StaticBatches, trainer: Trainer, batch: Batch, supervised: int) -> tuple[float, torch.Tensor]:
    static.total.zero_()
    assert static.add_gradients(batch, supervised)
    return float(static.total), all_gradients(trainer)


FEW = [(family, packing, 10) for family in FAMILIES for packing in (True, False) if packing or family == "llama"]
ALL = [pytest.param(family, True, 50, marks=pytest.mark.slow) for family in FAMILIES]


@pytest.mark.parametrize(("family", "packing", "steps"), [*FEW, *ALL])
def test_it_equals_the_eager_step(family: str, packing: bool, steps: int, plan_for: Callable[..., Plan]) -> None:
    """Steps of 1 to 40 documents, those of all sizes in few buckets; the weights change underway."""
    trainer, random = trainer_of(family, plan_for(5), packing), np.random.default_rng(1)
    assert bool(trainer.packing) == packing, trainer.notes
    make = collate_packed if packing else partial(collate, pad=0)
    batches = [make(rows(1 + i * 39 // (steps - 1), random)) for i in range(steps)]
    buckets = choose_buckets([Need.of(batch) for batch in batches], LONGEST)
    static, worst = static_of(trainer, buckets), [0.0, 0.0]
    for batch in batches:
        supervised = len(batch.targets)
        loss, expected = eager(trainer, batch, supervised)
        own, found = fixed(static, trainer, batch, supervised)
        worst[0] = max(worst[0], abs(own - loss) / loss)
        worst[1] = max(worst[1], float((found - expected).norm() / expected.norm()))
        parts = expected.split([p.numel() for p in trainer.trained])
        with torch.no_grad():
            for parameter, change in zip(trainer.trained, parts, strict=True):
                parameter.sub_(change.view_as(parameter), alpha=0.3)
    assert max(worst) < 1e-6, worst


@pytest.mark.parametrize("family", FAMILIES)
def test_two_micro_batches_of_a_bucket_have_one_trace_and_ask_nothing(
    family: str, plan_for: Callable[..., Plan]
) -> None:
    trainer, random = trainer_of(family, plan_for(5)), np.random.default_rng(3)
    static = static_of(trainer, [Bucket(0, 320, 320, 40, LONGEST)])
    fixed(static, trainer, collate_packed(rows(2, random)), 9)
    traces, others = [], []
    for count in (3, 17):
        batch = collate_packed(rows(count, random))
        with Recorder() as recorder:
            fixed_only(static, batch)
        traces.append(recorder)
        with Recorder() as recorder:
            torch.autograd.backward(trainer.loss_sum(batch) / 100)
        others.append(recorder)
    assert len(traces[0].calls) > 200
    assert traces[0].calls == traces[1].calls and traces[0].asked == traces[1].asked == []
    assert others[0].calls != others[1].calls, "eager ones differ, so the comparison sees what there is to see"


def fixed_only(static: StaticBatches, batch: Batch) -> None:
    assert static.add_gradients(batch, 100)


def test_what_no_bucket_holds_is_left_to_the_eager_step(plan_for: Callable[..., Plan]) -> None:
    trainer = trainer_of("llama", plan_for(5))
    static = static_of(trainer, [Bucket(0, 64, 64, 8, LONGEST)])
    assert not static.add_gradients(collate_packed(rows(9, np.random.default_rng(0))), 9)
    assert float(static.total) == 0 and all(p.grad is None or not p.grad.any() for p in trainer.trained)
