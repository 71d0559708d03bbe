"""Whether a model draws random numbers while it trains.

Delete when torch.utils.checkpoint keeps the state of the generator only where numbers were drawn.
"""

from __future__ import annotations

from torch import nn


def drops(model: nn.Module) -> bool:
    """Whether dropout is on anywhere: in the adapters, or in the base, as in GPT-2."""
    rates = (getattr(m, "p" if isinstance(m, nn.Dropout) else "attention_dropout", 0.0) for m in model.modules())
    return any(isinstance(rate, float) and rate > 0 for rate in rates)
