"""What an optimizer is given in the place of flat adapters, and what follows: gradients, clipping and checkpoints.

Delete with flat.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor, nn

from llm_installer.training.fast.flat import FlatAdapters
from llm_installer.training.fast.flat_state import PARAMS, Member, State, joined, separate


def separate_gradients(model: PeftModel, flat: FlatAdapters) -> str:
    """Why each adapter keeps a gradient of its own; empty where every step reaches every adapter. One that a step does
    not reach has no gradient, and its optimizer leaves it out; as a part of one tensor it would be zero, and move."""
    if any(".experts." in name for name in flat.parts):
        return "adapters are separate tensors: an expert that no token reaches is left out of a step"
    if hasattr(model.get_base_model().config, "vision_config"):
        return "adapters are separate tensors: a step without images may leave layers out"
    return ""


class FlatOptimizer:
    """Flat adapters beside an optimizer: of one tensor where it can tell no difference, else of PEFT's parameters.

    What is no A and no B (a row of a token, DoRA's magnitudes, a layer that is trained as it is) is by itself in any
    case: there are few, and PEFT may put others in their place.
    """

    def __init__(self, model: PeftModel, flat: FlatAdapters, reason: str = "") -> None:
        self.flat, self.reason = flat, reason
        self._parts = {id(part.parameter): part for part in flat.parts.values()}
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._rest = [p for p in self._trained if id(p) not in self._parts]
        self._members: list[list[Member]] = []
        self.leaves: tuple[nn.Parameter, ...] = ()
        """What the optimizer moves in the place of adapters; none where it moves each by itself."""

    def take(self, groups: list[dict[str, object]], elementwise: bool) -> None:
        """Put the tensor that adapters lie in into an optimizer's groups, in their place."""
        self.leaves = self.flat.leaves(len(groups) > 1) if elementwise and self.flat.attached else ()
        self._members = [
            [self._member(parameter, number) for parameter in cast(list[nn.Parameter], group[PARAMS])]
            for number, group in enumerate(groups)
        ]
        for group, members in zip(groups, self._members, strict=True):
            group[PARAMS] = list(dict.fromkeys(member.leaf for member in members))

    def _member(self, parameter: nn.Parameter, group: int) -> Member:
        part = self._parts.get(id(parameter))
        if part is None or not self.leaves:
            return Member(parameter, parameter)
        start = part.span.start - (self.flat.middle if group else 0)
        return Member(parameter, self.leaves[group], slice(start, start + parameter.numel()))

    def stepped(self, *_args: object) -> None:
        """The optimizer has taken a step: the copies are made again."""
        self.flat.refresh()

    def zero_grad(self, in_place: bool = False) -> None:
        """No gradient any longer: zero in the one tensor, and none where a parameter is by itself, or zero there too,
        `in_place`."""
        if self.flat.attached:
            self.flat.collect()
            self.flat.zero_grad()
        for parameter in self._by_itself():
            parameter.grad = parameter.grad.zero_() if in_place and parameter.grad is not None else None

    def clip(self, most: float) -> Tensor:
        """Scale gradients above this norm down to it; the norm before that, made of the norms of PEFT's parameters in
        their order: so it is the same number as without one tensor."""
        self.flat.collect()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._trained if p.grad is not None])
        together = [self.flat.leaf] if self.flat.attached else []
        torch.nn.utils.clip_grads_with_norm_([*together, *self._by_itself()], most, norm)
        return norm

    def gradients(self) -> list[Tensor]:
        """All gradients in as few tensors as there are, for an exchange between processes; zero where there is none."""
        self.flat.collect()
        if not self.flat.attached:
            return []
        for parameter in self._rest:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        return [self.flat.gradients, *(cast(Tensor, p.grad) for p in self._rest)]

    def state(self, optimizer: torch.optim.Optimizer) -> State:
        """The optimizer's state as that of separate tensors: the same file either way."""
        return separate(optimizer, self._members)

    def joined(self, saved: Mapping[str, object]) -> State | None:
        """That of a checkpoint, for the optimizer of one tensor; None where its tensors took different steps."""
        return joined(saved, self._members)

    def _by_itself(self) -> list[nn.Parameter]:
        """Parameters whose gradient is their own."""
        return self._rest if self.flat.attached else self._trained
