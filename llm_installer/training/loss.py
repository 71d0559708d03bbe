"""The loss, computed only where something is learned. Exact: equal to the model's own loss within rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_installer.training.fast.chosen import loss_kernel
from llm_installer.training.fast.cross_entropy import Score, cross_entropy_sum, logit_rule


class ScoredHead:
    """Feeds the output layer only the positions that are scored.

    A frozen linear output layer computes the loss itself, so that its logits exist only a chunk at a time; its hidden
    states come through the model's own forward. Any other computes the logits of the scored positions, and whatever
    the family does to logits afterwards (soft caps, scaling) still happens.
    """

    def __init__(self, model: Any, kernels: bool = True) -> None:
        self.model, self.kernels = model, kernels
        self.rule = logit_rule(model.config)
        self._positions: Tensor | None = None
        self._targets: Tensor | None = None
        self._loss: Tensor | None = None
        self.fused = False
        self.score: Score | None = None
        self.note = self._choose()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hook the output layer for as long as this lasts; generation needs it free."""
        head = self.model.get_output_embeddings()
        handle = head.register_forward_pre_hook(self._select)
        if self.fused:
            head.forward = self._score(head.forward)
        try:
            yield
        finally:
            handle.remove()
            head.__dict__.pop("forward", None)

    def loss_sum(
        self,
        forward: nn.Module,
        ids: Tensor,
        positions: Tensor,
        targets: Tensor,
        extra: Mapping[str, Any] | None = None,
        reduction: str = "sum",
    ) -> Tensor:
        """Summed negative log likelihood of `targets` [n] at flat `positions` [n] of `ids` [rows, length]: a float32
        scalar, or with reduction "none" one for each target. `extra` is what else the model is given, such as pixels.

        `forward` is the model as the training process calls it (it may be wrapped for several devices).
        """
        self._positions, self._targets = positions, targets if reduction == "sum" else None
        try:
            logits = forward(input_ids=ids, use_cache=False, **(extra or {})).logits
            if self._loss is not None:
                # Where the family leaves logits alone the loss has come through as they would, past any wrapper.
                return logits.sum() if self.rule.plain else self._loss
        finally:
            self._positions = self._targets = self._loss = None
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets, reduction=reduction)

    def _select(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._positions is None:
            return None
        hidden = args[0]
        picked = hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._positions)
        return (picked.unsqueeze(0), *args[1:])

    def _score(self, own: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The output layer's forward while it computes the loss: one number in the place of logits."""

        def forward(hidden: Tensor) -> Tensor:
            if self._targets is None:
                return own(hidden)
            head = self.model.get_output_embeddings()
            self._loss = cross_entropy_sum(hidden[0], head, self._targets, self.rule, self.score)
            return self._loss.view(1, 1, 1)

        return forward

    def _choose(self) -> str:
        """Decide whether the loss is fused, by the kind of output layer and by trying it; a sentence that says so."""
        head = self.model.get_output_embeddings()
        if type(head) is not nn.Linear or any(p.requires_grad for p in head.parameters()):
            return "plain loss: the output layer is trained or is no plain linear layer"
        if not head.weight.is_floating_point():
            return "plain loss: the output layer is quantised"
        self.score = loss_kernel(head, self.rule, self.kernels)
        if not self._agrees(head):
            return "plain loss: this model does something to its logits that the fused one does not know"
        return "fused loss: logits a chunk at a time" + (", by one kernel" if self.score else "")

    @torch.no_grad()
    def _agrees(self, head: nn.Linear) -> bool:
        """Whether fused and plain give the same loss on a few tokens."""
        ids = torch.arange(8, device=head.weight.device).remainder(head.weight.shape[0]).unsqueeze(0)
        places = torch.arange(7, device=ids.device)
        training = self.model.training
        self.model.eval()
        losses = []
        for self.fused in (False, True):
            with self.attached():
                losses.append(float(self.loss_sum(self.model, ids, places, ids[0, 1:])))
        self.fused = abs(losses[1] - losses[0]) <= (1e-4 if head.weight.dtype == torch.float32 else 2e-2) * losses[0]
        self.model.train(training)
        return self.fused
