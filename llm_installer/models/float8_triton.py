"""The Triton kernels that float8_kernels.py offers; loaded only where there is Triton."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

TILE = 64


def cast_rows(x: Tensor, factors: Tensor | None, rounded: Tensor, scale: Tensor) -> None:
    """Write the rows of `x`, times `factors` where they are given, as float8 into `rounded`, and their scales."""
    rows, columns = x.shape
    block = triton.next_power_of_2(columns)
    warps = 4 if block <= 4096 else 8 if block <= 16384 else 16
    _cast_rows[(rows,)](x, factors, rounded, scale, columns, block, num_warps=warps)


def turn(matrix: Tensor, turned: Tensor) -> None:
    """Write the transpose of a matrix of bytes."""
    rows, columns = matrix.shape
    _turn[(triton.cdiv(rows, TILE), triton.cdiv(columns, TILE))](matrix, turned, rows, columns, TILE)


@triton.jit  # type: ignore[untyped-decorator]
def _cast_rows(x, factors, rounded, scale, columns, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, block)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    if factors is not None:
        values = values * tl.load(factors + at, mask=inside, other=0.0)
    # A value that is not a number gives such a scale: tl.max would drop it.
    strange = tl.sum((values != values).to(tl.float32), 0)
    most = tl.maximum(tl.max(tl.abs(values), 0), 1e-12) / 448.0
    most = tl.where(strange > 0, float("nan"), most)
    tl.store(scale + row, most)
    tl.store(rounded + row * columns + at, (values / most).to(tl.float8e4nv), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _turn(matrix, turned, rows, columns, tile: tl.constexpr):  # type: ignore[no-untyped-def]
    down = tl.program_id(0) * tile + tl.arange(0, tile)
    across = tl.program_id(1) * tile + tl.arange(0, tile)
    inside = (down[:, None] < rows) & (across[None, :] < columns)
    values = tl.load(matrix + down[:, None] * columns + across[None, :], mask=inside, other=0)
    tl.store(turned + across[:, None] * rows + down[None, :], tl.trans(values), mask=tl.trans(inside))
