"""All A and B of a LoRA as views of one tensor: one copy in the compute type, one optimizer kernel, one exchange.

PEFT's parameters keep their names and shapes, so saving, loading and merging are PEFT's own; only their memory is
shared. All A lie before all B, and those that read the same input next to each other. Copies are made right after
each optimizer step, in memory that never moves; no layer asks whether they are still right. Who else writes weights
calls `refresh`, or is noticed before the next pass (watch.py).
Delete when torch's optimizers and autograd take hundreds of small tensors at the price of one: on an H200 AdamW over
the 190 adapters of a model with 0.5 billion parameters took 4.3 ms of a step in which the GPU worked for 24.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from llm_installer.training.fast.quantised import computed_in

ALIGNED = 64
"""A part begins at a multiple of so many numbers: 128 bytes of bfloat16, for kernels that read the copy."""
SHARING = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of neighbours that read the same input."""
DOWN, UP = ".lora_A.", ".lora_B."


@dataclass(frozen=True)
class Part:
    """One A or B: its name, PEFT's parameter, and where it lies."""

    name: str
    parameter: nn.Parameter
    span: slice
    gradient: Tensor
    """A view of the flat gradient in the parameter's shape."""


class FlatAdapters:
    """Weights, gradients and copies in the compute type. Where gradients are not `attached`, autograd keeps one for
    each parameter as usual."""

    def __init__(self, trained: Sequence[tuple[str, nn.Parameter]], scales: dict[str, float], dtype: torch.dtype):
        """Move parameters here; `scales` are those of each B by its name, `dtype` is what products are computed in."""
        self.dtype, self.attached = dtype, False
        ordered = sorted(trained, key=lambda each: UP in each[0])
        spans, self.middle, end = _laid_out([(name, p.numel()) for name, p in ordered])
        first = trained[0][1]
        self.weights = torch.zeros(end, dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.weights)
        self.parts: dict[str, Part] = {}
        self.written = [p for _, p in ordered]
        """The parameters that others may write; of a replica those of the model it is one of."""
        with torch.no_grad():
            for (name, parameter), span in zip(ordered, spans, strict=True):
                place = self.weights[span].view_as(parameter)
                parameter.data = place.copy_(parameter.detach())
                self.parts[name] = Part(name, parameter, span, self.gradients[span].view_as(parameter))
        # In float32 the products may read A where it is trained.
        self._downs = self.weights[: self.middle].to(dtype)
        self._ups = torch.zeros(end - self.middle, dtype=dtype, device=first.device)
        self._scales = self._scale(scales)
        self._blocks: list[tuple[Tensor, Tensor]] = []
        self.leaf = nn.Parameter(self.weights)
        """What is trained, as one tensor: on the memory of all parameters."""
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the copies again, after each optimizer step and whatever else writes weights."""
        if self._downs.dtype != self.weights.dtype:
            self._downs.copy_(self.weights[: self.middle])
        torch.mul(self.weights[self.middle :], self._scales, out=self._ups)
        if self._blocks:
            torch._foreach_copy_([place for place, _ in self._blocks], [up for _, up in self._blocks])

    def attach(self) -> None:
        """Let the gradients of all parameters be views of one from here on. For models in which every step reaches
        every adapter: one that nothing reaches is then trained with a gradient of zero, not left out."""
        self.attached = True
        self.leaf.grad = self.gradients
        for part in self.parts.values():
            part.parameter.grad = part.gradient

    def collect(self) -> None:
        """Bring back gradients that somebody else has put in the place of ours, or taken away."""
        for part in self.parts.values() if self.attached else ():
            given = part.parameter.grad
            if given is not part.gradient:
                part.gradient.zero_() if given is None else part.gradient.copy_(given)
                part.parameter.grad = part.gradient

    def zero_grad(self) -> None:
        """Gradients are zero again, in the same memory."""
        self.gradients.zero_()

    def leaves(self, split: bool) -> tuple[nn.Parameter, ...]:
        """What an optimizer trains where each number's step depends on that number alone: all as one tensor, or all A
        and all B apart. Asked for once."""
        if not split:
            return (self.leaf,)
        apart = []
        for span in (slice(0, self.middle), slice(self.middle, None)):
            leaf = nn.Parameter(self.weights[span])
            leaf.grad = self.gradients[span]
            apart.append(leaf)
        return tuple(apart)

    def down(self, names: Sequence[str]) -> Tensor:
        """The A of neighbours in the compute type, one under the other: [ranks, inputs]."""
        spans = [self.parts[name].span for name in names]
        assert all(a.stop == b.start for a, b in pairwise(spans)), "neighbours lie side by side"
        width = self.parts[names[0]].parameter.shape[1]
        return self._downs[spans[0].start : spans[-1].stop].view(-1, width)

    def up(self, name: str) -> Tensor:
        """A B times its scale in the compute type: [outputs, rank]."""
        part = self.parts[name]
        span = slice(part.span.start - self.middle, part.span.stop - self.middle)
        return self._ups[span].view_as(part.parameter)

    def block(self, shape: tuple[int, int], parts: Sequence[tuple[tuple[slice, slice], Tensor]]) -> Tensor:
        """A matrix of zeros in which copies of B have these places, made again whenever they are."""
        block = torch.zeros(shape, dtype=self.dtype, device=self.weights.device)
        self._blocks += [(block[place], up) for place, up in parts]
        self.refresh()
        return block

    def gradient_of(self, names: Sequence[str]) -> Tensor:
        """The gradient by the A of neighbours: [ranks, inputs]."""
        spans = [self.parts[name].span for name in names]
        return self.gradients[spans[0].start : spans[-1].stop].view(-1, self.parts[names[0]].parameter.shape[1])

    def neighbours(self, names: Sequence[str]) -> list[list[str]]:
        """Layer names, those that read the same input and whose A lie side by side together."""
        ends: dict[str, slice] = {layer_of(name): part.span for name, part in self.parts.items() if DOWN in name}
        found: list[list[str]] = []
        for group in neighbours(names):
            for i, name in enumerate(group):
                if i and ends[group[i - 1]].stop == ends[name].start:
                    found[-1].append(name)
                else:
                    found.append([name])
        return found

    def twin(self, model: nn.Module) -> FlatAdapters:
        """The same weights and copies, with the parameters of a replica, and gradients of its own."""
        other, own = copy.copy(self), dict(model.named_parameters())
        other.gradients = torch.zeros_like(self.gradients)
        other.parts = {
            name: Part(name, own[name], part.span, other.gradients[part.span].view_as(part.parameter))
            for name, part in self.parts.items()
        }
        for part in other.parts.values():
            part.parameter.data = self.weights[part.span].view_as(part.parameter)
        other.leaf = nn.Parameter(self.weights)
        if self.attached:
            other.attach()
        return other

    def _scale(self, scales: dict[str, float]) -> float | Tensor:
        """What the copy of B is multiplied by: a number where all are alike, else one for each number."""
        ups = [part for part in self.parts.values() if UP in part.name]
        found = {scales[part.name] for part in ups}
        if len(found) == 1:
            return found.pop()
        each = torch.ones_like(self.weights[self.middle :])
        for part in ups:
            each[part.span.start - self.middle : part.span.stop - self.middle] = scales[part.name]
        return each


def flatten(model: nn.Module) -> FlatAdapters | None:
    """Lay all A and B that are trained side by side; None where there are none, or they are not of one kind on one
    device."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    scales = {f"{name}{UP}{a}.weight": float(s) for name, layer in layers.items() for a, s in layer.scaling.items()}
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad and factor(n)]
    ups = [name for name, _ in trained if UP in name]
    kinds = {(p.dtype, p.device, isinstance(p, DTensor)) for _, p in trained}
    fit = len(kinds) == 1 and not any(sharded for _, _, sharded in kinds) and all(name in scales for name in ups)
    if not fit or not ups:
        return None
    (dtype, _), *_ = Counter(computed_in(layer.get_base_layer()) for layer in layers.values()).most_common(1)
    return FlatAdapters(_neighbours_together(trained), scales, dtype)


def factor(name: str) -> bool:
    """Whether a parameter of this name is an A or a B of a linear layer, and no bias of one."""
    return (DOWN in name or UP in name) and name.endswith(".weight")


def neighbours(names: Iterable[str]) -> list[list[str]]:
    """Layer names, those under one parent that share an input together."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in names:
        parent, _, own = name.rpartition(".")
        shared = next((s for s in SHARING if own in s), (own,))
        found.setdefault((parent, shared), []).append(name)
    return list(found.values())


def layer_of(name: str) -> str:
    """The name of the layer that a parameter belongs to."""
    return name.partition(UP if UP in name else DOWN)[0]


def _neighbours_together(trained: list[tuple[str, nn.Parameter]]) -> list[tuple[str, nn.Parameter]]:
    places = {name: i for i, group in enumerate(neighbours(dict.fromkeys(layer_of(n) for n, _ in trained)))
              for name in group}  # fmt: skip
    return sorted(trained, key=lambda each: places[layer_of(each[0])])


def _laid_out(sizes: Sequence[tuple[str, int]]) -> tuple[list[slice], int, int]:
    """(places, where the first B begins, the end); each B, and the first A of neighbours, is aligned."""
    spans: list[slice] = []
    middle = end = 0
    group: object = None
    for name, size in sizes:
        parent, _, own = layer_of(name).rpartition(".")
        mine = (parent, next((s for s in SHARING if own in s), own))
        if UP in name and (not spans or not middle):
            middle = end = _aligned(end)
        elif UP in name or mine != group:
            end = _aligned(end)
        spans.append(slice(end, end + size))
        end, group = end + size, mine
    return spans, middle, _aligned(end)


def _aligned(place: int) -> int:
    return math.ceil(place / ALIGNED) * ALIGNED
