"""NEFTune: noise on the input embeddings while training (Jain et al., 2023, arXiv 2310.05914)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def add_noise(model: nn.Module, alpha: float) -> None:
    """Add uniform noise of size alpha / sqrt(L d) to the embeddings of every row that is trained on.

    L and d are length and width of the embedded batch, as in the paper's algorithm 1. The embeddings themselves, which
    the output layer may share, are not touched. The noise comes from torch's own generator, so a run that is resumed
    draws what it would have drawn.
    """
    embeddings = model.get_input_embeddings()  # type: ignore[operator]

    def disturbed(module: nn.Module, _args: object, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        size = alpha / math.sqrt(output.shape[-2] * output.shape[-1])
        return output + torch.empty_like(output).uniform_(-size, size)

    embeddings.register_forward_hook(disturbed)
