"""The state of an optimizer of flat adapters, cut into that of separate tensors for a checkpoint, and joined.

A checkpoint is the same file either way, and either way goes on with one of the other. Delete with flat.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

State: TypeAlias = dict[str, object]
"""What an optimizer remembers of one tensor: numbers, and tensors that are as large or single."""
PARAMS = "params"


@dataclass(frozen=True)
class Member:
    """A parameter of a group, as the optimizer would have it by itself."""

    parameter: nn.Parameter
    leaf: nn.Parameter
    """What is optimized in its place: itself, or a tensor in which it is a part."""
    span: slice | None = None
    """Where in that it lies; None where it is by itself."""


def separate(optimizer: torch.optim.Optimizer, groups: Sequence[Sequence[Member]]) -> State:
    """The optimizer's state_dict, as it would be with each member by itself."""
    states: dict[int, State] = {}
    told: list[State] = []
    for group, members in zip(optimizer.param_groups, groups, strict=True):
        ids: list[int] = []
        for member in members:
            number = sum(len(each) for each in groups[: len(told)]) + len(ids)
            ids.append(number)
            if member.leaf in optimizer.state:
                states[number] = dict(_cut(optimizer.state[member.leaf], member))
        told.append({**{k: v for k, v in group.items() if k != PARAMS}, PARAMS: ids})
    return {"state": states, "param_groups": told}


def joined(saved: Mapping[str, object], groups: Sequence[Sequence[Member]]) -> State | None:
    """What `separate` returned, as the optimizer of the leaves reads it; None where that cannot be: its members have
    not taken the same steps."""
    states = cast(dict[int, State], saved["state"])
    made: dict[int, State] = {}
    told: list[State] = []
    number = 0
    for group, members in zip(cast(list[State], saved["param_groups"]), groups, strict=True):
        ids: list[int] = []
        for leaf in dict.fromkeys(m.leaf for m in members):
            own = [(m, states.get(number + i)) for i, m in enumerate(members) if m.leaf is leaf]
            if any(state is not None for _, state in own):
                state = _join(own, leaf)
                if state is None:
                    return None
                made[sum(len(cast(list[int], g[PARAMS])) for g in told) + len(ids)] = state
            ids.append(sum(len(cast(list[int], g[PARAMS])) for g in told) + len(ids))
        number += len(members)
        told.append({**group, PARAMS: ids})
    return {"state": made, "param_groups": told}


def _cut(state: State, member: Member) -> Iterator[tuple[str, object]]:
    for key, value in state.items():
        if not isinstance(value, Tensor) or member.span is None:
            yield key, value
        elif value.dim() == 0:
            yield key, value.clone()
        else:
            yield key, value[member.span].view_as(member.parameter).clone()


def _join(own: Sequence[tuple[Member, State | None]], leaf: nn.Parameter) -> State | None:
    first, state = own[0]
    if first.span is None or state is None:
        return state
    result: State = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.dim():
            result[key] = torch.zeros_like(leaf.detach(), dtype=value.dtype, device=value.device)
        else:
            result[key] = value.clone() if isinstance(value, Tensor) else value
    for member, each in own:
        if each is None or each.keys() != result.keys():
            return None
        for key, value in each.items():
            mine = result[key]
            if isinstance(value, Tensor) and value.dim() and isinstance(mine, Tensor):
                mine[cast(slice, member.span)] = value.flatten()
            elif value != mine:
                return None
    return result
