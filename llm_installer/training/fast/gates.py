"""Gated activations, act(gate) * up, that keep only gate and up, and make their gradients in the same memory.

Delete when transformers' MLPs, or torch's autograd, do not keep act(gate) as well: 2 bytes for each number in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from llm_installer.training.fast.compiled import Compiler, compiled
from llm_installer.training.fast.context import Context

ACTIVATIONS = {"SiLU": "silu", "SiLUActivation": "silu", "GELUTanh": "tanh", "PytorchGELUTanh": "tanh"}
"""Class of an activation to the form computed here."""


@dataclass(frozen=True)
class Gate:
    """One way to compute a gated activation."""

    forward: Callable[[Tensor, Tensor], Tensor]
    """act(gate) * up, of gate and up."""
    backward: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    """The gradients by gate and up, of the output's gradient, gate and up, whose memory it may use."""


class GatedMLP(Protocol):
    """A module with the layers of a gated MLP."""

    gate_proj: Callable[[Tensor], Tensor]
    up_proj: Callable[[Tensor], Tensor]
    down_proj: Callable[[Tensor], Tensor]


def gated_mlp(module: nn.Module) -> tuple[GatedMLP, str] | None:
    """(the module, the form of its activation) where it is a gated MLP of a form that is known here."""
    if not all(isinstance(getattr(module, n, None), nn.Module) for n in ("gate_proj", "up_proj", "down_proj")):
        return None
    form = ACTIVATIONS.get(type(getattr(module, "act_fn", None)).__name__)
    return (cast(GatedMLP, module), form) if form else None


def gated_forward(module: nn.Module, compiler: Compiler | None) -> Callable[[Tensor], Tensor] | None:
    """The forward of a gated MLP, compiled where there is a compiler; None for any other module."""
    found = gated_mlp(module)
    if found is None:
        return None
    mlp, form = found
    gate = compiler.once(("gate", form), lambda: compiled_gate(form)) if compiler else GATES[form]

    def forward(x: Tensor) -> Tensor:
        inner: Tensor = _Gate.apply(mlp.gate_proj(x), mlp.up_proj(x), gate)  # type: ignore[no-untyped-call]
        return mlp.down_proj(inner)

    return forward


class _GateContext(Context, Protocol):
    gate: Gate


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _GateContext, gate: Tensor, up: Tensor, formula: Gate) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.gate = formula
        return formula.forward(gate.detach(), up.detach())

    @staticmethod
    def backward(ctx: _GateContext, outer: Tensor) -> tuple[Tensor, Tensor, None]:
        """The saved tensors become gradients in place: nothing else holds them, and a second pass would say so."""
        gate, up = ctx.saved_tensors
        return (*ctx.gate.backward(outer, gate.detach(), up.detach()), None)


def _silu_gradients(outer: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    for_up = silu(gate).mul_(outer)
    inner = up.mul_(outer)
    return torch.ops.aten.silu_backward.grad_input(inner, gate, grad_input=gate), for_up


def _tanh_gradients(outer: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    for_up = gelu(gate, approximate="tanh").mul_(outer)
    inner = up.mul_(outer)
    return torch.ops.aten.gelu_backward(inner, gate, approximate="tanh"), for_up


GATES = {
    "silu": Gate(lambda gate, up: silu(gate).mul_(up), _silu_gradients),
    "tanh": Gate(lambda gate, up: gelu(gate, approximate="tanh").mul_(up), _tanh_gradients),
}


def compiled_gate(form: str) -> Gate:
    """A gate in one pass over memory forward and one backward."""

    def forward(gate: Tensor, up: Tensor) -> Tensor:
        return (silu(gate) if form == "silu" else gelu(gate, approximate="tanh")) * up

    def backward(outer: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        if form == "silu":
            for_gate, active = torch.ops.aten.silu_backward(outer * up, gate), silu(gate)
        else:
            for_gate = torch.ops.aten.gelu_backward(outer * up, gate, approximate="tanh")
            active = gelu(gate, approximate="tanh")
        for_up = outer * active
        gate.copy_(for_gate)
        up.copy_(for_up)
        return gate, up

    return Gate(compiled(forward), compiled(backward))
