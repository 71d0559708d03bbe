"""Whether a base can learn to end its answers: a token that it never met has the output weights of many others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_installer.core.text import shortened

SAME = 0.01
"""Largest distance between two rows of the output layer, as a share of their usual length, that makes them equal."""
MANY = 8
"""Other tokens with equal rows from which it is no coincidence."""
_AT_ONCE = 1 << 14
"""Rows that are compared at once."""


@torch.no_grad()
def equal_rows(output: Tensor, token: int) -> int:
    """How many other rows of the output weights [vocabulary, hidden] equal that of `token`. Whatever the hidden state
    is, all of these tokens are then equally likely, and no LoRA below the output layer can change that."""
    own = output[token].float()
    apart, lengths = [], []
    for start in range(0, len(output), _AT_ONCE):
        rows = output[start : start + _AT_ONCE].float()
        apart.append((rows - own).norm(dim=1))
        lengths.append(rows.norm(dim=1))
    return int((torch.cat(apart) <= SAME * torch.cat(lengths).median()).sum()) - 1


def cannot_end(model: nn.Module, token: int, name: str) -> str:
    """A sentence where the output layer cannot tell the token that ends answers, called `name`, from others; else
    empty."""
    layer = model.get_output_embeddings()  # type: ignore[operator]
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or token >= len(weight) or not weight.is_floating_point():
        return ""
    equal = equal_rows(weight, token)
    if equal < MANY:
        return ""
    return (
        f"This base never learned its end token {shortened(name, 40)} ({equal:,} other tokens have the same output "
        "weights), and a LoRA cannot teach it: answers will run on to their limit. A base whose end token is trained "
        "ends them."
    )
