"""Weights as llama.cpp lays them out, where that is not as transformers does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from llm_installer.export.gguf.facts import Facts

Layout: TypeAlias = "Callable[[Tensor, Facts], Tensor]"


def _paired(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head so that the two halves which rotary positions turn together lie side by side."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def paired_queries(weight: Tensor, facts: Facts) -> Tensor:
    """Rows of the query projection, [heads * head_dim, ...]."""
    return _paired(weight, facts.heads)


def paired_keys(weight: Tensor, facts: Facts) -> Tensor:
    """Rows of the key projection, [kv_heads * head_dim, ...]."""
    return _paired(weight, facts.kv_heads)


def plus_one(weight: Tensor, facts: Facts) -> Tensor:
    """A norm that transformers applies as 1 + weight."""
    return weight + 1


def turned(weight: Tensor, facts: Facts) -> Tensor:
    """A weight of GPT-2's, which is stored [in, out]."""
    return weight.T.contiguous()


def by_kind(weight: Tensor, facts: Facts) -> Tensor:
    """Queries, keys and values of GPT-NeoX, from (head, 3, head_dim) to (3, head, head_dim)."""
    return weight.reshape(facts.heads, 3, -1, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape)
