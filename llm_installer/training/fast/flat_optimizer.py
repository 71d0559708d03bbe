"""What an optimizer is given in the place of flat adapters, and what follows: gradients, clipping and checkpoints.

Delete with flat.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        self._rest = [p for n, p in model.named_parameters() if p.requires_grad and id(p) not in self._parts]
        self._members: list[list[Member]] = []
        self.leaves: tuple[nn.Parameter, ...] = ()
        """What the optimizer moves in the place of adapters; none where it moves each by itself."""

    def take(self, groups: list[dict[str, object]], elementwise: bool) -> None:
        """Put the tensor that adapters lie in into an optimizer's groups, in their place."""
        alike = elementwise and self.flat.attached
        self.leaves = self.flat.leaves(len(groups) > 1) if alike else ()
        self._members = [
            [
                self._member(p, self.leaves and self.leaves[-1 if number else 0])
                for p in cast(list[nn.Parameter], g[PARAMS])
            ]
            for number, g in enumerate(groups)
        ]
        for group, members in zip(groups, self._members, strict=True):
            group[PARAMS] = list(dict.fromkeys(member.leaf for member in members))

    def _member(self, parameter: nn.Parameter, leaf: nn.Parameter | tuple[()]) -> Member:
        part = self._parts.get(id(parameter))
        if part is None or isinstance(leaf, tuple):
            return Member(parameter, parameter)
        start = part.span.start if leaf is self.leaves[0] else part.span.start - self.flat.middle
        return Member(parameter, leaf, slice(start, start + parameter.numel()))

    def stepped(self, *_args: object) -> None:
        """The optimizer has taken a step: the copies are made again."""
        self.flat.refresh()

    def zero_grad(self) -> None:
        """No gradient any longer: zero in the one tensor, none where a parameter is by itself."""
        if self.flat.attached:
            self.flat.collect()
            self.flat.zero_grad()
        for parameter in self._rest if self.flat.attached else (*self._rest, *self._alone()):
            parameter.grad = None

    def clip(self, most: float) -> Tensor:
        """Scale gradients above this norm down to it; the norm before that, made of the norms of PEFT's parameters:
        so it is the same number as without one tensor."""
        self.flat.collect()
        grads = [p.grad for p in (*self._alone(), *self._rest) if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        moved = self._together() if self.flat.attached else self._alone()
        torch.nn.utils.clip_grads_with_norm_([*moved, *self._rest], most, norm)
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

    def _alone(self) -> Sequence[nn.Parameter]:
        return [part.parameter for part in self.flat.parts.values()]

    def _together(self) -> list[nn.Parameter]:
        return [self.flat.leaf]
