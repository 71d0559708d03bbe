"""Tries whether a model can train on packed rows: attention is put on, tried on two documents, and else taken off.

Delete with document_attention.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_installer.data.batches import Batch
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.document_attention import (
    FLEX,
    Device,
    Documents,
    Machine,
    choose_kind,
    packed_forward,
    refusal,
)
from llm_installer.training.fast.loss import LossSum

_FIRST, _SECOND = 6, 9
"""Tokens of the two documents of the trial."""


def try_packing(model: PeftModel, loss: LossSum, plan: Plan) -> tuple[str, str]:
    """(attention implementation, a sentence); the first is empty, and the model as it was, where it cannot pack."""
    base = cast(PreTrainedModel, model.get_base_model())
    text = base.config.get_text_config()
    if why := refusal(base.config, bool(plan.method.neftune_noise_alpha)):
        return "", why
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kind, note = choose_kind(Machine.here(plan.device, plan.precision, plan.kernels), size)
    before = base.config._attn_implementation
    base.set_attn_implementation(kind)
    trial = _Trial(model, loss, kind)
    if base.config._attn_implementation == kind and trial.agrees(plan.precision == "float32"):
        return kind, note
    base.set_attn_implementation(before)
    return "", "not packed: this model does not compute packed documents as it does single ones"


@contextmanager
def as_packed(batch: Batch, kind: str, device: Device) -> Iterator[dict[str, Documents]]:
    """What the model's forward is given for the documents of a batch, with attention of a kind that choose_kind named;
    nothing where it is not packed."""
    known = bool(batch.documents) and kind not in ("", FLEX)
    with packed_forward(Documents.of(batch.documents, device) if known else None) as more:
        yield more


class _Trial:
    """Losses and gradients of two documents, packed and each by itself, with one kind of attention."""

    def __init__(self, model: PeftModel, loss: LossSum, kind: str) -> None:
        self.model, self.loss, self.kind = model, loss, kind
        self.words = cast(nn.Embedding, model.get_input_embeddings()).weight
        self.device = cast(nn.Linear, model.get_output_embeddings()).weight.device

    def agrees(self, exact: bool) -> bool:
        """Whether packed documents have the losses of single ones, and one is the same whatever stands before it."""
        first, other, second = (
            torch.arange(a, a + n, device=self.device).mul(7).remainder(int(self.words.shape[0]))
            for a, n in ((1, _FIRST), (3, _FIRST), (11, _SECOND))
        )
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                alone = torch.cat([self.losses([first]), self.losses([second])])
                together = self.losses([first, second])
                beside = self.losses([other, second])
            single = self.gradient([first]) + self.gradient([second])
            apart = (self.gradient([first, second]) - single).norm()
        except (TypeError, ValueError, RuntimeError):  # a family, or a build of torch, that knows no such argument
            return False
        finally:
            self.model.train(training)
        close = torch.allclose(together, alone, rtol=1e-4 if exact else 2e-2, atol=1e-5 if exact else 2e-2)
        close = close and bool(apart <= (1e-3 if exact else 0.1) * single.norm())
        return close and torch.allclose(together[_FIRST - 1 :], beside[_FIRST - 1 :], rtol=1e-6)

    def gradient(self, documents: list[Tensor]) -> Tensor:
        """The gradient of all that is trained, in one row of numbers; before training there is no other."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        stays = [p.grad is not None for p in trained]
        loss = self.losses(documents).sum()
        torch.autograd.backward(loss)
        found = [p.grad.flatten().float().clone() for p in trained if p.grad is not None]
        for parameter, here in zip(trained, stays, strict=True):
            parameter.grad = parameter.grad.zero_() if here and parameter.grad is not None else None
        return torch.cat([torch.zeros(1, device=loss.device), *found])

    def losses(self, documents: list[Tensor]) -> Tensor:
        """The loss of each token but the first of each document."""
        ids, lengths = torch.cat(documents), [len(d) for d in documents]
        places = torch.cat([torch.arange(n, device=ids.device) for n in lengths])
        supervised = torch.cat([places[1:] > 0, torch.zeros(1, dtype=torch.bool, device=ids.device)])
        positions = supervised.nonzero().squeeze(1)
        packed = Documents.of(lengths, ids.device) if self.kind != FLEX and len(documents) > 1 else None
        with packed_forward(packed) as more:
            extra = {"position_ids": places.unsqueeze(0), **more}
            return self.loss(ids.unsqueeze(0), positions, ids[positions + 1], extra, "none")
