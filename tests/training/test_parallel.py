"""Parallel micro-batches: the same gradient as one after the other, the same each time, and nothing blurred."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from llm_installer.data.batches import Batch, collate
from llm_installer.data.encoding.row import Row
from llm_installer.planning.method import Method
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.cpu import parallel
from llm_installer.training.fast.cpu.native.attention import usable
from llm_installer.training.fast.cpu.precision import OtherProducts, by_way_of_bfloat16, exactly
from llm_installer.training.fast.interface import make_parallel, speed_up
from llm_installer.training.fast.loss import SupervisedLoss
from llm_installer.training.trainer import Trainer, row_lengths


def tiny(dtype: torch.dtype = torch.bfloat16) -> PeftModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype).requires_grad_(False)
    model.config.use_cache = False
    adapted = get_peft_model(model, LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear"))
    assert isinstance(adapted, PeftModel)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted.train()


def some_batches() -> list[Batch]:
    random = np.random.default_rng(0)

    def row(index: int, length: int) -> Row:
        return Row(random.integers(1, 200, length).astype(np.int32), np.arange(length) > length // 3, index)

    lengths = ((40, 37), (150,), (33, 30, 30), (9,), (64, 60))
    return [collate([row(i, n) for i, n in enumerate(part)], 0) for part in lengths]


def made(model: PeftModel) -> parallel.ParallelMicroBatches:
    models = [model, parallel.replica(model)]
    speed_up(model)
    found, note = make_parallel(models, SupervisedLoss(model), compiling=False)
    assert found, note
    return found


def gradient(model: PeftModel) -> Tensor:
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return flat


def one_by_one(model: PeftModel, batches: list[Batch]) -> tuple[float, Tensor]:
    loss_sum, total = SupervisedLoss(model), 0.0
    for b in batches:
        ids, positions, targets = (torch.from_numpy(a) for a in (b.ids, b.positions, b.targets))
        loss = loss_sum(ids, positions, targets)
        (loss / 50).backward()
        total += float(loss.detach())
    return total, gradient(model)


@pytest.mark.parametrize(("dtype", "near"), [(torch.bfloat16, 3e-3), (torch.float32, 1e-5)])
def test_the_gradient_is_that_of_one_after_the_other_before_and_after_a_step(dtype: torch.dtype, near: float) -> None:
    model = tiny(dtype)
    together, batches = made(model), some_batches()
    for _ in range(2):
        loss = float(together.add_gradients(batches, 50))
        own = gradient(model)
        expected, plain = one_by_one(model, batches)
        assert loss == pytest.approx(expected, rel=near / 3)
        assert float((own - plain).norm()) <= near * float(plain.norm())
        assert all(p.grad is None for p in together.models[1].parameters())
        with torch.no_grad():  # what an optimizer does: in place
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1.7)


def test_it_is_the_same_each_time_to_the_last_bit() -> None:
    model = tiny()
    together, batches = made(model), some_batches()
    found = []
    for _ in range(4):
        loss = together.add_gradients(batches, 50)
        found.append(torch.cat([loss.view(1), gradient(model)]))
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_a_replica_has_the_same_weights_and_a_gradient_of_its_own() -> None:
    model = tiny()
    other = parallel.replica(model)
    for own, its in zip(model.parameters(), other.parameters(), strict=True):
        assert own.data_ptr() == its.data_ptr() and own.requires_grad == its.requires_grad
        assert (own is its) != own.requires_grad
        if own.requires_grad:
            with torch.no_grad():
                own.add_(1)
            assert own._version == its._version, "or copies of it would not be made anew"
    assert {id(m) for m in model.modules()}.isdisjoint(id(m) for m in other.modules())


def test_an_error_in_one_replica_is_raised_when_all_have_stopped_and_leaves_nothing() -> None:
    model = tiny()
    together, batches = made(model), some_batches()
    own = together.losses[1]
    calls: list[int] = []

    def refuse(*given: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("not enough memory")
        return own(*given)

    together.losses[1] = refuse
    with pytest.raises(RuntimeError, match="not enough memory"):
        together.add_gradients(batches, 50)
    assert all(p.grad is None for p in together.models[1].parameters())
    model.zero_grad()
    together.add_gradients(batches, 50)
    own_gradient, plain = gradient(model), one_by_one(model, batches)[1]
    assert float((own_gradient - plain).norm()) <= 3e-3 * float(plain.norm())


def test_rows_are_dealt_evenly_each_once() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(5, 400, 64)
    chosen = random.choice(64, 16, replace=False)
    parts = parallel.split_padded(lengths, chosen, 800, 16)
    assert sorted(np.concatenate(parts)) == sorted(chosen)
    assert all(len(p) * lengths[p].max() <= 400 or len(p) == 1 for p in parts)
    sizes = [int(lengths[p].max()) * len(p) for p in parts]
    shares = [sum(sizes[i] for i in mine) for mine in parallel.shares(sizes, parallel.COUNT)]
    assert max(shares) <= 1.15 * min(shares)


def test_a_long_row_among_short_ones_has_a_replica_of_its_own() -> None:
    lengths = np.array([300, 80, 75, 70, 70])
    parts = parallel.split_padded(lengths, np.arange(5), 800, 16)
    assert [sorted(part) for part in parts] == [[0], [1, 2, 3, 4]]
    assert [len(parallel.split_padded(lengths[:n], np.arange(n), 40, 16)) for n in (1, 2, 5)] == [1, 2, 5]


def test_packed_rows_are_dealt_evenly_each_once_and_none_is_cut() -> None:
    random = np.random.default_rng(0)
    for tokens, most in ((800, 16), (300, 2), (10_000, 16), (10, 16)):
        lengths = random.integers(5, 400, 64)
        chosen = random.choice(64, 16, replace=False)
        parts = parallel.split_packed(lengths, chosen, tokens, most)
        assert sorted(np.concatenate(parts)) == sorted(chosen)
        assert all(len(p) == 1 or (lengths[p].sum() <= tokens // 2 and len(p) <= most) for p in parts)
        sizes = [int(lengths[p].sum()) for p in parts]
        shares = [sum(sizes[i] for i in mine) for mine in parallel.shares(sizes, parallel.COUNT)]
        assert max(shares) <= 1.15 * min(shares)
    assert len(parallel.split_packed(lengths, chosen[:1], 800, 16)) == 1


@pytest.mark.parametrize("kernels", [False, pytest.param(True, marks=pytest.mark.skipif(not usable(), reason="no C"))])
def test_parallel_packed_rows_have_the_gradient_of_padded_ones(
    plan_for: Callable[..., Plan], kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    torch.set_num_threads(2)
    random = np.random.default_rng(0)
    rows = [
        Row(random.integers(1, 200, n).astype(np.int32), np.arange(n) > n // 3, i)
        for i, n in enumerate((150, 9, 64, 60, 33, 30, 30, 90))
    ]
    found, order = [], np.arange(len(rows))
    try:
        for packing in (False, True):
            changed = {**BFLOAT16, "packing": packing, "kernels": kernels, "micro_batch_tokens": 400}
            trainer = Trainer(tiny(), dataclasses.replace(plan_for(16), **changed), pad=0)
            assert trainer.fast.parallel and bool(trainer.packing) == packing
            batches = trainer.micro_batches(rows, row_lengths(rows), order)
            assert all(bool(b.documents) == packing for b in batches)
            loss = float(trainer.add_gradients(batches, 50))
            found.append((loss, gradient(trainer.model), trainer.evaluate(rows)))
    finally:
        torch.set_num_threads(1)
    (loss, plain, measured), (packed_loss, packed, packed_measured) = found
    assert packed_loss == pytest.approx(loss, rel=1e-3) and packed_measured == pytest.approx(measured, rel=1e-3)
    assert float((packed - plain).norm()) <= 2e-2 * float(plain.norm())


BFLOAT16 = {"precision": "bfloat16", "packing": False, "checkpointed_layers": 0, "lora_dropout": 0.0}


@pytest.mark.parametrize(
    ("changed", "images", "sharded", "why"),
    [
        ({}, False, False, ""),
        ({"precision": "float32"}, False, False, "so small"),
        ({"precision": "float16"}, False, False, "only on CPUs"),
        ({"device": "cuda"}, False, False, "only on CPUs, in bfloat16 or float32"),
        ({"method": Method(neftune_noise_alpha=5.0)}, False, False, "random"),
        ({"checkpointed_layers": 1}, False, False, "memory is short"),
        ({"method": Method(quantised="nf4")}, False, False, "quantised"),
        ({"packing": True}, False, False, ""),
        ({}, True, False, "images"),
        ({}, False, True, "several processes"),
    ],
)
def test_what_goes_one_after_the_other(
    plan_for: Callable[..., Plan], changed: dict[str, Any], images: bool, sharded: bool, why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    plan = dataclasses.replace(plan_for(16), **{**BFLOAT16, **changed})
    found = parallel.refusal(tiny(), plan, images, sharded)
    assert (why in found) if why else not found


@pytest.mark.parametrize("more", [-1, 0])
def test_the_smallest_model_in_float32_that_has_two_at_once(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    plan = dataclasses.replace(plan_for(16), **{**BFLOAT16, "precision": "float32"})
    model = nn.Linear(parallel.LEAST_WEIGHTS + more, 1, bias=False, device="meta")
    assert bool(parallel.refusal(model, plan, images=False, sharded=False)) == (more < 0)


def test_dropout_anywhere_is_seen() -> None:
    plain = LlamaForCausalLM(LlamaConfig(**SMALL))
    assert not parallel.drops(plain)
    assert parallel.drops(LlamaForCausalLM(LlamaConfig(**SMALL, attention_dropout=0.1)))
    assert parallel.drops(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=8)))
    assert parallel.drops(get_peft_model(plain, LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj"])))


SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "pad_token_id": 0,
}  # fmt: skip


class Router(nn.Module):
    """Multiplies in float32, as routers of experts do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        return result + (x.float() @ torch.ones(x.shape[-1], 1)).to(x.dtype) * 0


def test_a_model_that_multiplies_in_float32_elsewhere_goes_one_after_the_other() -> None:
    model = tiny()
    layer: Any = model.get_base_model().model.layers[1]
    layer.mlp = Router(layer.mlp)
    models = [model, parallel.replica(model)]
    speed_up(model)
    found, note = make_parallel(models, SupervisedLoss(model), compiling=False)
    assert found is None and "float32" in note


def test_exact_products_wait_for_the_others_and_the_others_for_them() -> None:
    setting: Any = torch.backends.mkldnn.matmul
    before, inside, leave, seen = setting.fp32_precision, threading.Event(), threading.Event(), []

    def blurred() -> None:
        with by_way_of_bfloat16():
            seen.append(setting.fp32_precision)
            inside.set()
            leave.wait(10)
            seen.append("left")

    other = threading.Thread(target=blurred)
    other.start()
    assert inside.wait(10)
    waiting = threading.Thread(target=exactly(lambda: seen.append(setting.fp32_precision)))
    waiting.start()
    with by_way_of_bfloat16():  # a second one need not wait
        pass
    assert setting.fp32_precision == "bf16", "the first is still inside"
    leave.set()
    for thread in (other, waiting):
        thread.join(10)
    assert seen == ["bf16", "left", before]
    assert setting.fp32_precision == before


def test_products_of_float32_are_seen_outside_only() -> None:
    x = torch.ones(3, 3)
    with OtherProducts() as watched:
        with by_way_of_bfloat16():
            x @ x
        exactly(lambda: x @ x)()
        x.bfloat16() @ x.bfloat16()
        assert not watched.found
        x @ x
    assert watched.found
