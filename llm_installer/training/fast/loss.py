"""The loss of a batch, nowhere else computed: from the model's own logits, or only where a token is supervised.

Both are called in the same way and give the same within rounding. Where nothing fast is wished for, PlainLoss is used.
Delete SupervisedLoss when transformers' models take positions to compute logits for (`logits_to_keep` takes the same
ones for all rows) and compute a loss without all logits in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn

from llm_installer.training.fast.cross_entropy import Score, cross_entropy_sum, logit_rule
from llm_installer.training.fast.kernel_choice import ignores, loss_kernel
from llm_installer.training.fast.pick_rows import pick_rows

NEAR = {torch.float32: 1e-4}
"""How far fused and plain loss may be apart, as a share of the loss; LOOSE in 16 bits."""
LOOSE = 2e-2


class LossSum(Protocol):
    """How training and evaluation compute the loss of a micro-batch."""

    note: str
    """A sentence that says how."""

    def __call__(
        self,
        ids: Tensor,
        positions: Tensor,
        targets: Tensor,
        extra: Mapping[str, object] | None = None,
        reduction: str = "sum",
    ) -> Tensor:
        """Summed negative log likelihood of `targets` [n] at flat `positions` [n] of `ids` [rows, length], in nats: a
        float32 scalar, or with reduction "none" one number for each target. `extra` is what else the model is given,
        such as pixels."""
        ...


class PlainLoss:
    """The loss from the logits of all positions, as the model itself computes them."""

    note = "plain loss: the model's own logits at all positions"

    def __init__(self, model: PeftModel) -> None:
        self.model = model

    def __call__(
        self,
        ids: Tensor,
        positions: Tensor,
        targets: Tensor,
        extra: Mapping[str, object] | None = None,
        reduction: str = "sum",
    ) -> Tensor:
        """As LossSum says."""
        logits = self.model(input_ids=ids, use_cache=False, **(extra or {})).logits
        picked = logits.reshape(-1, logits.shape[-1]).index_select(0, positions)
        return F.cross_entropy(picked.float(), targets, reduction=reduction)


@dataclass(frozen=True)
class _Aims:
    """What is scored: flat positions [n], and the token that follows each."""

    positions: Tensor
    targets: Tensor
    unused: bool = False
    """Whether some may be unused."""

    def pick(self, hidden: Tensor) -> Tensor:
        """The hidden states [n, width] at the positions."""
        return pick_rows(hidden, self.positions) if self.unused else hidden.index_select(0, self.positions)


class SupervisedLoss:
    """The loss from an output layer that is only given the supervised positions.

    A frozen linear output layer computes the loss itself, so that its logits exist only a chunk at a time; its hidden
    states come through the model's own forward. Any other computes the logits of the supervised positions, and whatever
    the family does to logits afterwards (soft caps, scaling) still happens.
    """

    def __init__(self, model: PeftModel, kernels: bool = True) -> None:
        self.model, self.kernels = model, kernels
        self.rule = logit_rule(model.config)
        self.fused = False
        self.score: Score | None = None
        self._ignores = False
        self.note = self._choose()

    def __call__(
        self,
        ids: Tensor,
        positions: Tensor,
        targets: Tensor,
        extra: Mapping[str, object] | None = None,
        reduction: str = "sum",
    ) -> Tensor:
        """As LossSum says."""
        return self._loss(_Aims(positions, targets), ids, extra, reduction)

    def of_fixed_shape(
        self, ids: Tensor, positions: Tensor, targets: Tensor, extra: Mapping[str, object] | None = None
    ) -> Tensor:
        """The same sum where some positions are unused: they are the one past the last token, their targets IGNORED.
        What is computed depends on shapes alone."""
        return self._loss(_Aims(positions, targets, unused=True), ids, extra, "sum")

    def _loss(self, aims: _Aims, ids: Tensor, extra: Mapping[str, object] | None, reduction: str) -> Tensor:
        with self._supervised(aims, self.fused and reduction == "sum") as fused:
            logits: Tensor = self.model(input_ids=ids, use_cache=False, **(extra or {})).logits
        if fused:
            # Where the family leaves logits alone the loss has come through as they would, past any wrapper.
            return logits.sum() if self.rule.plain else fused[0]
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), aims.targets, reduction=reduction)

    @contextmanager
    def _supervised(self, aims: _Aims, fused: bool) -> Iterator[list[Tensor]]:
        """For one pass of the model: its output layer only sees the positions. Where the loss is fused it puts one
        number in the place of logits, the loss, and into the list."""
        head = self._head()
        own, before = head.forward, vars(head).get("forward")
        losses: list[Tensor] = []

        def forward(hidden: Tensor) -> Tensor:
            picked = aims.pick(hidden.reshape(-1, hidden.shape[-1]))
            if not fused:
                return cast(Tensor, own(picked.unsqueeze(0)))
            layer = cast(nn.Linear, head)
            score = self.score if not aims.unused or self._ignores else None
            losses.append(cross_entropy_sum(picked, layer, aims.targets, self.rule, score, aims.unused))
            return losses[0].view(1, 1, 1)

        vars(head)["forward"] = forward
        try:
            yield losses
        finally:
            del vars(head)["forward"]
            if before is not None:
                vars(head)["forward"] = before

    def _head(self) -> nn.Module:
        return cast(nn.Module, self.model.get_output_embeddings())

    def _choose(self) -> str:
        """Decide whether the loss is fused, by the kind of output layer and by trying it; a sentence that says so."""
        head = self._head()
        if type(head) is not nn.Linear or any(p.requires_grad for p in head.parameters()):
            return "plain loss: the output layer is trained or is not a plain linear layer"
        if not head.weight.is_floating_point():
            return "plain loss: the output layer is quantised"
        self.score, self._ignores = loss_kernel(head, self.rule, self.kernels), ignores(head, self.kernels)
        if not self._agrees(head):
            return "plain loss: this model does something to its logits that the fused one does not know"
        return "fused loss: logits one chunk at a time" + (", by one kernel" if self.score else "")

    @torch.no_grad()
    def _agrees(self, head: nn.Linear) -> bool:
        """Whether fused and plain give the same loss on a few tokens."""
        ids = torch.arange(8, device=head.weight.device).remainder(head.weight.shape[0]).unsqueeze(0)
        positions = torch.arange(7, device=ids.device)
        training = self.model.training
        self.model.eval()
        losses = []
        for self.fused in (False, True):
            losses.append(float(self(ids, positions, ids[0, 1:])))
        self.fused = abs(losses[1] - losses[0]) <= NEAR.get(head.weight.dtype, LOOSE) * losses[0]
        self.model.train(training)
        return self.fused
