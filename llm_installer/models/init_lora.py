"""Adapters initialised from the base's weights (PiSSA, OLoRA), and how they come to fit the unchanged base again.

Both take A and B from a decomposition of W and leave W' = W - s B A in the model. What is trained is then relative to
W', which nobody else has. restore_base makes the base as it was and the adapter twice as wide:
W' + s B A = W + s (B A - B0 A0). PEFT's own versions round A and B to the base's precision after W' is made, which
would spoil that in 16 bits.
Delete when PEFT keeps A and B in float32 while it makes W', and converts such adapters back without a second model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from llm_installer.core.errors import ModelError

ADAPTER = "default"
_INITIAL = "initial_factors"
"""Attribute of an adapted layer: the A and B that were taken out of its base."""

Initialiser = Callable[[Tensor, int, float], tuple[Tensor, Tensor]]
"""(A [rank, in], B [out, rank]) from weights [out, in], a rank and the scale s."""


def _pissa(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The largest singular values and their vectors (Meng et al., 2024, arXiv 2404.02948)."""
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    half = (sizes[:rank] / scale).sqrt()
    return half[:, None] * right[:rank], left[:, :rank] * half


def _olora(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The first columns of the QR decomposition (Buyukakyuz, 2024, arXiv 2406.01775)."""
    left, right = torch.linalg.qr(weight)
    return right[:rank].contiguous(), left[:, :rank].contiguous()


INITIALISERS: dict[str, Initialiser] = {"pissa": _pissa, "olora": _olora}


@dataclass(frozen=True)
class _Adapted:
    """An adapted layer: its module, its frozen layer and its two factors."""

    module: LoraLayer
    base: nn.Linear
    a: nn.Linear
    b: nn.Linear

    @property
    def rank(self) -> int:
        """Of its adapter."""
        return int(self.module.r[ADAPTER])

    def out_in(self, weight: Tensor) -> Tensor:
        """Transposed where the base stores its weights [in, out], as GPT-2 does."""
        return weight.T if getattr(self.module, "fan_in_fan_out", False) else weight

    def add_to_base(self, sign: float) -> None:
        """Add s B0 A0 to the frozen weights, or take it out of them."""
        a, b = self.initial
        change = sign * (self.module.scaling[ADAPTER] * (b @ a))
        weight = self.base.weight
        weight.data = (weight.data.float() + self.out_in(change)).to(weight.dtype)

    @property
    def initial(self) -> tuple[Tensor, Tensor]:
        """A0 and B0, as they were taken out of the base."""
        return cast(tuple[Tensor, Tensor], vars(self.module)[_INITIAL])


@torch.no_grad()
def initialise_from_weights(model: PeftModel, name: str) -> None:
    """Initialise A and B by a row of INITIALISERS and take them out of the base.

    Raises ModelError where a rank is higher than that of the weights.
    """
    for layer in _adapted(model):
        shape = layer.base.weight.shape
        if layer.rank > min(shape):
            raise ModelError(
                f"--init-lora-weights {name} cannot take rank {layer.rank} from weights of {tuple(shape)}; "
                f"give --lora-r {min(shape)} or less"
            )
        weight = layer.out_in(layer.base.weight.data).float()
        a, b = INITIALISERS[name](weight, layer.rank, layer.module.scaling[ADAPTER])
        vars(layer.module)[_INITIAL] = (a, b)
        layer.a.weight.copy_(a)
        layer.b.weight.copy_(b)
        layer.add_to_base(-1.0)
    # Whoever puts a checkpoint of this on the unchanged base with PEFT gets the same decomposition from it.
    _config(model).init_lora_weights = name  # type: ignore[assignment]


@torch.no_grad()
def restore_base(model: PeftModel) -> None:
    """Make the base as it was and the adapter relative to it, with twice the rank; what the model computes stays."""
    for layer in _adapted(model):
        layer.add_to_base(1.0)
        initial_a, initial_b = layer.initial
        layer.a.weight.data = torch.cat([layer.a.weight.data, initial_a])
        layer.b.weight.data = torch.cat([layer.b.weight.data, -initial_b], dim=1)
        wider = 2 * layer.rank
        layer.a.out_features = layer.b.in_features = layer.module.r[ADAPTER] = wider
    config = _config(model)
    factor = 2**0.5 if config.use_rslora else 2  # the scale is alpha / sqrt(rank), or alpha / rank
    config.init_lora_weights = True
    config.r, config.lora_alpha = 2 * config.r, factor * config.lora_alpha  # type: ignore[assignment]  # a fraction is fine
    config.rank_pattern = {name: 2 * rank for name, rank in (config.rank_pattern or {}).items()}
    config.alpha_pattern = {name: factor * alpha for name, alpha in (config.alpha_pattern or {}).items()}


def _adapted(model: PeftModel) -> Iterator[_Adapted]:
    for module in model.modules():
        if isinstance(module, LoraLayer):
            linear = (module.get_base_layer(), module.lora_A[ADAPTER], module.lora_B[ADAPTER])
            yield _Adapted(module, *(cast(nn.Linear, each) for each in linear))


def _config(model: PeftModel) -> LoraConfig:
    config = model.peft_config[ADAPTER]
    assert isinstance(config, LoraConfig)
    return config
