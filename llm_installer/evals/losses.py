"""The loss of each row under a model, from its own logits; rows of about one length go together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy

from llm_installer.core.voice import Progress
from llm_installer.data.batches import Batch, collate, micro_batches
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.row import Row
from llm_installer.evals.statistics import Values
from llm_installer.inference.generate import Model
from llm_installer.models.base import model_inputs

LOGITS = 64 * 2**20
"""Numbers in the logits of one batch, at most; a row that needs more is alone."""
MOST_ROWS = 32


class _Computes(Protocol):
    """What a causal language model of transformers returns."""

    logits: Tensor


@torch.inference_mode()
def row_losses(
    model: Model, encoder: Encoder, rows: Sequence[Row], progress: Progress = lambda done, total: None
) -> Values:
    """The summed loss of each row's supervised tokens in nats, shape [rows], in eval mode."""
    model.eval()
    found = np.zeros(len(rows))
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", 0) or 32_000)
    parts = micro_batches(lengths, np.arange(len(rows)), max(1, LOGITS // vocabulary), MOST_ROWS)
    keeps = _keeps_some(model)
    done = 0
    for part in parts:
        batch = collate([rows[i] for i in part], encoder.eos, encoder.inputs)
        losses = _losses(model, batch, keeps).double().cpu().numpy()
        owners = batch.positions // batch.ids.shape[1]
        found[part] = np.bincount(owners, weights=losses, minlength=len(part))
        done += len(part)
        progress(done, len(rows))
    return found


def _keeps_some(model: Model) -> bool:
    """Whether the model can be asked for the logits of some positions only."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def _losses(model: Model, batch: Batch, keeps: bool) -> Tensor:
    """The loss of each supervised token, in the order of batch.positions."""
    width = batch.ids.shape[1]
    columns = np.unique(batch.positions % width) if keeps else np.arange(width)
    given: dict[str, object] = {"input_ids": torch.from_numpy(batch.ids).to(model.device), "use_cache": False}
    given |= cast(Mapping[str, object], model_inputs(batch.extra, model.device, model.dtype))
    if keeps:
        given["logits_to_keep"] = torch.from_numpy(columns).to(model.device)
    logits = cast(_Computes, model(**given)).logits
    at = (batch.positions // width) * len(columns) + np.searchsorted(columns, batch.positions % width)
    chosen = logits.reshape(-1, logits.shape[-1])[torch.from_numpy(at).to(logits.device)]
    return cross_entropy(chosen.float(), torch.from_numpy(batch.targets).to(logits.device), reduction="none")
