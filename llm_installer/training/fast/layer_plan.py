"""The products of a decoder layer, laid out once: weights of neighbours stacked, adapters and their gradients as views.

Stacking takes no memory: the modules' own weights become row blocks of the stack, so whoever reads, saves or merges
them finds them as before. Delete with layers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from llm_installer.core.process_memory import give_back, mapped_files
from llm_installer.training.fast.flat import DOWN, UP, FlatAdapters


@dataclass(frozen=True)
class Adapter:
    """The LoRA of one of the neighbours."""

    outputs: slice
    """Its place in what the stack gives."""
    ranks: slice
    """Its place in the low-rank image."""
    up: Tensor
    """B times its scale, [outputs, rank], and the same transposed."""
    up_t: Tensor
    for_up: Tensor
    """The gradient by B."""
    scale: float


@dataclass(frozen=True)
class Products:
    """Linear layers that read the same input, as one product, and what their adapters add."""

    weight: Tensor
    """[outputs, inputs], and transposed."""
    weight_t: Tensor
    bias: Tensor | None
    widths: tuple[int, ...]
    adapters: tuple[Adapter, ...] = ()
    down: Tensor = field(default_factory=lambda: torch.empty(0))
    """All A, one under the other: [ranks, inputs]."""
    down_t: Tensor = field(default_factory=lambda: torch.empty(0))
    for_down: Tensor = field(default_factory=lambda: torch.empty(0))
    block: Tensor | None = None
    """All B times their scales, each in its own rows and columns: [outputs, ranks]; None where they are multiplied one
    by one."""
    block_t: Tensor | None = None

    def forward(self, x: Tensor, onto: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(outputs, low-rank image) of rows [tokens, inputs]; the outputs are added to `onto` where that is given."""
        if onto is None:
            out = torch.mm(x, self.weight_t) if self.bias is None else torch.addmm(self.bias, x, self.weight_t)
        else:
            out = torch.addmm(onto, x, self.weight_t)
        if not self.adapters:
            return out, None
        low = torch.mm(x, self.down_t)
        if self.block_t is not None:
            return out.addmm_(low, self.block_t), low
        for adapter, part, image in zip(self.adapters, *self._apart(out, low), strict=True):
            part.addmm_(image, adapter.up_t)
        return out, low

    def backward(self, g: Tensor, x: Tensor | None, low: Tensor | None, wanted: bool = True) -> Tensor | None:
        """The gradient by the input where it is wanted; those of adapters are added where they belong."""
        dx = torch.mm(g, self.weight) if wanted else None
        if low is None or x is None:
            return dx
        small = torch.mm(g, self.block) if self.block is not None else None
        parts = []
        for adapter, part, image in zip(self.adapters, *self._apart(g, low), strict=True):
            if small is None:
                parts.append(torch.mm(part, adapter.up))
            add_product(adapter.for_up, part.t(), image, adapter.scale)
        if small is None:
            small = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        add_product(self.for_down, small.t(), x, 1.0)
        return dx if dx is None else dx.addmm_(small, self.down)

    def _apart(self, out: Tensor, low: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """What of outputs and of the low-rank image belongs to each adapter."""
        if len(self.widths) == 1:
            return (out,), (low,)
        images = low.split_with_sizes([a.up.shape[1] for a in self.adapters], 1)
        if len(self.adapters) == len(self.widths):
            return out.split_with_sizes(self.widths, 1), images
        return [out[:, a.outputs] for a in self.adapters], images


def add_product(onto: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """Add a product times a number to a gradient, which is in float32 while factors may be in 16 bits."""
    if onto.dtype == left.dtype:
        onto.addmm_(left, right, alpha=scale)
    else:
        onto.add_(torch.mm(left, right), alpha=scale)


class Planner:
    """Makes the products of layers from PEFT's modules and their flat adapters."""

    def __init__(self, names: dict[nn.Module, str], flat: FlatAdapters, blocks: bool) -> None:
        self.names, self.flat, self.blocks = names, flat, blocks
        self.mapped = mapped_files()

    def products(self, modules: Sequence[nn.Module]) -> Products:
        """Of neighbours, whose frozen weights are stacked where they are not yet."""
        bases = [base_of(module) for module in modules]
        weight, bias = stacked([base.weight for base in bases], self.mapped), None
        if bases[0].bias is not None:
            bias = stacked([base.bias for base in bases])
        widths = tuple(base.weight.shape[0] for base in bases)
        plain = Products(weight, weight.t(), bias, widths)
        adapted = [i for i, module in enumerate(modules) if isinstance(module, LoraLayer)]
        return self._with_adapters(plain, modules, adapted) if adapted else plain

    def _with_adapters(self, plain: Products, modules: Sequence[nn.Module], adapted: Sequence[int]) -> Products:
        downs, found, rank = [], [], 0
        for i in adapted:
            layer = cast(LoraLayer, modules[i])
            name, adapter = self.names[modules[i]], next(iter(layer.lora_A))
            downs.append(f"{name}{DOWN}{adapter}.weight")
            up = self.flat.up(f"{name}{UP}{adapter}.weight")
            start, width = sum(plain.widths[:i]), up.shape[1]
            for_up = self.flat.parts[f"{name}{UP}{adapter}.weight"].gradient
            found.append(
                Adapter(
                    slice(start, start + plain.widths[i]), slice(rank, rank + width), up, up.t(), for_up,
                    float(layer.scaling[adapter]),
                )
            )  # fmt: skip
            rank += width
        down, block = self.flat.down(downs), None
        if self.blocks and len(found) > 1:
            block = self.flat.block((len(plain.weight), rank), [((a.outputs, a.ranks), a.up) for a in found])
        single = len(plain.widths) == 1
        return Products(
            plain.weight, plain.weight_t, plain.bias, plain.widths, tuple(found), down, down.t(),
            self.flat.gradient_of(downs),
            found[0].up if single else block, found[0].up_t if single else None if block is None else block.t(),
        )  # fmt: skip


def base_of(module: nn.Module) -> nn.Linear:
    """The frozen layer below an adapter, or the module itself."""
    return cast(nn.Linear, module.get_base_layer() if isinstance(module, LoraLayer) else module)


def stacked(weights: Sequence[Tensor], mapped: Sequence[tuple[int, int]] = ()) -> Tensor:
    """One tensor whose row blocks are these weights, which are moved into it unless they are already there.

    What they held of files that are `mapped` into memory is given back, or they would be in memory twice.
    """
    first = weights[0].detach()
    if len(weights) == 1:
        return first
    rows = sum(len(w) for w in weights)
    together = first.untyped_storage().nbytes() == rows * first[0].nbytes
    if together and all(w.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() for w in weights):
        return torch.as_strided(first, (rows, *first.shape[1:]), first.stride(), 0)
    stack = torch.cat([w.detach() for w in weights])
    for weight, part in zip(weights, stack.split_with_sizes([len(w) for w in weights]), strict=True):
        give_back(weight.data_ptr(), weight.nbytes, mapped)
        weight.data = part
    return stack
