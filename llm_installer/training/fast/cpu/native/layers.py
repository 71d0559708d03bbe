"""The kernels in C that a planned decoder layer is computed with, on bfloat16 tensors that are parts of others.

Delete with functions.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llm_installer.training.fast.cpu.native.calls import call, own
from llm_installer.training.fast.cpu.native.functions import GATES
from llm_installer.training.fast.layer_kernels import Form, LayerKernels


def layer_kernels() -> LayerKernels:
    """The set, where the library is there."""
    return LayerKernels(_norm, _norm_back, _rotary, _rotary_back, _gate, _gate_back)


def _norm(x: Tensor, weight: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    flat, result = own(x), torch.empty_like(x)
    spread = torch.empty(len(x), dtype=torch.float32)
    call("norm_forward", flat, own(weight), result, spread, *x.shape, form.epsilon, form.offset, form.early)
    return result, spread


def _norm_back(outer: Tensor, x: Tensor, weight: Tensor, spread: Tensor, form: Form, more: Tensor) -> Tensor:
    given, plus, gradient = own(outer), own(more.contiguous()), torch.empty_like(x)
    call("norm_backward_onto", given, own(x), own(weight), spread, plus, gradient, *x.shape, form.offset)
    return gradient


def _rotary(buffer: Tensor, heads: int, width: int, cos: Tensor, sin: Tensor) -> None:
    own(buffer)
    length, row = cos.shape[1], buffer.shape[1]
    rows = len(buffer) // length
    angles = own(cos.contiguous()), own(sin.contiguous())
    call("turn", buffer, buffer, *angles, rows, length, heads, width, row, width, row, len(cos), False)


def _rotary_back(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    rows, _, length, width = dq.shape
    row = sum(t.shape[1] for t in (dq, dk, dv)) * width
    buffer = torch.empty(rows * length, row, dtype=dq.dtype)
    angles, at = (own(cos.contiguous()), own(sin.contiguous())), 0
    for given in (dq, dk):
        tokens = _by_token(given)
        heads, place = tokens.shape[1], buffer[:, at:]
        token, head, _ = tokens.stride()
        call("turn", tokens, place, *angles, rows, length, heads, width, token, head, row, len(cos), True)
        at += heads * width
    buffer[:, at:].view(rows, length, -1, width).copy_(dv.transpose(1, 2))
    return buffer


def _by_token(given: Tensor) -> Tensor:
    """[tokens, heads, numbers of a head one after the other]."""
    if given.dtype != torch.bfloat16 or given.device.type != "cpu":
        raise TypeError(f"the kernels take bfloat16 on the CPU, not {given.dtype} on {given.device.type}")
    tokens = given.transpose(1, 2).flatten(0, 1)
    return tokens if tokens.stride(-1) == 1 else tokens.contiguous()


def _gate(both: Tensor, form: str) -> Tensor:
    result = torch.empty(len(both), both.shape[1] // 2, dtype=both.dtype)
    call("gate_rows", own(both), result, *result.shape, GATES[form])
    return result


def _gate_back(outer: Tensor, both: Tensor, form: str) -> None:
    call("gate_rows_back", own(outer), own(both), *outer.shape, GATES[form])
