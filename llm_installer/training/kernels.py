"""The loss, computed only where something is learned. Exact: equal to the model's own loss within rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class ScoredHead:
    """Feeds the output layer only the positions that are scored.

    A forward pre-hook on the output embeddings picks them, so whatever the family does to logits afterwards (soft caps,
    scaling) still happens, and logits of shape [tokens, vocabulary] never exist for prompts.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._positions: Tensor | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hook the output layer for as long as this lasts; generation needs it free."""
        handle = self.model.get_output_embeddings().register_forward_pre_hook(self._select)
        try:
            yield
        finally:
            handle.remove()

    def loss_sum(
        self, forward: nn.Module, ids: Tensor, positions: Tensor, targets: Tensor, reduction: str = "sum"
    ) -> Tensor:
        """Summed negative log likelihood of `targets` [n] at flat `positions` [n] of `ids` [rows, length]: a float32
        scalar, or with reduction "none" one for each target.

        `forward` is the model as the training process calls it (it may be wrapped for several devices).
        """
        self._positions = positions
        try:
            logits = forward(input_ids=ids, use_cache=False).logits
        finally:
            self._positions = None
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets, reduction=reduction)

    def _select(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._positions is None:
            return None
        hidden = args[0]
        picked = hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._positions)
        return (picked.unsqueeze(0), *args[1:])
