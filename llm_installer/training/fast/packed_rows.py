"""Tries whether a model can train on packed rows: attention is put on, tried on two documents, and else taken off.

Delete with document_attention.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_installer.data.batches import Batch
from llm_installer.models.base import first_line
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.document_attention import (
    FLEX,
    Device,
    Documents,
    Machine,
    kinds,
    packed_forward,
    refusal,
)
from llm_installer.training.fast.lora import forget_half_done
from llm_installer.training.fast.loss import LossSum

_FIRST, _SECOND = 6, 9
"""Tokens of the two documents of the trial."""
_OURS = Path(__file__).parent


def try_packing(model: PeftModel, loss: LossSum, plan: Plan) -> tuple[str, str]:
    """(attention implementation, a sentence); the first is empty, and the model as it was, where it cannot pack."""
    base = cast(PreTrainedModel, model.get_base_model())
    text = base.config.get_text_config()
    if why := refusal(base.config, bool(plan.method.neftune_noise_alpha)):
        return "", why
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    before, reasons = base.config._attn_implementation, list[str]()
    for kind, note in kinds(Machine.here(plan.device, plan.precision, plan.kernels), size):
        why = _put_on(base, kind) or _Trial(model, loss, kind).disagrees(plan.precision == "float32")
        if not why:
            return kind, f"{note} (not {reasons[0]})" if reasons else note
        reasons.append(f"{kind}: {why}")
    base.set_attn_implementation(before)
    return "", "not packed: " + "; ".join(dict.fromkeys(reason.partition(": ")[2] for reason in reasons))


def _put_on(base: PreTrainedModel, kind: str) -> str:
    """Give the model a kind of attention; why it does not take it, or nothing."""
    try:
        base.set_attn_implementation(kind)
    except (ImportError, TypeError, ValueError) as error:
        return f"this model takes no other attention ({first_line(error)})"
    return "" if base.config._attn_implementation == kind else "this model takes no other attention"


@contextmanager
def as_packed(batch: Batch, kind: str, device: Device) -> Iterator[dict[str, Documents]]:
    """What the model's forward is given for the documents of a batch, with attention of a kind that try_packing named;
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

    def disagrees(self, exact: bool) -> str:
        """Why this is not what single documents give, or one depends on what stands before it; nothing where all is
        well."""
        training = self.model.training
        self.model.eval()
        try:
            return self._compared(exact)
        except (TypeError, ValueError, RuntimeError) as error:
            forget_half_done(self.model)
            return blame(error)
        finally:
            self.model.train(training)

    def _compared(self, exact: bool) -> str:
        first, other, second = (
            torch.arange(a, a + n, device=self.device).mul(7).remainder(int(self.words.shape[0]))
            for a, n in ((1, _FIRST), (3, _FIRST), (11, _SECOND))
        )
        with torch.no_grad():
            alone = torch.cat([self.losses([first]), self.losses([second])])
            together = self.losses([first, second])
            beside = self.losses([other, second])
        single = self.gradient([first]) + self.gradient([second])
        apart = (self.gradient([first, second]) - single).norm()
        close = torch.allclose(together, alone, rtol=1e-4 if exact else 2e-2, atol=1e-5 if exact else 2e-2)
        close = close and bool(apart <= (1e-3 if exact else 0.1) * single.norm())
        close = close and torch.allclose(together[_FIRST - 1 :], beside[_FIRST - 1 :], rtol=1e-6)
        return "" if close else "this model does not compute packed documents as it does single ones"

    def gradient(self, documents: list[Tensor]) -> Tensor:
        """The gradient of all that is trained, in one row of numbers; before training there is no other."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        stays = [p.grad is not None for p in trained]
        loss = self.losses(documents).sum()
        try:
            torch.autograd.backward(loss)
            found = [p.grad.flatten().float().clone() for p in trained if p.grad is not None]
        finally:  # one that fails half way must leave nothing to the next kind that is tried
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


def blame(error: Exception) -> str:
    """Whose a failure of the trial is, as part of a sentence: a call of ours that an installed library does not know is
    our mistake, and not the model's."""
    said, frame = first_line(error), error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    ours = frame is not None and Path(frame.tb_frame.f_code.co_filename).is_relative_to(_OURS)
    if isinstance(error, TypeError) and ours:
        return f"LLM Installer makes a mistake with this version of torch ({said}); please report it"
    if isinstance(error, RuntimeError):
        return f"attention for documents failed ({said})"
    return f"this model takes no packed documents ({said})"
