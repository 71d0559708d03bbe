"""Attention by blocks of queries: equal to PyTorch's own, as exact, and only where it is plain causal attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.models.llama.modeling_llama import eager_attention_forward

from llm_installer.training.fast.cpu import attention
from llm_installer.training.fast.cpu.attention import KERNEL, NAME, block_causal_attention, refusal
from llm_installer.training.fast.cpu.native.attention import usable
from llm_installer.training.fast.interface import speed_up


def tensors(rows: int, heads: int, groups: int, length: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    made = torch.Generator().manual_seed(length)
    return tuple(  # type: ignore[return-value]
        torch.randn(rows, length, n, width, generator=made).bfloat16().transpose(1, 2).requires_grad_()
        for n in (heads, groups, groups)
    )


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().double() - exact.detach()).norm() / exact.detach().norm())


SHAPES = [(9, 3, 64), (4, 4, 8), (6, 1, 32)]
"""Heads, groups of them, and their width."""


@pytest.mark.parametrize(
    ("heads", "groups", "width", "length"),
    [
        *((*shape, length) for length in (2, 63, 128, 129, 300) for shape in SHAPES),
        *(pytest.param(*shape, 1025, marks=pytest.mark.slow) for shape in SHAPES if shape != (4, 4, 8)),
        (4, 4, 8, 1025),
    ],
)
def test_it_is_as_exact_as_what_transformers_has(heads: int, groups: int, width: int, length: int) -> None:
    rows = 3 if length < 200 else 1
    given = tensors(rows, heads, groups, length, width)
    outer = torch.randn(rows, length, heads, width, generator=torch.Generator().manual_seed(1)).bfloat16()
    module = nn.Module()
    module.num_key_value_groups = heads // groups  # type: ignore[assignment]

    def theirs(kind: torch.dtype, attend: Callable[..., Tensor]) -> list[Tensor]:
        cast = [t.detach().to(kind).requires_grad_() for t in given]
        result = attend(*cast)
        return [result, *torch.autograd.grad(result, cast, outer.to(kind))]

    def by_torch(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True).transpose(1, 2)

    def by_llama(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        above = torch.full((length, length), float("-inf"), dtype=query.dtype).triu_(1)
        return eager_attention_forward(module, query, key, value, above, width**-0.5)[0]

    result, _ = block_causal_attention(module, *given, None, scaling=width**-0.5)
    ours = [result, *torch.autograd.grad(result, given, outer)]
    exact = theirs(torch.float64, by_torch)
    plain, eager = theirs(torch.bfloat16, by_torch), theirs(torch.bfloat16, by_llama)
    assert sum(map(error, ours, exact)) <= 1.15 * max(sum(map(error, p, exact)) for p in (plain, eager))
    assert max(map(error, ours, exact)) < 2e-2


def test_nothing_stays_from_one_call_to_the_next() -> None:
    """The same memory is used again: for longer rows, shorter ones, between a forward pass and its backward pass."""

    def gradients(length: int, between: Callable[[], object]) -> list[Tensor]:
        given = tensors(2, 4, 2, length, 16)
        result, _ = block_causal_attention(nn.Module(), *given, None)
        between()
        return [result.detach(), *torch.autograd.grad(result.float().square().sum(), given)]

    plain = gradients(150, lambda: None)
    again = gradients(150, lambda: (gradients(300, lambda: None), gradients(7, lambda: None)))
    assert all(map(torch.equal, plain, again))


def test_a_token_sees_nothing_that_comes_after_it() -> None:
    query, key, value = (t.detach() for t in tensors(1, 2, 1, 200, 16))
    before, _ = block_causal_attention(nn.Module(), query, key, value, None)
    key[:, :, 150:] += 3
    value[:, :, 150:] += 3
    after, _ = block_causal_attention(nn.Module(), query, key, value, None)
    assert torch.equal(before[:, :150], after[:, :150])
    assert not torch.equal(before[:, 150:], after[:, 150:])


@pytest.mark.parametrize(
    "change",
    [
        {"mask": torch.ones(1, 1, 20, 20, dtype=torch.bool)},
        {"is_causal": False},
        {"dropout": 0.5},
        {"dtype": torch.float32},
        {"queries": 1},
    ],
    ids=str,
)
def test_all_else_is_left_to_pytorch(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *a, **k: asked.append(k) or (a[1], None))
    query, key, value = (t.detach().to(change.get("dtype", t.dtype)) for t in tensors(1, 2, 2, 20, 16))
    rest = {k: v for k, v in change.items() if k in ("is_causal", "dropout")}
    block_causal_attention(
        nn.Module(), query[:, :, -change.get("queries", 20) :], key, value, change.get("mask"), **rest
    )
    assert len(asked) == 1


def adapted(kind: Any, config: Any, dtype: torch.dtype = torch.bfloat16) -> Any:
    torch.manual_seed(0)
    base = kind(config).to(dtype)
    return get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64,
}  # fmt: skip


KINDS = pytest.mark.parametrize(
    ("kernels", "name", "said"),
    [
        (False, NAME, "attention by blocks of queries"),
        pytest.param(True, KERNEL, "C kernels for attention", marks=pytest.mark.skipif(not usable(), reason="no C")),
    ],
)


@KINDS
def test_it_is_set_and_said(kernels: bool, name: str, said: str) -> None:
    model = adapted(LlamaForCausalLM, LlamaConfig(**SIZES))
    ids = torch.arange(60).view(1, 60)
    plain = model(ids).logits.float()
    assert said in speed_up(model, kernels=kernels)
    assert model.config._attn_implementation == name
    assert (model(ids).logits.float() - plain).norm() < 2e-2 * plain.norm()


@KINDS
def test_a_sliding_window_still_slides(kernels: bool, name: str, said: str) -> None:
    model = adapted(MistralForCausalLM, MistralConfig(**SIZES, sliding_window=8))
    ids = torch.arange(60).view(1, 60)
    plain = model(ids).logits.float()
    speed_up(model, kernels=kernels)
    assert model.config._attn_implementation == name
    assert (model(ids).logits.float() - plain).norm() < 2e-2 * plain.norm()
    other = ids.clone()
    other[0, 0] = 7
    assert torch.equal(model(other).logits[0, 40], model(ids).logits[0, 40])  # two layers reach 16 tokens back


def test_generation_gives_the_same_words() -> None:
    model = adapted(LlamaForCausalLM, LlamaConfig(**SIZES)).eval()
    ids = torch.arange(5).view(1, 5)
    plain = model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    speed_up(model)
    assert torch.equal(model.generate(input_ids=ids, max_new_tokens=4, do_sample=False), plain)


@pytest.mark.parametrize(
    ("device", "dtype", "chosen", "free", "why"),
    [
        ("cpu", torch.bfloat16, "sdpa", True, ""),
        ("cuda", torch.bfloat16, "sdpa", True, "blocks of queries are for CPUs"),
        ("cpu", torch.float32, "sdpa", True, "it is as fast in float32"),
        ("cpu", torch.bfloat16, "eager", True, "this family chooses its attention itself"),
        ("cpu", torch.bfloat16, "sdpa", False, "this family chooses its attention itself"),
    ],
)
def test_where_it_is_set(device: str, dtype: torch.dtype, chosen: str, free: bool, why: str) -> None:
    assert refusal(device, dtype, chosen, free) == why
