"""What an adapter is made of, read from PEFT's layers: low-rank pairs, DoRA's gains and rows of single tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from peft import PeftModel
from peft.tuners.lora import Embedding, LoraLayer, ParamWrapper
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from llm_installer.core.errors import AdapterError
from llm_installer.core.text import shortened

_NAME = "default"
"""What PEFT calls the adapter in a model."""


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to a layer: x @ down.T @ up.T, after the layer's own product is multiplied by `gain`."""

    down: Tensor
    """[rank, in]."""
    up: Tensor
    """[out, rank], scale and gain included."""
    gain: Tensor | None = None
    """[out], for DoRA."""
    bias: Tensor | None = None
    """[out]."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of an embedding or an output layer that an adapter brings itself."""

    tokens: Tensor
    """[count]."""
    rows: Tensor
    """[count, hidden]."""


@dataclass
class Parts:
    """All of an adapter, by the names of the base's layers."""

    low_rank: dict[str, LowRank] = field(default_factory=dict)
    token_rows: dict[str, TokenRows] = field(default_factory=dict)


@torch.no_grad()
def parts_of(model: PeftModel, shown: str) -> Parts:
    """The parts of the one adapter on `model`, copied. Raises AdapterError, in which it is `shown`, for an adapter that
    cannot share a base with others."""
    if getattr(model.peft_config[_NAME], "bias", "none") != "none":
        raise _cannot_share(shown, "it changes biases of the base")
    parts = Parts()
    for path, module in model.get_base_model().named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            raise _cannot_share(shown, f"it brings a whole layer of its own, {shortened(path, 80)}")
        if isinstance(module, TrainableTokensWrapper):
            adapter = module.token_adapter
            tokens = torch.tensor(adapter.token_indices[_NAME], device=adapter.trainable_tokens_delta[_NAME].device)
            parts.token_rows[path] = TokenRows(tokens, adapter.trainable_tokens_delta[_NAME].detach().clone())
        elif isinstance(module, LoraLayer):
            pair = _pair(module)
            if pair is None:
                raise _cannot_share(shown, f"it adapts {shortened(path, 80)}, which is no linear layer")
            parts.low_rank[path] = _with_gain(module, pair) if module.use_dora.get(_NAME) else pair
    return parts


def _pair(layer: LoraLayer) -> LowRank | None:
    """The two matrices of a layer, None where there are none of a linear one."""
    if isinstance(layer, (Embedding, ParamWrapper)) or _NAME not in layer.lora_A:
        return None
    down, up = layer.lora_A[_NAME], layer.lora_B[_NAME]
    if not (isinstance(down, nn.Linear) and isinstance(up, nn.Linear)):
        return None
    scale = layer.scaling[_NAME]
    bias = None if up.bias is None else up.bias.detach() * scale
    return LowRank(down.weight.detach().clone(), up.weight.detach() * scale, bias=bias)


def _with_gain(layer: LoraLayer, pair: LowRank) -> LowRank:
    """The pair of a layer with DoRA: https://huggingface.co/papers/2402.09353, section 4."""
    magnitude = layer.lora_magnitude_vector[_NAME].weight
    assert isinstance(magnitude, Tensor)
    weight = dequantize_module_weight(layer.get_base_layer()).to(pair.up.dtype)
    weight = weight.T if getattr(layer, "fan_in_fan_out", False) else weight
    gain = magnitude.detach() / torch.linalg.norm(weight + pair.up @ pair.down, dim=1)
    bias = None if pair.bias is None else pair.bias * gain
    return LowRank(pair.down, pair.up * gain.unsqueeze(1), gain, bias)


def _cannot_share(shown: str, why: str) -> AdapterError:
    return AdapterError(f"{shown} cannot be served beside others ({why}); merge it with `llm-installer merge`")
