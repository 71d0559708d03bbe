"""Gated activations and RMS norms that save less and make their gradient in place.

Each replaces the forward of one module only after it has agreed with that module's own forward on random input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from llm_installer.training.fast.lora import replace_forward

ROWS = 512
"""Rows of a norm worked on at once on a CPU, so that the float32 values stay in the cache."""


def fuse_pointwise(model: nn.Module) -> tuple[list[Callable[[], None]], list[str]]:
    """Replace what can be replaced: how to undo it, and a sentence for each kind."""
    undo: list[Callable[[], None]] = []
    gates = norms = 0
    for module in model.modules():
        for forward in (_gated_forward(module), _norm_forward(module)):
            if forward is not None and _agrees(module, forward):
                undo.append(replace_forward(module, forward))
                gates, norms = gates + hasattr(module, "act_fn"), norms + (not hasattr(module, "act_fn"))
    return undo, [f"lean gates in {gates} layers and {norms} lean norms"] if gates or norms else []


def _gated_forward(module: Any) -> Callable[[Tensor], Tensor] | None:
    """The forward of a gated MLP, or None when this is none."""
    if not all(isinstance(getattr(module, n, None), nn.Module) for n in ("gate_proj", "up_proj", "down_proj")):
        return None
    kind = ACTIVATIONS.get(type(getattr(module, "act_fn", None)).__name__)
    if kind is None:
        return None

    def forward(x: Tensor) -> Tensor:
        inner: Tensor = _Gate.apply(module.gate_proj(x), module.up_proj(x), kind)  # type: ignore[no-untyped-call]
        result: Tensor = module.down_proj(inner)
        return result

    return forward


ACTIVATIONS = {"SiLU": "silu", "SiLUActivation": "silu", "GELUTanh": "tanh", "PytorchGELUTanh": "tanh"}
"""Class of an activation to the form computed here."""


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.kind = kind
        return (silu(gate) if kind == "silu" else gelu(gate, approximate="tanh")).mul_(up)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, None]:
        """The saved tensors become gradients in place: nothing else holds them, and a second pass would say so."""
        gate, up = ctx.saved_tensors
        if ctx.kind == "silu":
            for_up = silu(gate).mul_(outer)
            inner = up.mul_(outer)
            return torch.ops.aten.silu_backward.grad_input(inner, gate, grad_input=gate), for_up, None
        for_up = gelu(gate, approximate="tanh").mul_(outer)
        inner = up.mul_(outer)
        return torch.ops.aten.gelu_backward(inner, gate, approximate="tanh"), for_up, None


def _norm_forward(module: Any) -> Callable[[Tensor], Tensor] | None:
    """The forward of a frozen RMS norm, or None when this is none."""
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or weight is None or epsilon is None or weight.requires_grad:
        return None
    gemma = not hasattr(module, "variance_epsilon")  # Gemma keeps weight - 1, and casts after the product

    def forward(x: Tensor) -> Tensor:
        result: Tensor = _Norm.apply(x, weight, float(epsilon), gemma)  # type: ignore[no-untyped-call]
        return result

    return forward


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, gemma: bool) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        result = torch.empty_like(flat)
        spread = flat.new_empty(len(flat), 1, dtype=torch.float32)
        factor = weight.float().add(1.0) if gemma else weight
        for rows in _spans(flat):
            wide = flat[rows].float()
            torch.mean(wide.square(), -1, keepdim=True, out=spread[rows])
            spread[rows].add_(epsilon).rsqrt_()
            if wide.data_ptr() == flat[rows].data_ptr():
                wide = wide * spread[rows]
            else:
                wide.mul_(spread[rows])
            if gemma:
                result[rows] = wide.mul_(factor)
            else:
                torch.mul(wide.to(flat.dtype), factor, out=result[rows])
        ctx.save_for_backward(x, weight, spread)
        ctx.gemma = gemma
        return result.view(x.shape)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight, spread = ctx.saved_tensors
        flat, g = x.reshape(-1, x.shape[-1]), outer.reshape(-1, x.shape[-1])
        factor = weight.float().add(1.0) if ctx.gemma else weight.float()
        result = torch.empty_like(flat)
        for rows in _spans(flat):
            scaled, wide, root = g[rows].float() * factor, flat[rows].float(), spread[rows]
            # root * (scaled - x * root^2 * mean(scaled * x)), in few passes
            shared = (scaled * wide).mean(-1, keepdim=True).mul_(root).mul_(root)
            result[rows] = scaled.addcmul_(wide, shared, value=-1).mul_(root)
        return result.view(x.shape), None, None, None


def _spans(flat: Tensor) -> list[slice]:
    step = ROWS if flat.device.type == "cpu" else max(1, len(flat))
    return [slice(start, start + step) for start in range(0, len(flat), step)]


@torch.no_grad()
def _agrees(module: Any, forward: Callable[[Tensor], Tensor]) -> bool:
    """Whether both forwards give the same on a few random rows."""
    layer = module if hasattr(module, "weight") else getattr(module.gate_proj, "base_layer", module.gate_proj)
    weight: Tensor = layer.weight
    # Quantised weights say nothing of the type of what they are multiplied by; their layer may.
    dtype = weight.dtype if weight.dtype.is_floating_point else getattr(layer, "compute_dtype", torch.float32)
    width = int(getattr(layer, "in_features", weight.shape[-1]))
    x = torch.randn(1, 3, width, generator=torch.Generator().manual_seed(0)).to(weight.device, dtype)
    plain, own = module.forward(x).float(), forward(x).float()
    loose = 1e-5 if dtype == torch.float32 else 2e-2
    return bool((plain - own).norm() <= loose * plain.norm())
