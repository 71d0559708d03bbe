"""Adapters as views of one tensor: not a bit of a run differs, and files are the same."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.method import Method
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import adapter_weights, load_weights
from llm_installer.training.fast.flat import ALIGNED, FlatAdapters, flatten
from llm_installer.training.fast.interface import flat_adapters
from llm_installer.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
Make = Callable[..., Trainer]
WAYS: dict[str, dict[str, Any]] = {
    "fused": {},
    "separate kernels, clipped each step": {"method": Method(optimizer="adamw_torch"), "max_grad_norm": 0.05},
    "two rates, an odd rank": {"method": Method(loraplus_ratio=4.0), "lora_r": 5},
    "sgd, patterns": {
        "method": Method(optimizer="sgd", rank_pattern=(("q_proj", 3),), alpha_pattern=(("v_proj", 3.0),), rslora=True),
        "learning_rate": 2e-2,
    },
    "dora, each by itself": {"method": Method(optimizer="adafactor", dora=True)},
}


@pytest.fixture
def make(tiny_llama: Path, plan_for: Callable[..., Plan]) -> Make:
    def made(**changed: Any) -> Trainer:
        plan = plan_for(24, target_modules=("q_proj", "k_proj", "v_proj", "down_proj"), **changed)
        return Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)

    return made


def learn(trainer: Trainer, rows: list[Any], first: int, last: int) -> list[tuple[float, float]]:
    """Losses and norms of steps of two micro-batches."""
    found = []
    for step in range(first, last):
        chosen = (np.arange(6) + 6 * step) % len(rows)
        batches = [trainer.batch(rows, chosen[:3]), trainer.batch(rows, chosen[3:])]
        found.append(trainer.step(batches, trainer.plan.learning_rate)[:2])
    return found


def saved(trainer: Trainer) -> dict[str, Any]:
    """The optimizer's part of a checkpoint, written and read."""
    file = io.BytesIO()
    torch.save(trainer.optimizer_state(), file)
    file.seek(0)
    read: dict[str, Any] = torch.load(file, weights_only=True)
    return read


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("way", WAYS)
def test_every_loss_norm_and_weight_is_that_of_separate_tensors(make: Make, make_rows: Callable, way: str) -> None:
    rows, flat, apart = make_rows(24), make(**WAYS[way]), make(**WAYS[way])
    apart.keep_apart()
    assert learn(flat, rows, 0, 5) == learn(apart, rows, 0, 5)
    weights, expected = adapter_weights(flat.model), adapter_weights(apart.model)
    assert same(weights, expected)
    assert same(saved(flat), saved(apart)), "a checkpoint is the same file"
    one = way != "dora, each by itself"
    assert (len(flat.bare_optimizer.state) < 3) is one, "and the optimizer has one tensor, or two"


@pytest.mark.slow
def test_fifty_steps_are_those_of_separate_tensors(make: Make, make_rows: Callable) -> None:
    rows, flat, apart = make_rows(24), make(), make()
    apart.keep_apart()
    assert learn(flat, rows, 0, 50) == learn(apart, rows, 0, 50)
    assert same(adapter_weights(flat.model), adapter_weights(apart.model))


def test_a_run_goes_on_whichever_way_its_checkpoint_was_written(make: Make, make_rows: Callable) -> None:
    changed, rows = {"method": Method(loraplus_ratio=4.0)}, make_rows(24)
    whole = learn(make(**changed), rows, 0, 6)
    for writer_apart, reader_apart in ((True, False), (False, True)):
        writer, reader = make(**changed), make(**changed)
        for trainer, apart in ((writer, writer_apart), (reader, reader_apart)):
            if apart:
                trainer.keep_apart()
        assert learn(writer, rows, 0, 3) == whole[:3]
        load_weights(reader.model, adapter_weights(writer.model))
        reader.weights_changed()
        reader.set_optimizer_state(saved(writer))
        assert learn(reader, rows, 3, 6) == whole[3:]


def test_what_took_different_steps_goes_on_by_itself(make: Make, make_rows: Callable) -> None:
    rows, writer, reader = make_rows(24), make(), make()
    learn(writer, rows, 0, 2)
    state = saved(writer)
    del state["optimizer"]["state"][3]
    reader.set_optimizer_state(state)
    assert len(reader.bare_optimizer.state) == len(reader.trained) - 1
    before = [p.detach().clone() for p in reader.trained]
    learn(reader, rows, 0, 1)
    assert not any(torch.equal(a, b) for a, b in zip(before, reader.trained, strict=True))


def test_weights_gradients_and_copies_never_move(make: Make, make_rows: Callable) -> None:
    """Whatever a captured graph would rely on: through steps, evaluations, and weights that are put back."""
    trainer, rows = make(), make_rows(24)
    assert trainer.flat
    flat = trainer.flat.flat
    names = [n.replace("lora_A", "lora_B") for n in flat.parts if "lora_A" in n]

    def places() -> list[int]:
        parts = [t.data_ptr() for p in flat.parts.values() for t in (p.parameter, p.parameter.grad, p.gradient)]
        return parts + [flat.up(name).data_ptr() for name in names]

    before, first = places(), adapter_weights(trainer.model)
    learn(trainer, rows, 0, 2)
    trainer.evaluate(rows[:4])
    load_weights(trainer.model, first)
    trainer.weights_changed()
    trainer.zero_grad()
    assert places() == before and not flat.gradients.any()
    for name in names:
        scale = trainer.plan.lora_alpha / trainer.plan.lora_r
        assert torch.equal(flat.up(name), flat.parts[name].parameter.detach() * scale)


def test_gradients_that_somebody_takes_away_or_replaces_come_back(make: Make, make_rows: Callable) -> None:
    rows, trainer, other = make_rows(24), make(), make()
    assert trainer.flat
    trainer.model.zero_grad()  # as a script of one's own might
    assert learn(trainer, rows, 0, 2) == learn(other, rows, 0, 2)
    part = next(iter(trainer.flat.flat.parts.values()))
    part.parameter.grad = torch.full_like(part.parameter, 2.0)
    trainer.flat.flat.collect()
    assert part.parameter.grad is part.gradient and bool((trainer.flat.flat.gradients[part.span] == 2).all())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]), st.integers(1, 9)),
             min_size=1, max_size=5, unique_by=lambda each: each[0]),
    st.integers(1, 70), st.booleans(),
)  # fmt: skip
def test_any_shapes_lie_side_by_side(layers: list[tuple[str, int]], width: int, narrow: bool) -> None:
    random = torch.Generator().manual_seed(0)
    trained = []
    for name, rank in layers:
        for factor, shape in (("A", (rank, width)), ("B", (width + 1, rank))):
            trained.append(
                (f"m.{name}.lora_{factor}.default.weight", nn.Parameter(torch.randn(shape, generator=random)))
            )
    expected = {name: p.detach().clone() for name, p in trained}
    scales = {name: float(i + 1) for i, (name, _) in enumerate(trained) if "lora_B" in name}
    dtype = torch.bfloat16 if narrow else torch.float32
    flat = FlatAdapters(trained, scales, dtype)
    for name, parameter in trained:
        assert torch.equal(parameter, expected[name])
        if "lora_B" in name:
            assert torch.equal(flat.up(name), (expected[name] * scales[name]).to(dtype))
            assert flat.parts[name].span.start % ALIGNED == 0
    for group in flat.neighbours([f"m.{name}" for name, _ in layers]):
        names = [f"{each}.lora_A.default.weight" for each in group]
        assert torch.equal(flat.down(names), torch.cat([expected[name] for name in names]).to(dtype))
    spans = sorted((p.span.start, p.span.stop) for p in flat.parts.values())
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert flat.middle <= min(p.span.start for n, p in flat.parts.items() if "lora_B" in n)


def tiny(**changed: Any) -> PeftModel:
    shape = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    base = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2)).requires_grad_(False)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **changed))
    assert isinstance(adapted, PeftModel)
    return adapted


@pytest.mark.parametrize("changed", [{"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [3, 5]}], ids=str)
def test_what_is_no_lora_stays_by_itself(plan_for: Callable[..., Plan], changed: dict[str, Any]) -> None:
    model = tiny(**changed)
    flat = flat_adapters(model, plan_for(8))
    assert flat and set(flat.flat.parts) == {n for n, p in model.named_parameters() if p.requires_grad and "lora_" in n}
    rest = [p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n]
    group: dict[str, Any] = {"params": [p for p in model.parameters() if p.requires_grad]}
    flat.take([group], elementwise=True)
    assert rest and {id(p) for p in group["params"]} == {id(flat.leaves[0]), *map(id, rest)}
    for parameter in rest:
        parameter.grad = torch.ones_like(parameter)
    held = [p.grad for p in rest]
    flat.zero_grad(in_place=True)
    assert all(p.grad is g and not g.any() for p, g in zip(rest, held, strict=True)), "where a recording finds them"
    flat.zero_grad()
    assert all(p.grad is None for p in rest)


def test_with_the_switch_off_adapters_are_left_alone(plan_for: Callable[..., Plan]) -> None:
    model = tiny()
    places = [p.data_ptr() for p in model.parameters()]
    assert flat_adapters(model, plan_for(8, fast=False)) is None
    assert flat_adapters(model, plan_for(8), sharded=True) is None
    assert [p.data_ptr() for p in model.parameters()] == places


def test_an_expert_that_no_token_reaches_is_not_moved(plan_for: Callable[..., Plan]) -> None:
    shape = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    base = MixtralForCausalLM(MixtralConfig(**shape, num_attention_heads=2, num_key_value_heads=1, num_local_experts=4))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], target_parameters=["experts.down_proj"]))
    flat = flat_adapters(model, plan_for(8))
    assert flat and "expert" in flat.reason and not flat.flat.attached


def test_adapters_of_several_types_stay_where_they_are() -> None:
    model = tiny()
    model.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight").data = torch.zeros(
        2, 16, dtype=torch.bfloat16
    )
    assert flatten(model) is None
