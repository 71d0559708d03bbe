"""Packed rows have the losses and gradients of padded ones, and none sees another."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AttentionInterface,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from llm_installer.core.hardware import GIB, Hardware
from llm_installer.data.encoding.row import Row
from llm_installer.planning.packing import choose_packing
from llm_installer.planning.plan import Plan
from llm_installer.training.fast import document_attention, packed_rows
from llm_installer.training.fast.cuda import varlen
from llm_installer.training.fast.cuda.varlen import by_signature
from llm_installer.training.fast.document_attention import (
    FLASH,
    FLEX,
    NAME,
    VARLEN,
    Documents,
    Machine,
    attend,
    kinds,
    refusal,
)
from llm_installer.training.trainer import Trainer

SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, head_dim=8)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0,
                   attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    ),
}  # fmt: skip
LENGTHS = (7, 12, 5, 9, 3)


def rows() -> list[Row]:
    random = np.random.default_rng(3)
    return [Row(random.integers(1, 64, n), random.random(n) < 0.7, 0) for n in LENGTHS]


def trainer_of(family: str, plan: Plan, packing: bool, checkpointed: int = 0, fast: bool = True) -> Trainer:
    torch.manual_seed(5)
    config = LoraConfig(
        r=4,
        init_lora_weights=False,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        fan_in_fan_out=family == "gpt2",
    )
    plan = dataclasses.replace(
        plan, packing=packing, micro_batch_tokens=24, checkpointed_layers=checkpointed, fast=fast
    )
    model = get_peft_model(FAMILIES[family]().requires_grad_(False), config)
    return Trainer(model, plan, pad=0)


def step_of(trainer: Trainer, train: bool) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of all rows in parts."""
    data = rows()
    lengths = np.array(LENGTHS)
    trainer.model.train(train)
    total = 0.0
    for batch in trainer.micro_batches(data, lengths, np.arange(len(data))):
        loss = trainer.loss_sum(batch)
        loss.backward()
        total += float(loss.detach())
    return total, {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded(family: str, train: bool, plan_for: Callable[..., Plan]) -> None:
    """Against the plain path, which pads whatever the plan says."""
    packed, padded = (trainer_of(family, plan_for(5), True, fast=fast) for fast in (True, False))
    assert packed.packing == NAME, packed.notes
    assert not padded.packing
    (loss, found), (expected_loss, expected) = step_of(packed, train), step_of(padded, train)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert found.keys() == expected.keys()
    assert found
    whole = math.hypot(*(float(gradient.norm()) for gradient in expected.values()))
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6 * whole, name


def test_checkpointed_layers_see_the_same_borders(plan_for: Callable[..., Plan]) -> None:
    twice, once = (step_of(trainer_of("llama", plan_for(5), True, layers), True) for layers in (2, 0))
    assert twice[0] == once[0]
    assert all(torch.allclose(twice[1][n], g, atol=1e-6) for n, g in once[1].items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_document_changes_no_other(family: str, plan_for: Callable[..., Plan]) -> None:
    trainer = trainer_of(family, plan_for(5), True)
    data = [Row(r.ids, np.ones(len(r.ids), dtype=np.bool_), 0) for r in rows()[:3]]
    changed = [data[0], Row((np.asarray(data[1].ids) + 9) % 64, data[1].supervised, 0), data[2]]
    trainer.model.eval()
    with torch.no_grad():
        before, after = (trainer.loss_sum(trainer.batch(d, np.arange(3)), "none") for d in (data, changed))
    others = np.r_[0:6, 17:21]
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[6:17], after[6:17])


def test_evaluation_is_that_of_padded_rows(plan_for: Callable[..., Plan]) -> None:
    packed, padded = (trainer_of("llama", plan_for(5), on) for on in (True, False))
    losses = []
    for trainer in (packed, padded):
        losses.append(trainer.evaluate(rows()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_model_that_mixes_documents_is_found_out(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without position ids the second document would stand at other places than alone."""
    own = GPT2LMHeadModel.forward

    def forward(self, input_ids=None, position_ids=None, **more):
        return own(self, input_ids, **more)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)
    trainer = trainer_of("gpt2", plan_for(5), True)
    assert not trainer.packing
    assert trainer.notes[-1].startswith("not packed: this model does not compute")
    assert trainer.model.get_base_model().config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("config", "noise", "why"),
    [
        (MambaConfig(), False, "carries a state"),
        (MistralConfig(sliding_window=128), False, "through a window"),
        (MistralConfig(sliding_window=None), False, ""),
        (LlamaConfig(), True, "NEFTune"),
        (LlamaConfig(), False, ""),
    ],
)
def test_what_cannot_be_packed_is_refused_in_a_sentence(config, noise: bool, why: str) -> None:
    said = refusal(config, noise)
    assert why in said
    assert bool(said) == bool(why)


ALL = {"flash": True, "varlen": True, "triton": True}


@pytest.mark.parametrize(
    ("machine", "size", "expected"),
    [
        (Machine("cuda", "bfloat16", (9, 0), **ALL), 128, [FLASH, VARLEN, FLEX]),
        (Machine("cuda", "bfloat16", (9, 0), **{**ALL, "varlen": False}), 128, [FLASH, FLEX]),
        (Machine("cuda", "bfloat16", (9, 0), **ALL), 512, [FLEX]),
        (Machine("cuda", "bfloat16", (9, 0), **ALL), 100, [FLEX]),
        (Machine("cuda", "float32", (9, 0), **ALL), 64, [FLEX]),
        (Machine("cuda", "float16", (7, 5), **ALL), 64, [FLEX]),
        (Machine("cuda", "float16", (7, 5), **{**ALL, "triton": False}), 64, [NAME]),
        (Machine("cuda", "float16", (8, 6), True), 64, [FLASH, NAME]),
        (Machine("cpu", "float32"), 64, [NAME]),
    ],
)
def test_the_kinds_of_attention_that_are_tried(machine: Machine, size: int, expected: list[str]) -> None:
    assert [kind for kind, _ in kinds(machine, size)] == expected


@pytest.mark.parametrize(
    ("device", "bf16", "precision", "noise", "vision", "on"),
    [
        ("cuda", True, "bfloat16", False, False, True),
        ("cuda", True, "float32", False, False, False),
        ("cuda", False, "float16", False, False, False),
        ("cuda", True, "bfloat16", True, False, False),
        ("cuda", True, "bfloat16", False, True, False),
        ("cpu", True, "bfloat16", False, False, False),
    ],
)
def test_the_default(device: str, bf16: bool, precision: str, noise: bool, vision: bool, on: bool) -> None:
    hardware = Hardware(device, "a device", 1, 8 * GIB, 8 * GIB, bf16, 2)
    assert choose_packing(hardware, SimpleNamespace(vision=vision), precision, noise)[0] is on


def test_fewer_key_heads_are_shared_as_in_one_document() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    whole, _ = attend(None, q, k, v, None, scaling=0.3, packed=Documents.of((4, 5), "cpu"))
    last, _ = attend(None, q[:, :, 4:], k[:, :, 4:], v[:, :, 4:], None, scaling=0.3, packed=Documents.of((5,), "cpu"))
    assert torch.allclose(whole[:, 4:], last, atol=1e-6)
    assert whole.shape == (1, 9, 4, 8)


def test_padded_prompts_are_masked_as_before(plan_for: Callable[..., Plan]) -> None:
    """Answers are generated by the same model: its own masks must still count."""
    packed, padded = (trainer_of("llama", plan_for(5), on).model.eval() for on in (True, False))
    ids = torch.tensor([[0, 0, 5, 6, 7], [9, 8, 7, 6, 5]])
    seen = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    given = {"input_ids": ids, "attention_mask": seen, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        expected = padded(input_ids=ids, attention_mask=seen).logits
        assert torch.equal(packed(input_ids=ids, attention_mask=seen).logits, expected)
    assert torch.equal(packed.generate(**given), padded.generate(**given))


def own_varlen(query: Any, key: Any, value: Any, bounds: Any, scale: float | None, causal: bool) -> torch.Tensor:
    """Documents of [tokens, heads, size], one at a time, as torch's kernel computes them."""
    assert causal and query.shape[1] == key.shape[1], "Hq != Hkv is refused"
    q, k, v = (t.transpose(0, 1).unsqueeze(0) for t in (query, key, value))
    given = Documents(bounds, 0, tuple(bounds.diff().tolist()))
    return attend(None, q, k, v, None, scaling=scale, packed=given)[0].squeeze(0)


def varlen_2_10(q, k, v, a, b, longest, most, is_causal=False, return_aux=None):
    return own_varlen(q, k, v, a, None, is_causal)


def varlen_2_11(q, k, v, a, b, longest, most, *, return_aux=None, scale=None, window_size=(-1, -1)):
    return own_varlen(q, k, v, a, scale, window_size == (-1, 0))


def varlen_2_12(q, k, v, a, b, longest, most, *, return_aux=None, scale=None, window_size=(-1, -1), enable_gqa=False):
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) if enable_gqa else t for t in (k, v))
    return own_varlen(q, k, v, a, scale, window_size == (-1, 0))


@pytest.mark.parametrize("version", [varlen_2_10, varlen_2_11, varlen_2_12])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("key_heads", [2, 4])
def test_varlen_is_called_by_the_signature_that_is_there(version: Any, scale: float | None, key_heads: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(9, 4, 8), torch.randn(9, key_heads, 8), torch.randn(9, key_heads, 8)
    bounds = torch.tensor([0, 4, 9], dtype=torch.int32)
    found = by_signature(version, inspect.signature(version).parameters)(q, k, v, bounds, 5, scale)
    rows = [t.transpose(0, 1).unsqueeze(0) for t in (q, k, v)]
    expected = attend(None, *rows, None, scaling=scale, packed=Documents.of((4, 5), "cpu"))[0].squeeze(0)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_operator_takes_fewer_key_heads_and_has_a_gradient() -> None:
    """On tensors without numbers: its kernel is for CUDA alone."""
    make = partial(torch.empty, device="meta", dtype=torch.bfloat16, requires_grad=True)
    q, k = make(9, 4, 16), make(9, 2, 16)
    out = varlen.flash(q, k, k, torch.empty(3, device="meta", dtype=torch.int32), 5, 0.3)
    assert out.shape == q.shape and out.requires_grad and varlen.has_flash()


def trainer_with(way: Any, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """One whose attention for documents is another's."""
    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, way)
    return trainer_of("llama", plan, True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TypeError("varlen_attn() got an unexpected keyword argument"), "LLM Installer makes a mistake with this"),
        (RuntimeError("no kernel image\nat all"), "attention for documents failed (no kernel image)"),
    ],
)
def test_why_packing_is_refused_is_said_truly(
    error: Exception, says: str, plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = str(Path(document_attention.__file__))
    space: dict[str, Any] = {"error": error}
    exec(compile("def call(*_given):\n    raise error", ours, "exec"), space)
    trainer = trainer_with(document_attention._by_operator(space["call"]), plan_for(5), monkeypatch)
    assert not trainer.packing and says in trainer.notes[-1], trainer.notes
    assert trainer.model.get_base_model().config._attn_implementation == "sdpa"


class Breaks(torch.autograd.Function):
    """An operation of which only the gradient fails."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel image")


def test_a_kind_whose_gradient_fails_half_way_leaves_nothing_to_the_next(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def way(module: Any, *given: Any, **more: Any) -> Any:
        out, nothing = document_attention.attend(module, *given, **more)
        return (out if module.layer_idx else Breaks.apply(out)), nothing

    monkeypatch.setitem(AttentionInterface._global_mapping, document_attention.VARLEN, way)
    monkeypatch.setattr(packed_rows, "kinds", lambda *_: [(document_attention.VARLEN, "one"), (NAME, "another")])
    trainer = trainer_of("llama", plan_for(5), True)
    assert trainer.packing == NAME, trainer.notes


def test_a_family_that_takes_no_such_argument_is_named_and_not_us(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = LlamaForCausalLM.forward

    def forward(self, input_ids=None, use_cache=None, attention_mask=None, **more):
        if "packed" in more:
            raise TypeError("forward() got an unexpected keyword argument 'packed'")
        return own(self, input_ids, **more)

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    trainer = trainer_of("llama", plan_for(5), True)
    assert "this model takes no packed documents (" in trainer.notes[-1] and "'packed'" in trainer.notes[-1]


@pytest.mark.parametrize(("lengths", "documents"), [((8, 8, 8, 8), 0), ((8, 3, 9, 4), 4)])
def test_rows_of_one_length_stay_rows_where_those_are_faster(
    lengths: tuple[int, ...], documents: int, plan_for: Callable[..., Plan]
) -> None:
    rows = [Row(np.arange(1, n + 1), np.ones(n, dtype=np.bool_), 0) for n in lengths]
    trainer = trainer_of("llama", plan_for(4), True)
    trainer.plan = dataclasses.replace(trainer.plan, micro_batch_tokens=64)
    packed = trainer.evaluate(rows)
    trainer.fast.keeps_rows = True
    (batch,) = trainer.micro_batches(rows, np.array(lengths), np.arange(4))
    assert len(batch.documents) == documents and batch.ids.shape == ((1, 24) if documents else (4, 8))
    assert trainer.evaluate(rows) == pytest.approx(packed, rel=1e-5)
