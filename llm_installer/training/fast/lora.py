"""LoRA layers that share an input, computed as one autograd function that saves only the input and its low-rank image.

PEFT adds each adapter in several passes over large outputs and keeps the operands of each; here the product is added in
place, the scale is folded into the small matrix, and float32 adapters are cast once for each step (flat.py), not once
for each use. PEFT's modules stay as they are: only the `forward` of instances is replaced, so saving and
merging are PEFT's own.
Delete when PEFT's own LoRA layer adds in place and shares one input between q, k and v: PEFT 0.21 moves 430 kB
for each token and layer of Llama-3-8B to add its adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from llm_installer.models.quantise import is_four_bit
from llm_installer.training.fast.context import Context, Forward
from llm_installer.training.fast.flat import DOWN, UP, FlatAdapters, flatten
from llm_installer.training.fast.quantised import BaseLayer, computes_in, product_weight
from llm_installer.training.fast.watch import Watch


def fuse_lora(model: nn.Module, flat: FlatAdapters | None = None, leave: Collection[str] = ()) -> list[str]:
    """Replace the forward of every LoRA layer that allows it; sentences that say what was done.

    `flat` are the model's adapters, where they lie side by side already; `leave` names layers that have their own way.
    """
    every = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    layers = {name: layer for name, layer in every.items() if name not in leave}
    flat = flat or flatten(model)
    reasons = {name: refusal(module) or _unlike(name, module, flat) for name, module in layers.items()}
    fit = {name: layer for name, layer in layers.items() if not reasons[name]}
    if flat and fit:
        watch = Watch(model, flat, list(fit.values()))
        for members in flat.neighbours(list(fit)):
            group = _Group([(name, fit[name]) for name in members], watch)
            for index, name in enumerate(members):
                replace_forward(cast(nn.Module, fit[name]), group.forward_of(index))
    notes = [f"fused LoRA on {len(fit)} of {len(layers)} layers"]
    for reason in sorted({r for r in reasons.values() if r}):
        count = sum(r == reason for r in reasons.values())
        notes.append(f"{count} LoRA layers use PEFT's own path: {reason}")
    return notes


def watch_of(model: nn.Module) -> Watch | None:
    """Who watches the adapters of a model, and knows where they lie; None where no layer is fused."""
    watches = (getattr(vars(module).get("forward"), "watch", None) for module in model.modules())
    return next((cast(Watch, watch) for watch in watches if watch), None)


def replace_forward(module: nn.Module, forward: Callable[..., object]) -> None:
    """Give one module another forward, as an attribute of this instance alone."""
    vars(module)["forward"] = forward


def forget_half_done(model: nn.Module) -> None:
    """After a forward pass that failed half way: let go of what its groups still hold, and with it all of the graph."""
    for module in model.modules():
        forget = getattr(vars(module).get("forward"), "forget", None)
        if forget:
            forget()


def refusal(layer: LoraLayer) -> str:
    """Why this layer keeps PEFT's own forward; empty when the fused one equals it."""
    base = layer.get_base_layer()
    variant = any(layer.use_dora.values()) or bool(getattr(layer, "lora_variant", {}))
    checks = (
        (not _covered(layer), f"{type(layer).__name__} layers are not covered"),
        (len(layer.lora_A) != 1, "there is more than one adapter"),
        (any(getattr(d, "p", 0.0) for d in layer.lora_dropout.values()), "dropout is on"),
        (variant, "the adapter is not plain LoRA"),
        (any(getattr(b, "bias", None) is not None for b in layer.lora_B.values()), "the adapter has a bias"),
        (not _plain(base), "the base layer is not a plain linear layer"),
        (any(p.requires_grad for p in base.parameters()), "the base layer is trained too"),
        (layer.merged, "the adapter is merged"),
    )
    return next((why for found, why in checks if found), "")


def _unlike(name: str, layer: LoraLayer, flat: FlatAdapters | None) -> str:
    """Why the adapters of this layer have no copy that its base could be computed with."""
    if flat is None:
        return "adapters are of several types or on several devices"
    if not all(f"{name}{factor}{next(iter(layer.lora_A))}.weight" in flat.parts for factor in (DOWN, UP)):
        return "the adapter is not trained"
    return "" if computes_in(cast(BaseLayer, layer.get_base_layer()), flat.dtype) else "its base is of another type"


def _covered(layer: LoraLayer) -> bool:
    """PEFT's layer for plain or for 4-bit weights; the latter by name, because PEFT has it only with bitsandbytes."""
    kind = type(layer)
    return kind is LoraLinear or (kind.__module__, kind.__name__) == ("peft.tuners.lora.bnb", "Linear4bit")


def _plain(base: nn.Module) -> bool:
    return type(base) in (nn.Linear, Conv1D) or is_four_bit(base)


class _Group:
    """Layers with one input. The first that is called computes all; the others collect theirs."""

    def __init__(self, members: Sequence[tuple[str, LoraLayer]], watch: Watch) -> None:
        self.layers, self.watch = [layer for _, layer in members], watch
        adapters = [next(iter(layer.lora_A)) for layer in self.layers]
        downs = [f"{name}{DOWN}{a}.weight" for (name, _), a in zip(members, adapters, strict=True)]
        ups = [f"{name}{UP}{a}.weight" for (name, _), a in zip(members, adapters, strict=True)]
        flat, bases = watch.flat, tuple(cast(BaseLayer, layer.get_base_layer()) for layer in self.layers)
        self.adapters = [flat.parts[name].parameter for name in (*downs, *ups)]
        self.call = _Call(
            flat.down(downs), tuple(flat.up(name) for name in ups), bases,
            tuple(float(layer.scaling[a]) for layer, a in zip(self.layers, adapters, strict=True)),
            [len(flat.parts[name].parameter) for name in downs],
        )  # fmt: skip
        self.quantised = any(is_four_bit(cast(nn.Module, base)) for base in bases)
        self._input: Tensor | None = None
        self._outputs: dict[int, Tensor] = {}

    def forward_of(self, index: int) -> Callable[..., Tensor]:
        """The forward of one member."""
        own = cast(Forward, cast(nn.Module, self.layers[index]).forward)

        def forward(x: Tensor, *args: object, **kwargs: object) -> Tensor:
            if args or kwargs or not self._usable(x):
                return cast(Tensor, own(x, *args, **kwargs))
            return self._output(index, x)

        forward.__dict__.update(forget=self.forget, watch=self.watch)
        return forward

    def forget(self) -> None:
        """Drop outputs that no member has collected: a forward pass failed between two of them."""
        self._input, self._outputs = None, {}

    def _usable(self, x: Tensor) -> bool:
        """Whether each member would now compute base plus its one adapter, its base in the type of `x`."""
        if not self.watch.on or x.dtype != self.call.down.dtype:
            return False
        return not self.quantised or all(computes_in(base, x.dtype) for base in self.call.bases)

    def _output(self, index: int, x: Tensor) -> Tensor:
        if self._input is not x or index not in self._outputs:
            results: tuple[Tensor, ...] = _FusedLora.apply(x, self.call, *self.adapters)  # type: ignore[no-untyped-call]
            self._input, self._outputs = x, dict(enumerate(results))
        result = self._outputs.pop(index)
        if not self._outputs:
            self._input = None
        return result


@dataclass(frozen=True)
class _Call:
    """What a pass over a group needs beside its input."""

    down: Tensor
    """All A, one under the other, in the compute type: [ranks, inputs]."""
    up: tuple[Tensor, ...]
    """Each B times its scale: [outputs, rank]."""
    bases: tuple[BaseLayer, ...]
    scales: tuple[float, ...]
    ranks: list[int]


class _LoraContext(Context, Protocol):
    call: _Call
    shape: torch.Size


class _FusedLora(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _LoraContext, x: Tensor, call: _Call, *adapters: Tensor) -> tuple[Tensor, ...]:
        flat = x.reshape(-1, x.shape[-1])
        small = flat @ call.down.t()
        results = []
        for low, base, up in zip(torch.split(small, call.ranks, 1), call.bases, call.up, strict=True):
            weight = product_weight(base, x.dtype)
            result = torch.mm(flat, weight) if base.bias is None else torch.addmm(base.bias.to(x.dtype), flat, weight)
            del weight
            result.addmm_(low, up.t())
            # Not a view: models add to it in place, which autograd forbids for views out of a function of one's own.
            results.append(torch.ops.aten._unsafe_view(result, (*x.shape[:-1], result.shape[-1])))
        ctx.save_for_backward(flat, small)
        ctx.call, ctx.shape = call, x.shape
        return tuple(results)

    @staticmethod
    def backward(ctx: _LoraContext, *outer: Tensor) -> tuple[Tensor | None, ...]:
        call = ctx.call
        flat, small = ctx.saved_tensors
        low = torch.empty_like(small)
        ups: list[Tensor] = []
        dx: Tensor | None = None
        start = 0
        for gradient, base, up, scale, rank in zip(outer, call.bases, call.up, call.scales, call.ranks, strict=True):
            g = gradient.reshape(-1, gradient.shape[-1])
            span = slice(start, start + rank)
            low[:, span] = g @ up
            ups.append(torch.mm(g.t(), small[:, span]).float().mul_(scale))
            if ctx.needs_input_grad[0]:
                weight = product_weight(base, g.dtype).t()
                dx = torch.mm(g, weight) if dx is None else dx.addmm_(g, weight)
                del weight
            start += rank
        downs = torch.split(torch.mm(low.t(), flat).float(), call.ranks)
        if dx is not None:
            dx = dx.addmm_(low, call.down).view(ctx.shape)
        return (dx, None, *downs, *ups)
