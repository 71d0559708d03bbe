"""Two passes over memory that float8 products need on an NVIDIA GPU, as Triton kernels: a cast and a transpose.

PyTorch's operations do the same in several passes (a cast reads and writes 13 bytes for each 16-bit number in place of
5), and turn a matrix of bytes around one byte at a time. Each kernel is tried against them before its first use.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
FAILURES = (ImportError, RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError)
"""What Triton and its compiler raise where they cannot be used."""
WIDEST = 65536
"""Columns of the longest row that one program holds."""
_scratch: dict[torch.device, Tensor] = {}


def cast_quickly(x: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """What models.float8.cast_rows returns, in one pass; None where that cannot be used."""
    if x.shape[-1] > WIDEST or not x.is_contiguous() or (kernels := _kernels()) is None:
        return None
    return _cast(kernels, x, factors)


def turn_quickly(weight: Tensor) -> Tensor:
    """A float8 matrix transposed into memory that all layers share: the next call writes over it."""
    rows, columns = weight.shape
    place = _scratch.get(weight.device)
    if place is None or place.numel() < weight.numel():
        place = _scratch[weight.device] = torch.empty(weight.numel(), dtype=torch.uint8, device=weight.device)
    turned = place[: weight.numel()].view(columns, rows)
    if (kernels := _kernels()) is None:
        turned.copy_(weight.view(torch.uint8).t())
    else:
        _turn(kernels, weight.view(torch.uint8), turned)
    return turned.view(E4M3)


def _cast(kernels: ModuleType, x: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor]:
    rows, columns = x.shape
    rounded = torch.empty(rows, columns, dtype=E4M3, device=x.device)
    scale = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    kernels.cast_rows(x, factors, rounded, scale)
    return rounded, scale


def _turn(kernels: ModuleType, matrix: Tensor, turned: Tensor) -> None:
    kernels.turn(matrix, turned)


@lru_cache(maxsize=1)
def _kernels() -> ModuleType | None:
    """The kernels, where there is Triton and they agree with PyTorch's operations on this GPU."""
    if find_spec("triton") is None:
        return None
    try:
        found = import_module("llm_installer.models.float8_triton")
        return found if agree(found, "cuda") else None
    except FAILURES:
        return None


def agree(kernels: ModuleType, device: str) -> bool:
    """Whether the kernels do what PyTorch's operations do, on a matrix whose sides are no multiples of a block's."""
    values = torch.linspace(-3.0, 5.0, 80 * 144, device=device).view(80, 144).bfloat16()
    factors = torch.linspace(0.5, 2.0, 144, device=device)[None]
    for given in (None, factors):
        rounded, scale = _cast(kernels, values, given)
        wide = values.float() if given is None else values * given
        off = (rounded.float() * scale - wide).abs() > wide.abs() / 16 + scale * 2**-9
        if bool(off.any()):
            return False
    matrix = values.to(E4M3).view(torch.uint8)
    turned = torch.empty(144, 80, dtype=torch.uint8, device=device)
    _turn(kernels, matrix, turned)
    return torch.equal(turned, matrix.t())
