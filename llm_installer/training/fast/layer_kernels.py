"""What a planned decoder layer computes between its products, on tensors that are parts of others.

Queries, keys and values are parts of one buffer [tokens, widths], and so are gate and up: kernels take them as they
lie, and write gradients side by side, so that what follows is one product. Here with PyTorch's operations; the kernels
in C have a row of their own in cpu/native/layers.py.
Delete with layers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from llm_installer.training.fast.compiled import Compiler
from llm_installer.training.fast.gates import Gate, compiled_gate
from llm_installer.training.fast.norms import Norm, compiled_norm, eager_norm


@dataclass(frozen=True)
class Form:
    """How a family normalises: epsilon, what is added to the weight, and whether it casts before the product."""

    epsilon: float
    offset: float
    early: bool


@dataclass(frozen=True)
class LayerKernels:
    """The parts of a layer that are no products."""

    norm: Callable[[Tensor, Tensor, Form], tuple[Tensor, Tensor]]
    """(result, what the gradient needs) of rows [tokens, width], a weight and the form."""
    norm_back: Callable[[Tensor, Tensor, Tensor, Tensor, Form, Tensor], Tensor]
    """The gradient by the rows, of the result's, rows, weight, what the forward kept, form, and a gradient to add."""
    rotary: Callable[[Tensor, int, int, Tensor, Tensor], None]
    """Turns the first heads of a buffer [tokens, widths] in place: so many, of so many numbers, by cosines and sines
    [rows or 1, length, numbers]."""
    rotary_back: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    """The gradient by the buffer, of those by queries, keys and values [rows, heads, length, numbers]."""
    gate: Callable[[Tensor, str], Tensor]
    """Of gate and up [tokens, 2 x inner], by the form of the activation."""
    gate_back: Callable[[Tensor, Tensor, str], None]
    """Of the result's gradient; gate and up become the gradients by them."""


def torch_kernels(compiler: Compiler | None = None) -> LayerKernels:
    """By PyTorch's operations; the formulas compiled where there is a compiler."""

    def of(form: Form) -> Norm:
        key = (form.epsilon, not form.early)
        return compiler.once(("norm", *key), lambda: compiled_norm(*key)) if compiler else eager_norm(*key)

    def norm(x: Tensor, weight: Tensor, form: Form) -> tuple[Tensor, Tensor]:
        return of(form).forward(x, weight)

    def norm_back(outer: Tensor, x: Tensor, weight: Tensor, root: Tensor, form: Form, more: Tensor) -> Tensor:
        return of(form).backward(outer, x, weight, root).add_(more)

    def gate_of(form: str) -> Gate:
        return compiler.once(("gate", form), lambda: compiled_gate(form)) if compiler else GATES[form]

    def gate(both: Tensor, form: str) -> Tensor:
        return gate_of(form).forward(*both.chunk(2, 1))

    def gate_back(outer: Tensor, both: Tensor, form: str) -> None:
        gate_of(form).backward(outer, *both.chunk(2, 1))

    return LayerKernels(norm, norm_back, _rotary, _rotary_back, gate, gate_back)


def heads_first(buffer: Tensor, first: int, heads: int, width: int, rows: int) -> Tensor:
    """Some heads of a buffer [tokens, widths], from the `first` on, as [rows, heads, length, width]."""
    row = buffer.stride(0)
    length = len(buffer) // rows
    return buffer.as_strided((rows, heads, length, width), (length * row, width, row, 1), first * width)


def _rotary(buffer: Tensor, heads: int, width: int, cos: Tensor, sin: Tensor) -> None:
    rows = len(buffer) // cos.shape[1]
    first, second = heads_first(buffer, 0, heads, width, rows).chunk(2, -1)
    (c, d), (s, t) = (angles.unsqueeze(1).chunk(2, -1) for angles in (cos, sin))
    turned = (first * c).addcmul_(second, s, value=-1)
    second.mul_(d).addcmul_(first, t)
    first.copy_(turned)


def _rotary_back(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    rows, _, length, width = dq.shape
    heads = [t.shape[1] for t in (dq, dk, dv)]
    buffer = dq.new_empty(rows, length, sum(heads), width)
    (c, d), (s, t) = (angles.unsqueeze(2).chunk(2, -1) for angles in (cos, sin))
    for given, place in zip((dq, dk), buffer.split_with_sizes(heads, 2), strict=False):
        a, b = given.transpose(1, 2).chunk(2, -1)
        to_a, to_b = place.chunk(2, -1)
        torch.mul(a, c, out=to_a).addcmul_(b, t)
        torch.mul(b, d, out=to_b).addcmul_(a, s, value=-1)
    buffer[:, :, sum(heads[:2]) :].copy_(dv.transpose(1, 2))
    return buffer.view(rows * length, -1)


def _silu_back(outer: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    inner = up * outer
    torch.mul(silu(gate), outer, out=up)
    return torch.ops.aten.silu_backward.grad_input(inner, gate, grad_input=gate), up


def _tanh_back(outer: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    inner = up * outer
    torch.mul(gelu(gate, approximate="tanh"), outer, out=up)
    return torch.ops.aten.gelu_backward.grad_input(inner, gate, approximate="tanh", grad_input=gate), up


GATES = {
    "silu": Gate(lambda gate, up: silu(gate).mul_(up), _silu_back),
    "tanh": Gate(lambda gate, up: gelu(gate, approximate="tanh").mul_(up), _tanh_back),
}
"""As in gates.py, but both gradients come to lie where gate and up were: side by side."""
