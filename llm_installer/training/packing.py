"""Whether a model can train on packed rows: the attention is put on, tried on two documents, and else taken off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from llm_installer.data.batches import Batch
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.packed import (
    FLEX,
    Documents,
    Machine,
    choose_kind,
    packed_forward,
    refusal,
)
from llm_installer.training.loss import ScoredHead

_FIRST, _SECOND = 6, 9
"""Tokens of the two documents of the trial."""


def try_packing(head: ScoredHead, plan: Plan, sharded: bool = False) -> tuple[str, str]:
    """(attention implementation, a sentence); the first is empty, and the model as it was, where it cannot pack.

    The sentence is empty where nobody wanted packing. `sharded` says that the base is parted over processes.
    """
    if not plan.packing:
        return "", ""
    if sharded:
        return "", "not packed: the base is parted over several processes"
    base = head.model.get_base_model()
    text = base.config.get_text_config()
    if why := refusal(base.config, bool(plan.method.neftune_noise_alpha)):
        return "", why
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kind, note = choose_kind(Machine.here(plan.device, plan.precision, plan.kernels), size)
    before = base.config._attn_implementation
    base.set_attn_implementation(kind)
    if base.config._attn_implementation == kind and _agrees(head, kind, plan.precision == "float32"):
        return kind, note
    base.set_attn_implementation(before)
    return "", "not packed: this model does not compute packed documents as it does single ones"


@contextmanager
def as_packed(batch: Batch, kind: str, device: Any) -> Iterator[dict[str, Any]]:
    """What the model's forward is given for the documents of a batch, with attention of a kind that choose_kind named;
    nothing where it is not packed."""
    known = bool(batch.documents) and kind not in ("", FLEX)
    with packed_forward(Documents.of(batch.documents, device) if known else None) as more:
        yield more


def _agrees(head: ScoredHead, kind: str, exact: bool) -> bool:
    """Whether packed documents have the losses of single ones, and one is the same whatever stands before it."""
    device = head.model.get_output_embeddings().weight.device
    words = int(head.model.get_input_embeddings().weight.shape[0])
    first, other, second = (
        torch.arange(a, a + n, device=device).mul(7).remainder(words)
        for a, n in ((1, _FIRST), (3, _FIRST), (11, _SECOND))
    )
    training = head.model.training
    head.model.eval()
    try:
        with head.attached(), torch.no_grad():
            alone = torch.cat([_losses(head, [first], kind), _losses(head, [second], kind)])
            together = _losses(head, [first, second], kind)
            beside = _losses(head, [other, second], kind)
        with head.attached():
            single = _gradient(head, [first], kind) + _gradient(head, [second], kind)
            apart = (_gradient(head, [first, second], kind) - single).norm()
    except (TypeError, ValueError, RuntimeError):  # a family, or a build of torch, that knows no such argument
        return False
    finally:
        head.model.train(training)
    close = torch.allclose(together, alone, rtol=1e-4 if exact else 2e-2, atol=1e-5 if exact else 2e-2)
    close = close and bool(apart <= (1e-3 if exact else 0.1) * single.norm())
    return close and torch.allclose(together[_FIRST - 1 :], beside[_FIRST - 1 :], rtol=1e-6)


def _gradient(head: ScoredHead, documents: list[Tensor], kind: str) -> Tensor:
    """The gradient of all that is trained, in one row of numbers; nothing is added to what the weights hold."""
    trained = [p for p in head.model.parameters() if p.requires_grad]
    loss = _losses(head, documents, kind).sum()
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return torch.cat([torch.zeros(1, device=loss.device), *(g.flatten().float() for g in found if g is not None)])


def _losses(head: ScoredHead, documents: list[Tensor], kind: str) -> Tensor:
    """The loss of each token but the first of each document."""
    ids, lengths = torch.cat(documents), [len(d) for d in documents]
    places = torch.cat([torch.arange(n, device=ids.device) for n in lengths])
    scored = torch.cat([places[1:] > 0, torch.zeros(1, dtype=torch.bool, device=ids.device)]).nonzero().squeeze(1)
    packed = Documents.of(lengths, ids.device) if kind != FLEX and len(documents) > 1 else None
    with packed_forward(packed) as more:
        extra = {"position_ids": places.unsqueeze(0), **more}
        return head.loss_sum(head.model, ids.unsqueeze(0), scored, ids[scored + 1], extra, "none")
