"""Adapters that begin as a part of the base's weights (PiSSA, OLoRA), and how they come to fit the whole base again.

Both take A and B from a decomposition of W and leave W' = W - s B A in the model. What is learned is then relative to
W', which nobody has. put_back makes the base whole and the adapter twice as wide: W' + s B A = W + s (B A - B0 A0).
PEFT's own versions round A and B to the base's precision after W' is made, which would spoil that in 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from llm_installer.core.errors import ModelError

ADAPTER = "default"

Start = Callable[[Tensor, int, float], tuple[Tensor, Tensor]]
"""(A, B) of a rank from weights [out, in] and the scale s."""


def _pissa(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The largest singular values and their vectors (Meng et al., 2024, arXiv 2404.02948)."""
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    half = (sizes[:rank] / scale).sqrt()
    return half[:, None] * right[:rank], left[:, :rank] * half


def _olora(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The first columns of the QR decomposition (Buyukakyuz, 2024, arXiv 2406.01775)."""
    left, right = torch.linalg.qr(weight)
    return right[:rank].contiguous(), left[:, :rank].contiguous()


STARTS: dict[str, Start] = {"pissa": _pissa, "olora": _olora}


@torch.no_grad()
def begin_from_weights(model: PeftModel, name: str) -> None:
    """Give A and B their beginning and take it out of the base. Raises ModelError where a rank is too high for it."""
    for layer in _layers(model):
        base, rank = layer.get_base_layer(), layer.r[ADAPTER]
        if rank > min(base.weight.shape):
            raise ModelError(
                f"--init-lora-weights {name} cannot take rank {rank} from weights of {tuple(base.weight.shape)}; "
                f"give --lora-r {min(base.weight.shape)} or less"
            )
        whole = _out_in(layer, base.weight.data).float()
        layer.start = STARTS[name](whole, rank, layer.scaling[ADAPTER])
        a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        a.copy_(layer.start[0])
        b.copy_(layer.start[1])
        _add_to_base(layer, -_product(layer))
    # Whoever puts a checkpoint of this on the whole base with PEFT gets the same decomposition from it.
    _config(model).init_lora_weights = name  # type: ignore[assignment]


@torch.no_grad()
def put_back(model: PeftModel) -> None:
    """Make the base whole and the adapter relative to it, with twice the rank; what the model computes stays."""
    for layer in _layers(model):
        _add_to_base(layer, _product(layer))
        a, b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        a.weight.data = torch.cat([a.weight.data, layer.start[0]])
        b.weight.data = torch.cat([b.weight.data, -layer.start[1]], dim=1)
        a.out_features = b.in_features = layer.r[ADAPTER] = 2 * layer.r[ADAPTER]
    config: Any = _config(model)
    wider = 2**0.5 if config.use_rslora else 2  # the scale is alpha / sqrt(rank), or alpha / rank
    config.init_lora_weights = True
    config.r, config.lora_alpha = 2 * config.r, wider * config.lora_alpha
    config.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
    config.alpha_pattern = {name: wider * alpha for name, alpha in config.alpha_pattern.items()}


def _layers(model: PeftModel) -> Iterator[Any]:
    return (m for m in model.modules() if isinstance(m, LoraLayer))


def _config(model: PeftModel) -> LoraConfig:
    config = model.peft_config[ADAPTER]
    assert isinstance(config, LoraConfig)
    return config


def _product(layer: Any) -> Tensor:
    a, b = layer.start
    product: Tensor = layer.scaling[ADAPTER] * (b @ a)
    return product


def _add_to_base(layer: Any, change: Tensor) -> None:
    weight = layer.get_base_layer().weight
    weight.data = (weight.data.float() + _out_in(layer, change)).to(weight.dtype)


def _out_in(layer: Any, weight: Tensor) -> Tensor:
    """Transposed where the base stores its weights [in, out], as GPT-2 does."""
    return weight.T if layer.fan_in_fan_out else weight
