"""Causal attention on a CPU in bfloat16 by matrix products, a block of queries at a time.

PyTorch's flash attention for CPUs spends most of its time outside matrix products when rows have a few hundred tokens.
Here each block of queries meets only the keys up to its end, the query heads that share a key head are rows of one
product, and nothing but queries, keys and values is kept for the backward pass: the weights are computed again there.
Scores and their gradients stay in float32, as in PyTorch's own: in 16 bits a large score would lose its last digits.
In float32 PyTorch's own is as fast or faster, so it stays.
Delete when PyTorch's flash attention for CPUs is as fast on rows of a few hundred tokens: forward and backward on two
cores, 15 rows of 130 tokens, 9 heads of 64, it took 34 ms where plain products took 14 (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeAlias, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from llm_installer.training.fast.context import Attention, Context
from llm_installer.training.fast.cpu.native.attention import attention, usable, whole_rows
from llm_installer.training.fast.cpu.precision import by_way_of_bfloat16
from llm_installer.training.fast.cpu.scratch import scratch

NAME, KERNEL = "block_causal", "kernel_causal"
"""As transformers knows them: by blocks of queries here, and by the kernels in C."""
BLOCK, WIDE_BLOCK, LONG = 128, 256, 1024
"""Queries worked on at once: large enough for fast products, small enough that little is computed above the diagonal.
Rows of more than LONG tokens take the wider block."""
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""[rows, length, heads, width] of queries, keys, values and the scale of their products."""


def choose_attention(model: PeftModel, kernels: bool = True) -> list[str]:
    """Set the model's attention where this one is faster; a sentence that says what was done."""
    base = cast(PreTrainedModel, model.get_base_model())
    config = base.config.get_text_config()
    dtype = cast(nn.Embedding, base.get_input_embeddings()).weight.dtype
    reason = refusal(base.device.type, dtype, config._attn_implementation, base._can_set_attn_implementation())
    if reason:
        return [f"PyTorch's own attention: {reason}"] if base.device.type == "cpu" else []
    in_c = kernels and usable()
    base.set_attn_implementation(KERNEL if in_c else NAME)
    return ["C kernels for attention" if in_c else "attention by blocks of queries"]


def refusal(device: str, dtype: torch.dtype, chosen: str | None, free: bool) -> str:
    """Why a model keeps the attention it has; empty when attention by blocks is faster and can be set."""
    checks = (
        (device != "cpu", "blocks of queries are for CPUs"),
        (dtype != torch.bfloat16, "it is as fast in float32"),
        (chosen != "sdpa" or not free, "this family chooses its attention itself"),
    )
    return next((why for found, why in checks if found), "")


def block_causal_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: object
) -> tuple[Tensor, None]:
    """Causal attention by blocks of queries, as transformers' AttentionInterface calls it."""
    return _where_plain(by_blocks, module, _Rows(query, key, value, attention_mask), kwargs)


def kernel_causal_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: object
) -> tuple[Tensor, None]:
    """Causal attention by the kernels in C, as transformers' AttentionInterface calls it."""
    return _where_plain(by_kernels, module, _Rows(query, key, value, attention_mask), kwargs)


def by_blocks(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """[rows, length, heads, width] of query [rows, heads, length, width], key and value [rows, key heads, length,
    width]."""
    result: Tensor = _BlockCausal.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    return result


def by_kernels(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """The same by the kernels in C."""
    return attention(query, key, value, whole_rows(query), scale)


class _Rows(NamedTuple):
    """What attention is computed of: query [rows, heads, length, width], key and value [rows, key heads, length,
    width], and a mask where there is one."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None


def _where_plain(attend: Attend, module: nn.Module, rows: _Rows, settings: dict[str, object]) -> tuple[Tensor, None]:
    """Attention [rows, length, heads, width] by `attend`. What is not plain causal attention over complete rows (masks,
    windows, caches, dropout) goes to PyTorch's own."""
    query, key, value, mask = rows
    causal = settings.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    plain = (
        mask is None
        and causal
        and query.shape[2] == key.shape[2] > 1
        and query.shape[-1] == value.shape[-1]
        and query.shape[-1] % 2 == 0
        and query.dtype == key.dtype == value.dtype == torch.bfloat16
        and not settings.get("dropout")
        and not any(settings.get(name) is not None for name in ("position_bias", "cache", "softcap"))
    )
    if not plain:
        return cast(Attention, sdpa_attention_forward)(module, query, key, value, mask, **settings)
    scale = cast(float, settings.get("scaling") or query.shape[-1] ** -0.5)
    return attend(query, key, value, scale), None


class _Scaled(Context, Protocol):
    scale: float


class _BlockCausal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Scaled, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, heads, length, width = query.shape
        groups = key.shape[1]
        keys, values = (t.reshape(rows * groups, length, width) for t in (key, value))
        result = query.new_empty(rows, length, heads, width)
        queries, results = _by_group(query.transpose(1, 2), groups), _by_group(result, groups)
        wide_keys = scratch.copy("wide keys", keys, torch.float32)
        for start, end in _blocks(length):
            weights = _weights(queries[:, :, :, start:end], wide_keys[:, :end], scale)
            weights = scratch.copy("weights", weights, query.dtype)
            part = scratch.take("part", query.dtype, len(keys), weights.shape[1], width)
            torch.bmm(weights, values[:, :end], out=part)
            block = results[:, :, :, start:end]
            block.copy_(part.view(block.shape))
        ctx.save_for_backward(query, keys, values)
        ctx.scale = scale
        return result

    @staticmethod
    def backward(ctx: _Scaled, outer: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, keys, values = ctx.saved_tensors
        rows, heads, length, width = query.shape
        groups, dtype = len(keys) // rows, query.dtype
        for_queries = query.new_empty(rows, length, heads, width)
        for_keys, for_values = torch.empty_like(keys), torch.empty_like(values)
        queries, outers, slots = (_by_group(t, groups) for t in (query.transpose(1, 2), outer, for_queries))
        wide_keys = scratch.copy("wide keys", keys, torch.float32)
        wide_values = scratch.copy("wide values", values, torch.float32)
        for start, end in reversed(list(_blocks(length))):
            block = queries[:, :, :, start:end]
            weights = _weights(block, wide_keys[:, :end], ctx.scale)
            given = scratch.copy("outer", outers[:, :, :, start:end], dtype).view(len(keys), -1, width)
            gradient = scratch.take("gradient", torch.float32, *weights.shape)
            _wide_product(scratch.copy("wide outer", given, torch.float32), wide_values[:, :end], gradient)
            torch.ops.aten._softmax_backward_data.out(gradient, weights, -1, gradient.dtype, grad_input=gradient)
            gradient, weights = scratch.copy("gradient", gradient, dtype), scratch.copy("weights", weights, dtype)
            # The last block comes first and reaches all keys, so what is below its gradients need not be zero.
            more = float(end < length)
            for_values[:, :end].baddbmm_(weights.transpose(1, 2), given, beta=more)
            asking = scratch.copy("queries", block, dtype).view(len(keys), -1, width)
            for_keys[:, :end].baddbmm_(gradient.transpose(1, 2), asking, beta=more, alpha=ctx.scale)
            part = scratch.take("part", dtype, len(keys), gradient.shape[1], width)
            torch.bmm(gradient, keys[:, :end], out=part)
            torch.mul(part.view(block.shape), ctx.scale, out=slots[:, :, :, start:end])
        shape = (rows, groups, length, width)
        return for_queries.transpose(1, 2), for_keys.view(shape), for_values.view(shape), None


def _by_group(flat: Tensor, groups: int) -> Tensor:
    """[rows, length, heads, width] seen as [rows, groups, heads of a group, length, width]."""
    rows, length, heads, width = flat.shape
    return flat.view(rows, length, groups, heads // groups, width).permute(0, 2, 3, 1, 4)


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    """The first query of each block, and the one after its last."""
    size = WIDE_BLOCK if length > LONG else BLOCK
    return ((start, min(length, start + size)) for start in range(0, length, size))


def _weights(block: Tensor, wide_keys: Tensor, scale: float) -> Tensor:
    """Attention weights in float32, [rows x groups, queries, end], of a block of queries over the keys up to its end;
    until the next call."""
    count, end, width = block.shape[-2], wide_keys.shape[1], block.shape[-1]
    wide = scratch.copy("wide queries", block, torch.float32).mul_(scale).view(len(wide_keys), -1, width)
    scores = scratch.take("weights", torch.float32, len(wide_keys), wide.shape[1], end)
    _wide_product(wide, wide_keys, scores)
    scores.view(len(wide_keys), -1, count, end)[..., end - count :].add_(_above(count, scores.dtype))
    return torch.softmax(scores, -1, out=scores)


def _wide_product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """left [n, a, w] times right [n, b, w] transposed, in float32 [n, a, b] and unrounded.

    Asked for products of float32 by way of bfloat16, oneDNN loses nothing of factors that bfloat16 holds.
    """
    with by_way_of_bfloat16():
        torch.bmm(left, right.transpose(1, 2), out=out)


@lru_cache(maxsize=8)
def _above(count: int, dtype: torch.dtype) -> Tensor:
    """Minus infinity for the keys after each query of a block; the last block of a row may be of any size."""
    return torch.full((count, count), float("-inf"), dtype=dtype).triu_(1)


AttentionInterface.register(NAME, block_causal_attention)
AttentionInterface.register(KERNEL, kernel_causal_attention)
for name in (NAME, KERNEL):
    AttentionMaskInterface.register(name, sdpa_mask)
