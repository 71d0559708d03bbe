"""The summed cross entropy of a frozen output layer, its gradient made in the forward pass, a chunk of rows at a time.

A float32 tensor of shape [tokens, vocabulary] never exists: each chunk of logits becomes its own gradient in place and
is multiplied back into the hidden states at once.
Delete when torch.nn.functional.linear_cross_entropy is as fast on CPUs (in torch 2.13 it takes nine times as long).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from llm_installer.training.fast.context import Context
from llm_installer.training.fast.cpu.scratch import scratch

CHUNK_BYTES = {"cuda": 256 * 2**20}
"""Logits held at once, by device: on CUDA what gives a vocabulary of 128 thousand products of MOST_ROWS rows."""
CPU_CHUNK_BYTES = 32 * 2**20
"""Anywhere else: large enough for fast matrix products, small enough to stay in a CPU's last cache."""
WORK_BYTES = {"cpu": 2 * 2**20, "cuda": 64 * 2**20}
"""Float32 logits worked on at once: on a CPU what the caches near its cores hold, on CUDA enough to hide launches."""
MOST_ROWS = 1024
IGNORED = -100
"""A target that counts for nothing, as PyTorch and liger have it."""


@dataclass(frozen=True)
class LogitRule:
    """What a model does to logits between its output layer and its loss."""

    scale: float = 1.0
    softcap: float | None = None

    @property
    def plain(self) -> bool:
        """Whether logits are used as they are."""
        return self.scale == 1.0 and self.softcap is None


Score = Callable[[Tensor, Tensor, LogitRule, bool], Tensor]
"""The summed loss of logits by their targets; the logits become its gradient by them where that is wanted."""


class _Config(Protocol):
    def get_text_config(self) -> object: ...


def logit_rule(config: _Config) -> LogitRule:
    """Read the rule from a model's configuration: Cohere multiplies, Granite divides, Gemma caps."""
    text = config.get_text_config()
    scale = float(getattr(text, "logit_scale", None) or 1.0) / float(getattr(text, "logits_scaling", None) or 1.0)
    cap = getattr(text, "final_logit_softcapping", None)
    return LogitRule(scale, float(cap) if cap else None)


def cross_entropy_sum(
    hidden: Tensor,
    head: nn.Linear,
    targets: Tensor,
    rule: LogitRule,
    score: Score | None = None,
    ignoring: bool = False,
) -> Tensor:
    """Summed negative log likelihood of `targets` [n] after `hidden` [n, width]: a float32 scalar.

    `score` computes the loss of a chunk of logits in the place of PyTorch's own operations. `ignoring` says that some
    targets may be IGNORED, which `score` must then know.
    """
    layer = _OutputLayer(head.weight, head.bias, rule, score, ignoring)
    result: Tensor = _CrossEntropy.apply(hidden, targets, layer)  # type: ignore[no-untyped-call]
    return result


@dataclass(frozen=True)
class _OutputLayer:
    """A frozen output layer, and how the loss follows from its logits."""

    weight: Tensor
    """[vocabulary, width]."""
    bias: Tensor | None
    rule: LogitRule
    score: Score | None
    ignoring: bool

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """Logits [n, vocabulary] of hidden states [n, width], in `out`."""
        if self.bias is None:
            return torch.mm(hidden, self.weight.t(), out=out)
        return torch.addmm(self.bias, hidden, self.weight.t(), out=out)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, hidden: Tensor, targets: Tensor, layer: _OutputLayer) -> Tensor:
        rows, vocabulary, score = hidden.shape[0], layer.weight.shape[0], layer.score
        chunk, inner = _rows_at_once(hidden, vocabulary)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        held = _empty("logits", hidden, hidden.dtype, chunk, vocabulary)
        work = _empty("wide logits", hidden, torch.float32, 0 if score else min(inner, chunk), vocabulary)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, rows, chunk):
            part, aims = hidden[start : start + chunk], targets[start : start + chunk]
            logits = layer.logits(part, held[: len(part)])
            if score:
                total += score(logits, aims, layer.rule, wanted)
            for at in range(0, 0 if score else len(part), inner):
                piece = logits[at : at + inner]
                total += _piece(piece, aims[at : at + inner], work[: len(piece)], layer, wanted)
            if gradient is not None:
                torch.mm(logits, layer.weight, out=gradient[start : start + chunk])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Context, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer.to(gradient.dtype), None, None


def _empty(name: str, like: Tensor, dtype: torch.dtype, *shape: int) -> Tensor:
    if like.device.type == "cpu":
        return scratch.take(name, dtype, *shape)
    return like.new_empty(*shape, dtype=dtype)


def _rows_at_once(hidden: Tensor, vocabulary: int) -> tuple[int, int]:
    """Rows of a chunk of logits, and of the float32 ones worked on at once."""
    device, rows = hidden.device.type, hidden.shape[0]
    fit = CHUNK_BYTES.get(device, CPU_CHUNK_BYTES) // (vocabulary * hidden.element_size())
    chunk = max(1, min(MOST_ROWS, rows, fit))
    return chunk, max(1, WORK_BYTES[device] // (vocabulary * 4)) if device in WORK_BYTES else chunk


def _piece(logits: Tensor, targets: Tensor, work: Tensor, layer: _OutputLayer, wanted: bool) -> Tensor:
    """The loss of a few rows; their logits become the gradient of the loss by them when it is wanted."""
    rule = layer.rule
    work.copy_(logits)
    if rule.scale != 1.0:
        work.mul_(rule.scale)
    if rule.softcap is not None:
        work.div_(rule.softcap).tanh_().mul_(rule.softcap)
    derivative = None
    if wanted and rule.softcap is not None:  # that of the cap, before the logits are overwritten
        derivative = (work / rule.softcap).square_().neg_().add_(1.0)
    counted = (targets != IGNORED).unsqueeze(1) if layer.ignoring else None
    aim = targets.unsqueeze(1) if counted is None else targets.unsqueeze(1).clamp(min=0)
    top = work.amax(1, keepdim=True)
    own = work.gather(1, aim) - top
    # In place, row by row in the caches. The largest of a row is 1 / mass, so no digits are lost to get it back.
    work = torch.softmax(work, 1, out=work if work.device.type == "cpu" else None)
    mass = work.amax(1, keepdim=True).reciprocal_()
    if wanted:
        work.scatter_add_(1, aim, torch.full_like(mass, -1.0))
        if derivative is not None:
            work.mul_(derivative)
        if rule.scale != 1.0:
            work.mul_(rule.scale)
        if counted is not None:
            work.mul_(counted)
        logits.copy_(work)
    losses = mass.log() - own
    return (losses if counted is None else losses * counted).sum()
