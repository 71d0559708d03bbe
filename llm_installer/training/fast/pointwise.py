"""Which modules take the gates and norms that keep less and make their gradient in place.

Each replaces the forward of one module only after it has agreed with that module's own forward on random input.
Delete with gates.py and norms.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from llm_installer.training.fast.compiled import BROKEN, Compiler
from llm_installer.training.fast.gates import gated_forward
from llm_installer.training.fast.lora import replace_forward
from llm_installer.training.fast.norms import norm_forward

Unary: TypeAlias = Callable[[Tensor], Tensor]
Make: TypeAlias = Callable[[nn.Module, "Compiler | None"], "Unary | None"]


def fuse_pointwise(model: nn.Module, compiler: Compiler | None = None) -> list[str]:
    """Replace what can be replaced, compiled where there is a compiler; sentences that say so."""
    found: Counter[str] = Counter()
    for module in model.modules():
        if "forward" in vars(module):
            continue
        for kind, make in (("gates", gated_forward), ("norms", norm_forward)):
            chosen = _first_that_agrees(module, make, compiler)
            if chosen:
                replace_forward(module, chosen[1])
                found[kind] += 1
                found["compiled"] += chosen[0]
    replaced = found["gates"] + found["norms"]
    if not replaced:
        return []
    notes = [f"memory-saving gates in {found['gates']} layers and {found['norms']} memory-saving norms"]
    if compiler:
        notes.append(f"{found['compiled']} of these {replaced} compiled")
    return notes


def _first_that_agrees(module: nn.Module, make: Make, compiler: Compiler | None) -> tuple[bool, Unary] | None:
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


def _agrees(module: nn.Module, forward: Unary) -> bool:
    """Whether both forwards give the same on a few random rows, and the same gradient."""
    weight, dtype, width = _input_of(module)
    random = torch.Generator().manual_seed(0)
    x, outer = (torch.randn(1, 3, width, generator=random).to(weight.device, dtype) for _ in range(2))
    loose = 1e-5 if dtype == torch.float32 else 2e-2
    with torch.enable_grad():
        pairs = zip(_with_gradient(module.forward, x, outer), _with_gradient(forward, x, outer), strict=True)
        return all(bool((plain - own).norm() <= loose * plain.norm()) for plain, own in pairs)


def _input_of(module: nn.Module) -> tuple[Tensor, torch.dtype, int]:
    """(a weight, the type of the input, its width) of a norm or a gated MLP."""
    gate = getattr(module, "gate_proj", None)
    layer = module if hasattr(module, "weight") else getattr(gate, "base_layer", gate)
    weight: Tensor = cast(nn.Linear, layer).weight
    # Quantised weights say nothing of the type of what they are multiplied by; their layer may.
    dtype = weight.dtype if weight.dtype.is_floating_point else getattr(layer, "compute_dtype", torch.float32)
    return weight, dtype, int(getattr(layer, "in_features", weight.shape[-1]))


def _with_gradient(forward: Unary, x: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """The result and the gradient by the input, in float32."""
    leaf = x.clone().requires_grad_()
    result = forward(leaf)
    (gradient,) = torch.autograd.grad(result, leaf, outer)
    return result.detach().float(), gradient.float()
