"""A decoder layer planned ahead: two autograd functions, and between them whatever attention the model has.

The first is norm, queries, keys and values with their LoRA, and the rotary embedding; the second is all that follows
attention. What both need is laid out once (layer_plan.py), so nothing is looked up while they run: residuals are what a
product is added to, their gradients are added by the norm's, and gradients of adapters where they belong. Adapters are
therefore no inputs of these functions: their gradient is that of the flat tensor.
Only layers whose code is Llama's or Qwen2's are planned, after a trial; all others keep their own forward.
Delete when torch.compile plans a layer with PEFT's LoRA without a minute of compiling for each model and each shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from llm_installer.training.fast.context import Context
from llm_installer.training.fast.layer_kernels import Form, LayerKernels, heads_first
from llm_installer.training.fast.layer_plan import Products


@dataclass(frozen=True)
class LayerPlan:
    """A layer as it is computed."""

    qkv: Products
    output: Products
    gate_up: Products
    down: Products
    before: Tensor
    """Weights of the norm before attention, and of the one before the MLP."""
    between: Tensor
    form: Form
    activation: str
    heads: tuple[int, int, int]
    """Of queries, keys and values."""
    width: int
    kernels: LayerKernels


class _PlanContext(Context, Protocol):
    plan: LayerPlan

    def set_materialize_grads(self, value: bool) -> None:
        """Whether a gradient that is not there comes as zeros."""
        ...


class Asking(torch.autograd.Function):
    """(queries, keys, values [rows, heads, length, width], the input again as the residual [tokens, hidden]) of an
    input [rows, length, hidden]; `leaf` is what makes autograd come back here."""

    @staticmethod
    def forward(
        ctx: _PlanContext, x: Tensor, leaf: Tensor, plan: LayerPlan, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        flat, rows, (heads, keys, values), width = x.reshape(-1, x.shape[-1]), len(x), plan.heads, plan.width
        normed, kept = plan.kernels.norm(flat, plan.before, plan.form)
        buffer, low = plan.qkv.forward(normed)
        plan.kernels.rotary(buffer, heads + keys, width, cos, sin)
        ctx.save_for_backward(flat, kept, cos, sin, *(() if low is None else (normed, low)))
        ctx.plan = plan
        places = ((0, heads), (heads, keys), (heads + keys, values))
        q, k, v = (heads_first(buffer, first, count, width, rows) for first, count in places)
        return q, k, v, flat

    @staticmethod
    def backward(
        ctx: _PlanContext, dq: Tensor, dk: Tensor, dv: Tensor, residual: Tensor
    ) -> tuple[Tensor | None, None, None, None, None]:
        plan = ctx.plan
        flat, kept, cos, sin, *more = ctx.saved_tensors
        normed, low = more if more else (None, None)
        buffer = plan.kernels.rotary_back(dq, dk, dv, cos, sin)
        wanted = ctx.needs_input_grad[0]
        normed_g = plan.qkv.backward(buffer, normed, low, wanted)
        if normed_g is None:
            return None, None, None, None, None
        dx = plan.kernels.norm_back(normed_g, flat, plan.before, kept, plan.form, residual)
        return dx.view(len(dq), -1, flat.shape[1]), None, None, None, None


class Answering(torch.autograd.Function):
    """The output [rows, length, hidden] of what attention gave [rows, length, heads, width] and the residual."""

    @staticmethod
    def forward(ctx: _PlanContext, attended: Tensor, residual: Tensor, leaf: Tensor, plan: LayerPlan) -> Tensor:
        out = attended.reshape(len(residual), -1)
        middle, low_o = plan.output.forward(out, residual)
        normed, kept = plan.kernels.norm(middle, plan.between, plan.form)
        both, low_gu = plan.gate_up.forward(normed)
        inner = plan.kernels.gate(both, plan.activation)
        result, low_d = plan.down.forward(inner, middle)
        # What an adapter multiplies is only kept where there is one.
        pairs = (out, low_o), (normed, low_gu), (inner, low_d)
        ctx.save_for_backward(middle, kept, both, *(t for x, low in pairs if low is not None for t in (x, low)))
        ctx.plan = plan
        return torch.ops.aten._unsafe_view(result, (*attended.shape[:2], -1))  # type: ignore[no-any-return]  # as in _FusedLora

    @staticmethod
    def backward(ctx: _PlanContext, outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        plan, saved = ctx.plan, ctx.saved_tensors  # once: a checkpointed layer computes them again for it
        middle, kept, both, *more = saved
        rest = iter(more)
        pairs = [
            (next(rest), next(rest)) if products.adapters else (None, None)
            for products in (plan.output, plan.gate_up, plan.down)
        ]
        g = outer.reshape(middle.shape)
        inner_g = cast(Tensor, plan.down.backward(g, *pairs[2]))
        own = both.detach()
        # Gate and up become gradients in place: nothing else holds them, and a second pass would say so.
        plan.kernels.gate_back(inner_g, own, plan.activation)
        torch.autograd.graph.increment_version((both,))
        normed_g = cast(Tensor, plan.gate_up.backward(own, *pairs[1]))
        middle_g = plan.kernels.norm_back(normed_g, middle, plan.between, kept, plan.form, g)
        attended_g = cast(Tensor, plan.output.backward(middle_g, *pairs[0]))
        return attended_g.view(*outer.shape[:2], plan.heads[0], plan.width), middle_g, None, None


class DecoderLayer(Protocol):
    """A layer of Llama, as transformers has it."""

    self_attn: nn.Module
    mlp: nn.Module
    input_layernorm: nn.Module
    post_attention_layernorm: nn.Module
