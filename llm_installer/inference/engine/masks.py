"""Which positions each row may look at, for models that take masks of four dimensions as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig

Mask = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Sight:
    """How far back a layer looks; 0 for any distance."""

    window: int = 0
    """So many positions, its own included."""
    chunk: int = 0
    """To the start of its own chunk of so many."""


KINDS = ("full_attention", "sliding_attention", "chunked_attention")


@dataclass(frozen=True)
class Masks:
    """The masks of a model: one for each kind of its layers, by the names of config.layer_types, or one for all."""

    sights: Mapping[str, Sight]
    by_name: bool
    """The model asks for masks by the kind of layer."""
    dtype: torch.dtype

    def of(self, at: Tensor, length: int) -> Mask:
        """For tokens at the positions `at` [rows, tokens], which see positions up to `length`: 0 where they may look,
        else the lowest number [rows, 1, tokens, length]."""
        seen = torch.arange(length, device=at.device)
        made = {kind: self._one(at.unsqueeze(-1), seen, sight) for kind, sight in self.sights.items()}
        return made if self.by_name else next(iter(made.values()))

    def _one(self, at: Tensor, seen: Tensor, sight: Sight) -> Tensor:
        may = seen <= at
        if sight.window:
            may &= seen > at - sight.window
        if sight.chunk:
            may &= seen // sight.chunk == at // sight.chunk
        lowest = torch.full((), torch.finfo(self.dtype).min, dtype=self.dtype, device=at.device)
        return torch.where(may, torch.zeros((), dtype=self.dtype, device=at.device), lowest).unsqueeze(1)


def masks_of(config: PretrainedConfig, dtype: torch.dtype) -> Masks | None:
    """The masks for a model of this (text) config; None where a layer is no attention over positions."""
    kinds = getattr(config, "layer_types", None)
    window, chunk = getattr(config, "sliding_window", None) or 0, getattr(config, "attention_chunk_size", None) or 0
    if not kinds:
        return Masks({"all": Sight(window=window)}, False, dtype)
    if not set(kinds) <= set(KINDS):
        return None
    sights = {
        "full_attention": Sight(),
        "sliding_attention": Sight(window=window),
        "chunked_attention": Sight(chunk=chunk),
    }
    return Masks({kind: sights[kind] for kind in sorted(set(kinds))}, True, dtype)
