"""Fused LoRA above a base in float8: layers with one input share its cast, and save only the input and its image.

What lora.py does above other bases. The adapters are cast in each pass: they are small beside a product, and nothing
has to know when they have changed.
Delete when PEFT's own LoRA layer adds in place and shares one input between q, k and v, as for lora.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from llm_installer.models.float8 import Float8Linear, cast_rows, gradient, is_float8, product
from llm_installer.training.fast.context import Context, Forward
from llm_installer.training.fast.flat import FlatAdapters, neighbours
from llm_installer.training.fast.lora import fuse_lora, replace_forward


def fuse_adapters(model: nn.Module, flat: FlatAdapters | None = None) -> list[str]:
    """Replace the forward of every LoRA layer that allows it, above float8 and above other bases; what was done.

    `flat` are the model's adapters, where they lie side by side already.
    """
    every = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    above = [name for name, layer in every.items() if is_float8(layer.get_base_layer()) and _fits(layer)]
    if not above:
        return fuse_lora(model, flat)
    for names in neighbours(above):
        group = _Group([every[name] for name in names])
        for index, name in enumerate(names):
            replace_forward(cast(nn.Module, every[name]), group.forward_of(index))
    note = f"fused LoRA above float8 on {len(above)} of {len(every)} layers"
    return [note, *(fuse_lora(model, flat, above) if len(above) < len(every) else [])]


def _fits(layer: LoraLayer) -> bool:
    """Whether it is one plain LoRA and nothing else."""
    plain = type(layer) is LoraLinear and len(layer.lora_A) == 1 and not getattr(layer, "lora_variant", {})
    dropout = any(getattr(d, "p", 0.0) for d in layer.lora_dropout.values())
    biased = any(getattr(b, "bias", None) is not None for b in layer.lora_B.values())
    return plain and not (dropout or biased or any(layer.use_dora.values()) or layer.merged)


class _Group:
    """Layers with one input. The first that is called computes all; the others collect theirs."""

    def __init__(self, layers: Sequence[LoraLayer]) -> None:
        self.layers = layers
        self.names = [next(iter(layer.lora_A)) for layer in layers]
        self.bases = [cast(Float8Linear, layer.get_base_layer()) for layer in layers]
        self._input: Tensor | None = None
        self._outputs: dict[int, Tensor] = {}

    def forward_of(self, index: int) -> Callable[..., Tensor]:
        """The forward of one member."""
        own = cast(Forward, cast(nn.Module, self.layers[index]).forward)

        def forward(x: Tensor, *args: object, **kwargs: object) -> Tensor:
            if args or kwargs or not self._usable(x):
                return cast(Tensor, own(x, *args, **kwargs))
            return self._output(index, x)

        forward.__dict__["forget"] = self.forget
        return forward

    def forget(self) -> None:
        """Drop outputs that no member has collected: a forward pass failed between two of them."""
        self._input, self._outputs = None, {}

    def _usable(self, x: Tensor) -> bool:
        """Whether each member would now compute its float8 base plus its one adapter."""
        for layer, name, base in zip(self.layers, self.names, self.bases, strict=True):
            if layer.disable_adapters or layer.merged or layer.active_adapters != [name] or base.unrounded is not None:
                return False
        return not torch.is_autocast_enabled(x.device.type)

    def _output(self, index: int, x: Tensor) -> Tensor:
        if self._input is not x or index not in self._outputs:
            self._input, self._outputs = x, dict(enumerate(self._compute(x)))
        result = self._outputs.pop(index)
        if not self._outputs:
            self._input = None
        return result

    def _compute(self, x: Tensor) -> tuple[Tensor, ...]:
        pairs = list(zip(self.layers, self.names, strict=True))
        downs = [cast(nn.Linear, layer.lora_A[n]).weight for layer, n in pairs]
        ups = [cast(nn.Linear, layer.lora_B[n]).weight for layer, n in pairs]
        call = _Call(tuple(self.bases), tuple(float(layer.scaling[n]) for layer, n in pairs))
        results: tuple[Tensor, ...] = _FusedFloat8.apply(x, call, *downs, *ups)  # type: ignore[no-untyped-call]
        return results


@dataclass(frozen=True)
class _Call:
    """What one pass over a group needs beside its input and its adapters."""

    bases: tuple[Float8Linear, ...]
    scales: tuple[float, ...]


class _FloatContext(Context, Protocol):
    call: _Call
    shape: torch.Size


class _FusedFloat8(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _FloatContext, x: Tensor, call: _Call, *adapters: Tensor) -> tuple[Tensor, ...]:
        flat, count = x.reshape(-1, x.shape[-1]), len(call.bases)
        down = torch.cat(adapters[:count]).to(x.dtype)
        small = flat @ down.t()
        rounded, scale = cast_rows(flat)
        results = []
        ranks = [a.shape[0] for a in adapters[:count]]
        ups = [(up * s).to(x.dtype) for up, s in zip(adapters[count:], call.scales, strict=True)]
        for base, low, up in zip(call.bases, torch.split(small, ranks, 1), ups, strict=True):
            result = product(base, rounded, scale, x.dtype).addmm_(low, up.t())
            # Not a view: models add to it in place, which autograd forbids for views out of a function of one's own.
            results.append(torch.ops.aten._unsafe_view(result, (*x.shape[:-1], result.shape[-1])))
        ctx.save_for_backward(flat, small, down, *ups)
        ctx.call, ctx.shape = call, x.shape
        return tuple(results)

    @staticmethod
    def backward(ctx: _FloatContext, *outer: Tensor) -> tuple[Tensor | None, ...]:
        call = ctx.call
        flat, small, down, *ups = ctx.saved_tensors
        low = torch.empty_like(small)
        changes: list[Tensor] = []
        dx: Tensor | None = None
        start = 0
        for each, base, up, scale in zip(outer, call.bases, ups, call.scales, strict=True):
            g = each.reshape(-1, each.shape[-1])
            span = slice(start, start + up.shape[1])
            low[:, span] = g @ up
            changes.append(torch.mm(g.t(), small[:, span]).float().mul_(scale))
            if ctx.needs_input_grad[0]:
                part = gradient(base, g)
                dx = part if dx is None else dx.add_(part)
            start = span.stop
        downs = torch.split(torch.mm(low.t(), flat).float(), [up.shape[1] for up in ups])
        if dx is not None:
            dx = dx.addmm_(low, down).view(ctx.shape)
        return (dx, None, *downs, *changes)
