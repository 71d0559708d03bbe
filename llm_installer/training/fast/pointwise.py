"""Gated activations and RMS norms that save less and make their gradient in place.

Each replaces the forward of one module only after it has agreed with that module's own forward on random input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from llm_installer.training.fast.compiled import BROKEN, Compiler, compiled
from llm_installer.training.fast.cpu.scratch import scratch
from llm_installer.training.fast.lora import replace_forward

ROWS = 512
"""Rows of a norm worked on at once on a CPU, so that the float32 values stay in the cache."""


@dataclass(frozen=True)
class Way:
    """One way to compute a formula and its gradient."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


def fuse_pointwise(model: nn.Module, compiler: Compiler | None = None) -> tuple[list[Callable[[], None]], list[str]]:
    """Replace what can be replaced, compiled where there is a compiler: how to undo it, and sentences that say so."""
    undo: list[Callable[[], None]] = []
    found: Counter[str] = Counter()
    for module in model.modules():
        if "forward" in vars(module):
            continue
        for kind, make in (("gates", _gated_forward), ("norms", _norm_forward)):
            chosen = _first_that_agrees(module, make, compiler)
            if chosen:
                undo.append(replace_forward(module, chosen[1]))
                found[kind] += 1
                found["compiled"] += chosen[0]
    if not undo:
        return [], []
    notes = [f"lean gates in {found['gates']} layers and {found['norms']} lean norms"]
    if compiler:
        notes.append(f"{found['compiled']} of these {len(undo)} compiled")
    return undo, notes


Forward: TypeAlias = Callable[[Tensor], Tensor]


def _first_that_agrees(
    module: nn.Module, make: Callable[[Any, Compiler | None], Forward | None], compiler: Compiler | None
) -> tuple[bool, Forward] | None:
    """(whether it is compiled, the forward) of the best way that gives what the module itself gives."""
    for way in (compiler, None) if compiler else (None,):
        forward = make(module, way)
        if forward is None:
            return None
        try:
            if _agrees(module, forward):
                return way is not None, forward
        except BROKEN:
            if way is None:
                raise
    return None


def _gated_forward(module: Any, compiler: Compiler | None) -> Forward | None:
    """The forward of a gated MLP, or None when this is none."""
    if not all(isinstance(getattr(module, n, None), nn.Module) for n in ("gate_proj", "up_proj", "down_proj")):
        return None
    kind = ACTIVATIONS.get(type(getattr(module, "act_fn", None)).__name__)
    if kind is None:
        return None
    way = compiler.once(("gate", kind), lambda: compiled_gate(kind)) if compiler else GATES[kind]

    def forward(x: Tensor) -> Tensor:
        inner: Tensor = _Gate.apply(module.gate_proj(x), module.up_proj(x), way)  # type: ignore[no-untyped-call]
        result: Tensor = module.down_proj(inner)
        return result

    return forward


ACTIVATIONS = {"SiLU": "silu", "SiLUActivation": "silu", "GELUTanh": "tanh", "PytorchGELUTanh": "tanh"}
"""Class of an activation to the form computed here."""


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, way: Way) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.way = way
        result: Tensor = way.forward(gate.detach(), up.detach())
        return result

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, None]:
        """The saved tensors become gradients in place: nothing else holds them, and a second pass would say so."""
        gate, up = ctx.saved_tensors
        return (*ctx.way.backward(outer, gate.detach(), up.detach()), None)


def _silu_gradients(outer: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    for_up = silu(gate).mul_(outer)
    inner = up.mul_(outer)
    return torch.ops.aten.silu_backward.grad_input(inner, gate, grad_input=gate), for_up


def _tanh_gradients(outer: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    for_up = gelu(gate, approximate="tanh").mul_(outer)
    inner = up.mul_(outer)
    return torch.ops.aten.gelu_backward(inner, gate, approximate="tanh"), for_up


GATES = {
    "silu": Way(lambda gate, up: silu(gate).mul_(up), _silu_gradients),
    "tanh": Way(lambda gate, up: gelu(gate, approximate="tanh").mul_(up), _tanh_gradients),
}


def compiled_gate(kind: str) -> Way:
    """A gate in one pass forward and one backward."""

    def forward(gate: Tensor, up: Tensor) -> Tensor:
        return (silu(gate) if kind == "silu" else gelu(gate, approximate="tanh")) * up

    def backward(outer: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        if kind == "silu":
            slope, active = torch.ops.aten.silu_backward(outer * up, gate), silu(gate)
        else:
            slope = torch.ops.aten.gelu_backward(outer * up, gate, approximate="tanh")
            active = gelu(gate, approximate="tanh")
        for_up = outer * active
        gate.copy_(slope)
        up.copy_(for_up)
        return gate, up

    return Way(compiled(forward), compiled(backward))


def _norm_forward(module: Any, compiler: Compiler | None) -> Forward | None:
    """The forward of a frozen RMS norm, or None when this is none."""
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or weight is None or epsilon is None or weight.requires_grad:
        return None
    gemma = not hasattr(module, "variance_epsilon")  # Gemma keeps weight - 1, and casts after the product
    key = (float(epsilon), gemma)
    way = compiler.once(("norm", *key), lambda: compiled_norm(*key)) if compiler else eager_norm(*key)

    def forward(x: Tensor) -> Tensor:
        result: Tensor = _Norm.apply(x, weight, way)  # type: ignore[no-untyped-call]
        return result

    return forward


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, way: Way) -> Tensor:
        result, spread = way.forward(x.detach().reshape(-1, x.shape[-1]), weight)
        ctx.save_for_backward(x, weight, spread)
        ctx.way = way
        shaped: Tensor = result.view(x.shape)
        return shaped

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        x, weight, spread = ctx.saved_tensors
        width = x.shape[-1]
        return (
            ctx.way.backward(outer.reshape(-1, width), x.detach().reshape(-1, width), weight, spread).view(x.shape),
            None,
            None,
        )


def eager_norm(epsilon: float, gemma: bool) -> Way:
    """A norm over some rows at a time: (result, 1 / root of mean square), and the gradient by its input."""

    def forward(flat: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        result = torch.empty_like(flat)
        spread = flat.new_empty(len(flat), 1, dtype=torch.float32)
        factor = weight.float().add(1.0) if gemma else weight
        for rows in _spans(flat):
            wide = _wide("norm", flat[rows])
            torch.mean(torch.mul(wide, wide, out=_like("norm square", wide)), -1, keepdim=True, out=spread[rows])
            wide.mul_(spread[rows].add_(epsilon).rsqrt_())
            if gemma:
                result[rows] = wide.mul_(factor)
            else:
                result[rows].copy_(wide).mul_(factor)
        return result, spread

    def backward(outer: Tensor, flat: Tensor, weight: Tensor, spread: Tensor) -> Tensor:
        factor = weight.float().add(1.0) if gemma else weight.float()
        result = torch.empty_like(flat)
        for rows in _spans(flat):
            scaled, wide, root = _wide("norm slope", outer[rows]).mul_(factor), _wide("norm", flat[rows]), spread[rows]
            # root * (scaled - x * root^2 * mean(scaled * x)), in few passes
            product = torch.mul(scaled, wide, out=_like("norm square", wide))
            shared = product.mean(-1, keepdim=True).mul_(root).mul_(root)
            result[rows] = scaled.addcmul_(wide, shared, value=-1).mul_(root)
        return result

    return Way(forward, backward)


def compiled_norm(epsilon: float, gemma: bool) -> Way:
    """The same in one pass forward and one backward."""

    def forward(flat: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        wide = flat.float()
        spread = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        if gemma:
            return (wide * spread * (weight.float() + 1.0)).to(flat.dtype), spread
        return (wide * spread).to(flat.dtype) * weight, spread

    def backward(outer: Tensor, flat: Tensor, weight: Tensor, spread: Tensor) -> Tensor:
        scaled = outer.float() * (weight.float() + 1.0 if gemma else weight.float())
        wide = flat.float()
        shared = (scaled * wide).mean(-1, keepdim=True) * spread * spread
        return ((scaled - wide * shared) * spread).to(flat.dtype)

    return Way(compiled(forward), compiled(backward))


def _wide(name: str, source: Tensor) -> Tensor:
    """A copy in float32, to be changed."""
    if source.device.type == "cpu":
        return scratch.copy(name, source, torch.float32)
    return source.to(torch.float32, copy=True)


def _like(name: str, other: Tensor) -> Tensor:
    """As large, with anything in it."""
    if other.device.type == "cpu":
        return scratch.take(name, other.dtype, *other.shape)
    return torch.empty_like(other)


def _spans(flat: Tensor) -> list[slice]:
    step = ROWS if flat.device.type == "cpu" else max(1, len(flat))
    return [slice(start, start + step) for start in range(0, len(flat), step)]


def _agrees(module: Any, forward: Forward) -> bool:
    """Whether both forwards give the same on a few random rows, and the same gradient."""
    layer = module if hasattr(module, "weight") else getattr(module.gate_proj, "base_layer", module.gate_proj)
    weight: Tensor = layer.weight
    # Quantised weights say nothing of the type of what they are multiplied by; their layer may.
    dtype = weight.dtype if weight.dtype.is_floating_point else getattr(layer, "compute_dtype", torch.float32)
    width, random = int(getattr(layer, "in_features", weight.shape[-1])), torch.Generator().manual_seed(0)
    x, outer = (torch.randn(1, 3, width, generator=random).to(weight.device, dtype) for _ in range(2))
    loose = 1e-5 if dtype == torch.float32 else 2e-2
    with torch.enable_grad():
        pairs = zip(_with_gradient(module.forward, x, outer), _with_gradient(forward, x, outer), strict=True)
        return all((plain - own).norm() <= loose * plain.norm() for plain, own in pairs)


def _with_gradient(forward: Forward, x: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """The result and the gradient by the input, in float32."""
    leaf = x.clone().requires_grad_()
    result = forward(leaf)
    (gradient,) = torch.autograd.grad(result, leaf, outer)
    return result.detach().float(), gradient.float()
