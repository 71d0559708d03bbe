"""A step of answers by plan: one token a row through layers whose code is known, without the model's own modules.

Layers that read the same input are one product, with the adapters of all rows beside it; of a model's own steps most of
the time went to the many small operations around its products. Their weights are the model's own, moved side by side,
so that nothing is held twice. A plan is used once it has answered as the model does (trial.py).
Delete when torch.compile plans a step without a minute of compiling for each model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu
from transformers import PreTrainedModel

from llm_installer.inference.engine.bank import AdapterBank
from llm_installer.inference.engine.masks import Mask
from llm_installer.inference.engine.slots import Slots

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
"""Models of which the code is known; Qwen3 has norms of each head."""
ACTIVATIONS = ("SiLU", "SiLUActivation")


@dataclass(frozen=True)
class _Product:
    """Linear layers that read the same input."""

    paths: tuple[str, ...]
    widths: tuple[int, ...]
    weight: Tensor
    """Transposed: [inputs, outputs]."""
    bias: Tensor | None


@dataclass(frozen=True)
class _Norm:
    """An RMS norm over the last dimension."""

    weight: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight.shape, self.weight, self.epsilon)


@dataclass(frozen=True)
class _Layer:
    asking: _Product
    """Queries, keys and values."""
    output: _Product
    gated: _Product
    """Gate and up."""
    last: _Product
    before: _Norm
    between: _Norm
    heads: tuple[int, int]
    """Of queries, and of keys and values."""
    head_norms: tuple[_Norm, _Norm] | None
    """Of queries and keys."""
    scale: float
    kind: str
    """By which its mask is named."""


class Planned:
    """The steps of one model."""

    def __init__(self, model: PreTrainedModel, bank: AdapterBank, layers: Sequence[_Layer]) -> None:
        self._bank, self._layers = bank, layers
        self._words, self._turns, self._norm = (_part(model.model, n) for n in ("embed_tokens", "rotary_emb", "norm"))
        self._head = _part(model, "lm_head")

    def __call__(self, ids: Tensor, at: Tensor, mask: Mask, slots: Slots) -> Tensor:
        """Logits [rows, 1, vocabulary] after one more token of each row: `ids` and `at` are [rows, 1]."""
        hidden = self._words(ids)
        cos, sin = self._turns(hidden, position_ids=at)
        half = sin.shape[-1] // 2
        signed = torch.cat((-sin[..., :half], sin[..., half:]), -1)
        x = hidden.squeeze(1)
        for number, layer in enumerate(self._layers):
            seen = mask if isinstance(mask, Tensor) else mask[layer.kind]
            attended = self._attended(layer, x, (cos, signed), seen, slots, number)
            x = self._product(layer.output, attended, x)
            both = self._product(layer.gated, layer.between(x))
            gate, up = both.chunk(2, -1)
            x = self._product(layer.last, silu(gate).mul_(up), x)
        return cast(Tensor, self._head(self._norm(x.unsqueeze(1))))

    def _attended(
        self, layer: _Layer, x: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor, slots: Slots, number: int
    ) -> Tensor:
        """What attention gives [rows, heads x width]."""
        rows, (heads, few) = len(x), layer.heads
        asked = self._product(layer.asking, layer.before(x)).view(rows, heads + 2 * few, -1)
        width = asked.shape[-1]
        turned, values = asked[:, : heads + few], asked[:, heads + few :]
        if layer.head_norms:
            query, key = layer.head_norms
            turned = torch.cat((query(turned[:, :heads]), key(turned[:, heads:])), 1)
        cos, sin = turns
        turned = torch.addcmul(turned * cos, turned.roll(width // 2, -1), sin)
        keys, values = slots.append(number, turned[:, heads:], values)
        queries = turned[:, :heads].view(rows, few, heads // few, width)
        found = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=layer.scale)
        return found.reshape(rows, heads * width)

    def _product(self, product: _Product, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """Of `x` [rows, inputs], with what adapters make of it, and `onto` added."""
        stack = self._bank.stack_of(product.paths, product.widths, x)
        changed = stack is not None and stack.gains is not None  # then the product itself is multiplied
        added = product.bias if changed or onto is None else onto
        out = torch.mm(x, product.weight) if added is None else torch.addmm(added, x, product.weight)
        if stack is not None:
            out = self._bank.adapted(stack, x, out, product.bias)
        return out if onto is None or not changed else out.add_(onto)


def plan_of(model: PreTrainedModel, bank: AdapterBank) -> Planned | None:
    """The plan of a model in float32 on a CPU whose code is known; None for any other."""
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return None
    if type(model).__name__ not in [f"{name}ForCausalLM" for name in FAMILIES]:
        return None
    if not type(model).__module__.startswith("transformers.models."):
        return None
    names = {module: name for name, module in model.named_modules()}
    layers = list(cast(nn.ModuleList, _part(model.model, "layers")))
    if not all(_is_plain(layer, model.dtype) for layer in layers):
        return None
    kinds = getattr(model.config, "layer_types", None) or ["all"] * len(layers)
    return Planned(model, bank, [_layer(layer, names, kind) for layer, kind in zip(layers, kinds, strict=True)])


ASKING, GATED = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")


def _is_plain(layer: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a layer consists of linear layers of this type, with biases of queries, keys and values at most."""
    attention, mlp = _part(layer, "self_attn"), _part(layer, "mlp")
    asking = [_part(attention, name) for name in ASKING]
    others = [_part(attention, "o_proj"), *(_part(mlp, name) for name in (*GATED, "down_proj"))]
    if not all(type(each) is nn.Linear and each.weight.dtype == dtype for each in (*asking, *others)):
        return False
    alike = len({each.bias is None for each in asking}) == 1 and all(each.bias is None for each in others)
    return alike and type(_part(mlp, "act_fn")).__name__ in ACTIVATIONS


@torch.no_grad()
def _layer(layer: nn.Module, names: dict[nn.Module, str], kind: str) -> _Layer:
    attention, mlp = _part(layer, "self_attn"), _part(layer, "mlp")

    def product(owner: nn.Module, *parts: str) -> _Product:
        modules = [cast(nn.Linear, _part(owner, part)) for part in parts]
        weight = _side_by_side([module.weight for module in modules])
        biases = [module.bias for module in modules if module.bias is not None]
        bias = _side_by_side(biases) if biases else None
        return _Product(tuple(names[m] for m in modules), tuple(m.out_features for m in modules), weight.t(), bias)

    width = int(cast(int, attention.head_dim))
    asking = product(attention, *ASKING)
    return _Layer(
        asking,
        product(attention, "o_proj"),
        product(mlp, *GATED),
        product(mlp, "down_proj"),
        _norm(layer, "input_layernorm"),
        _norm(layer, "post_attention_layernorm"),
        (asking.widths[0] // width, asking.widths[1] // width),
        (_norm(attention, "q_norm"), _norm(attention, "k_norm")) if hasattr(attention, "q_norm") else None,
        float(cast(float, attention.scaling)),
        kind,
    )


def _part(owner: object, name: str) -> nn.Module:
    return cast(nn.Module, getattr(owner, name))


def _norm(owner: nn.Module, name: str) -> _Norm:
    module = _part(owner, name)
    return _Norm(cast(Tensor, module.weight).detach(), float(cast(float, module.variance_epsilon)))


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """One tensor whose rows are those of all parts, which become parts of it."""
    if len(parts) == 1:
        return parts[0].detach()
    whole = torch.cat([part.detach() for part in parts])
    for part, place in zip(parts, whole.split_with_sizes([len(part) for part in parts]), strict=True):
        part.data = place
    return whole
