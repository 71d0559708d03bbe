"""A frozen linear layer in float8 (e4m3): one stored copy, a scale for each row, and a product that has a gradient.

Forward: y = x W', with rows of the input and of the weight W in float8. Backward: dx = g W. The weight's scales lie
along the dimension that is summed over there, so they are multiplied into the gradient before its rows are cast: one
copy of the weight serves both, and the gradient is that of the weight that was used. Adapters are not touched by this.

Delete when a library trains adapters above float8 weights: torchao's have no gradient (pytorch/ao#4376), and its layers
for training keep the unrounded weight.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_installer.core.errors import ModelError, TrainingError
from llm_installer.models.float8_kernels import cast_quickly, turn_quickly
from llm_installer.planning.layers import FLOAT8_MULTIPLE

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
"""Of e4m3. A value up to 480 is rounded to it."""
SMALLEST = 1e-12
"""Taken for the largest value of a row that is smaller: its scale would be none."""
AGREES = 0.02
"""How far a scaled product may be from the same float8 numbers multiplied in float32, as a share of its norm."""


class Float8Linear(nn.Linear):
    """A frozen linear layer whose weight is e4m3. PEFT and the rest of the program see an nn.Linear."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Round `weight`, [outputs, inputs]."""
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.compute_dtype = weight.dtype
        """Of its input and its output."""
        rounded, scale = cast_rows(weight)
        # As bytes: PEFT makes adapters in the type of a weight that has a floating one.
        self.weight = nn.Parameter(rounded.view(torch.uint8), requires_grad=False)
        self.scale: Tensor
        self.register_buffer("scale", scale)
        kept = None if bias is None else nn.Parameter(bias.detach().to(weight.device), requires_grad=False)
        self.register_parameter("bias", kept)
        self.unrounded: Tensor | None = None
        """The weight as it was published, once it is wanted again; it is then what is multiplied by."""

    @property
    def rounded(self) -> Tensor:
        """The weight in float8: [outputs, inputs]."""
        return self.weight.detach().view(E4M3)

    def forward(self, input: Tensor) -> Tensor:
        """The product with the rounded weight, and the bias; in the type of the input."""
        if self.unrounded is not None:
            return nn.functional.linear(input, self.unrounded.to(input.dtype), self.bias)
        result: Tensor = _Product.apply(input, self)  # type: ignore[no-untyped-call]
        return result


class _Context(Protocol):
    layer: Float8Linear


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, x: Tensor, layer: Float8Linear) -> Tensor:
        ctx.layer = layer
        flat = x.reshape(-1, x.shape[-1])
        return product(layer, *cast_rows(flat), flat.dtype).view(*x.shape[:-1], layer.out_features)

    @staticmethod
    def backward(ctx: _Context, outer: Tensor) -> tuple[Tensor, None]:
        dx = gradient(ctx.layer, outer.reshape(-1, outer.shape[-1]))
        return dx.view(*outer.shape[:-1], ctx.layer.in_features), None


def product(layer: Float8Linear, rounded: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows in float8 with their scales, [tokens, inputs] and [tokens, 1], times the layer's weight, and its bias."""
    result = _multiplied(rounded, scale, layer.rounded.t(), layer.scale.t(), dtype)
    return result if layer.bias is None else result.add_(layer.bias.to(dtype))


def gradient(layer: Float8Linear, outer: Tensor) -> Tensor:
    """The gradient of the layer's input, [tokens, inputs], from that of its output, [tokens, outputs]."""
    rounded, scale = cast_rows(outer, layer.scale.t())
    weight = layer.rounded
    ones = torch.ones(1, layer.in_features, device=weight.device)
    return _multiplied(rounded, scale, _by_columns(weight), ones, outer.dtype)


def cast_rows(x: Tensor, factors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(x times `factors`, in float8; the scale of each row, [rows, 1] in float32): scale times the first gives it back.

    `factors` has one for each column: [1, columns]. Values that are not finite stay so.
    """
    if x.device.type == "cuda" and (quick := cast_quickly(x, factors)):
        return quick
    wide = x.float() if factors is None else x * factors
    scale = wide.abs().amax(-1, keepdim=True).clamp_(min=SMALLEST) / LARGEST
    return (wide / scale).to(E4M3), scale


def cast_back(rounded: Tensor, scale: Tensor) -> Tensor:
    """The numbers that are meant, in float32."""
    return rounded.float() * scale


def _by_columns(weight: Tensor) -> Tensor:
    """The weight with its columns one after the other in memory, as NVIDIA's kernels want their second factor."""
    return turn_quickly(weight).t() if weight.device.type == "cuda" else weight


def _multiplied(a: Tensor, scale_a: Tensor, b: Tensor, scale_b: Tensor, dtype: torch.dtype) -> Tensor:
    """The product of float8 [n, k] and [k, m] with scales [n, 1] and [1, m], in `dtype`."""
    if why_not(a.device.type):
        return ((a.float() * scale_a) @ (b.float() * scale_b)).to(dtype)
    return _scaled(a, scale_a, b, scale_b, dtype)


def _scaled(a: Tensor, scale_a: Tensor, b: Tensor, scale_b: Tensor, dtype: torch.dtype) -> Tensor:
    wanted = torch.bfloat16 if a.device.type == "cuda" else dtype
    scales = {"scale_a": scale_a, "scale_b": scale_b.contiguous()}
    return torch._scaled_mm(a, b, **scales, out_dtype=wanted, use_fast_accum=True).to(dtype)


@lru_cache(maxsize=8)
def why_not(device: str) -> str:
    """Why torch's scaled product cannot be used on a device of this kind; empty where a small one is right."""
    chance = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, 64, generator=chance).to(device) for rows in (32, 48))
    (a, s), (b, t) = cast_rows(x), cast_rows(weight)
    true = cast_back(a, s) @ cast_back(b, t).t()
    try:
        found = _scaled(a, s, b.t(), t.t(), torch.bfloat16).float()
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    off = float((found - true).norm() / true.norm())
    return "" if off < AGREES else f"a product is {off:.0%} off"


def refuse_untried(device: str) -> None:
    """Raise TrainingError where this GPU's float8 products fail; a CPU multiplies the same numbers in float32 then."""
    if device == "cuda" and (why := why_not(device)):
        raise TrainingError(f"--method fp8 cannot be used on this GPU ({why}); leave it out, or use --method qlora")


def hold_in_float8(model: PreTrainedModel, device: str, multiple: int = FLOAT8_MULTIPLE, prefix: str = "") -> None:
    """Round the linear layers below the module `prefix`, and bring the model to its device: layer by layer, so that it
    never lies there unrounded. The output layer stays, and so do layers that have a width which is no multiple of
    `multiple`. Raises ModelError where no layer can be rounded."""
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    names = [n for n, m in model.named_modules() if fits(m, multiple) and m is not output and n.startswith(prefix)]
    if not names:
        raise ModelError(
            f"{type(model).__name__} has no plain linear layer whose widths are multiples of {multiple}, as float8 "
            "products need them; train it without --method fp8"
        )
    for name in names:
        layer = cast(nn.Linear, model.get_submodule(name))
        model.set_submodule(name, Float8Linear(layer.weight.detach().to(device), layer.bias))
    model.to(device)  # type: ignore[arg-type]  # its own stub knows no names


def fits(module: nn.Module, multiple: int = FLOAT8_MULTIPLE) -> bool:
    """Whether it is a plain linear layer with widths that float8 products take."""
    return type(module) is nn.Linear and module.in_features % multiple == module.out_features % multiple == 0


def is_float8(layer: nn.Module) -> bool:
    """Whether this layer holds its weight in float8."""
    return type(layer) is Float8Linear


def unround(model: nn.Module, whole: PreTrainedModel) -> None:
    """Let the float8 layers of `model` multiply by the weights of `whole`, the base as it was published, from here on.

    One after the other, and each rounded weight goes when the other comes.
    """
    found = dict(whole.named_modules())
    for name, layer in model.named_modules():
        if isinstance(layer, Float8Linear):
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            layer.unrounded = cast(Tensor, found[plain].weight).detach().to(layer.weight.device)
            layer.weight.data = layer.weight.data.new_empty(0)
