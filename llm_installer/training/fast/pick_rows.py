"""Some rows of a matrix, none twice but the one past its end: the gradient writes each row once.

Delete when the gradient of index_select can be told that no index comes twice: it adds with atomics, and where many
unused positions name one row, these queue up.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from llm_installer.training.fast.context import Context


def pick_rows(matrix: Tensor, rows: Tensor) -> Tensor:
    """Rows [n, width] of a matrix [count, width]. Row `count` is past its end: what is returned for it is some row's
    numbers, and its gradient is dropped."""
    result: Tensor = _PickRows.apply(matrix, rows)  # type: ignore[no-untyped-call]
    return result


class _PickContext(Context, Protocol):
    shape: torch.Size


class _PickRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _PickContext, matrix: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = matrix.shape
        return matrix.index_select(0, rows.clamp(max=matrix.shape[0] - 1))

    @staticmethod
    def backward(ctx: _PickContext, outer: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        count, width = ctx.shape
        return outer.new_zeros(count + 1, width).index_copy_(0, rows, outer)[:count], None
