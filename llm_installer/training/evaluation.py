"""What a run changed, evaluated with the adapter off and on: losses, each row's loss, and what was forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from llm_installer.core.changes import Changes, Pair, RowLoss
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.state import RunState
from llm_installer.data.batches import sample
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.row import Row
from llm_installer.models.base import load_base
from llm_installer.models.float8 import Float8Linear, unround
from llm_installer.planning.memory import BYTES, HEADROOM
from llm_installer.training.device_memory import release
from llm_installer.training.measured import standard_error
from llm_installer.training.own_text import OwnText
from llm_installer.training.trainer import Sums, Trainer, row_lengths

MOST_ROWS = 100
"""Of each side: a long run is not made longer by looking at all of its rows."""
SHARE = 0.4
"""Tokens evaluated besides those of every evaluation, as a share of those that the run trained on: a forward pass costs
less than a third of a training step, so that even a short run is not made much longer."""
LOGITS, MANY_LOGITS = {"cpu": 32 << 20}, 512 << 20
"""Bytes of logits that are held at once, by device, where each row's own loss is wanted: those are not fused, and a
training step needs less."""


def general_sentences() -> list[str]:
    """Plain sentences that any model of English can continue."""
    return Path(__file__).with_name("general.txt").read_text(encoding="utf-8").splitlines()


def general_rows(encoder: Encoder) -> list[Row]:
    """The sentences as rows without their end token: its loss would hide what was forgotten."""
    texts = [Example((Message("assistant", text),), Origin("general.txt"), "text") for text in general_sentences()]
    rows = [row for number, text in enumerate(texts) for row in encoder.encode(text, number)]
    return [Row(row.ids[:-1], row.supervised[:-1], row.source, row.text) for row in rows]


@dataclass(frozen=True)
class Side:
    """Training or validation rows: those of every evaluation, and some more."""

    fixed: Sequence[Row]
    more: Sequence[Row] = ()


def choose_side(rows: Sequence[Row], fixed: Sequence[Row], seed: int, state: RunState) -> Side:
    """`fixed`, and as many more of `rows` as SHARE allows; together at most MOST_ROWS."""
    fixed = sample(fixed, MOST_ROWS, seed)
    known, tokens = {row.source for row in fixed}, 0
    more: list[Row] = []
    for row in sample(rows, MOST_ROWS, seed):
        if row.source in known:
            continue
        tokens += len(row.ids)
        if len(fixed) + len(more) >= MOST_ROWS or tokens > SHARE * state.tokens:
            break
        more.append(row)
    return Side(fixed, more)


def evaluate_changes(
    trainer: Trainer,
    encoder: Encoder,
    training: Side,
    validation: Side,
    own: OwnText | None = None,
    published: Path | None = None,
) -> Changes:
    """Losses of the model as it is now and without its adapter.

    A base in float8 is as `published` from then on, where there is memory for it.
    """
    own = own or OwnText()
    trained, trained_rows = _side(trainer, training, validation=False)
    validated, validated_rows = _side(trainer, validation, validation=True) if validation.fixed else (None, [])
    general, _ = _side(trainer, Side(general_rows(encoder)), validation=False)
    worst = sorted([*trained_rows, *validated_rows], key=_badness, reverse=True)
    written = _side(trainer, Side(own.rows), validation=False)[0] if own.rows else None
    found = Changes(trained, validated, general, tuple(worst), written, own.why_none)
    fixed = Side((validation if validation.fixed else training).fixed)
    whole = published is not None and as_published(trainer, published)
    return replace(found, unrounded=_side(trainer, fixed, validation=False)[0]) if whole else found


def as_published(trainer: Trainer, folder: Path) -> bool:
    """Let a base in float8 multiply by the weights of its folder; whether it does now."""
    layers = [m for m in trainer.model.modules() if isinstance(m, Float8Linear)]
    release(trainer.plan.device)
    more = sum(m.weight.numel() for m in layers) * BYTES[trainer.plan.precision]
    if not layers or more > HEADROOM[trainer.plan.device] * probe_hardware().free_bytes:
        return False
    unround(trainer.model, load_base(folder, trainer.plan.precision, "cpu"))
    return True


def _badness(row: RowLoss) -> float:
    return row.tuned if math.isfinite(row.tuned) else math.inf


def _side(trainer: Trainer, side: Side, validation: bool) -> tuple[Pair, list[RowLoss]]:
    """The loss over the fixed rows, and that of each example; the rows of one example are added up."""
    rows, fixed = [*side.fixed, *side.more], slice(0, len(side.fixed))
    with trainer.model.disable_adapter():
        base = row_losses(trainer, rows)
    tuned = row_losses(trainer, rows)
    tokens = np.array([int(row.supervised[1:].sum()) for row in rows], dtype=np.float64)
    sources, of = np.unique([row.source for row in rows], return_inverse=True)
    sums = [np.bincount(of, weights=values, minlength=len(sources)) for values in (base, tuned, tokens)]
    each = zip(sources, sums[0] / sums[2], sums[1] / sums[2], strict=True)
    found = [RowLoss(int(source), validation, float(before), float(after)) for source, before, after in each]
    total = tokens[fixed].sum()
    # Rows of one example are no independent ones.
    rises, counted = (np.bincount(of[fixed], weights=each[fixed]) for each in (tuned - base, tokens))
    error = standard_error(rises.astype(np.float64), counted.astype(np.float64))
    return Pair(float(base[fixed].sum() / total), float(tuned[fixed].sum() / total), len(side.fixed), error), found


@torch.no_grad()
def row_losses(trainer: Trainer, rows: Sequence[Row]) -> Sums:
    """The summed loss of each row, in eval mode."""
    trainer.model.eval()
    found = np.zeros(len(rows))
    lengths = row_lengths(rows)
    each = 4 * int(trainer.model.config.get_text_config(decoder=True).vocab_size) * int(lengths.max(initial=1))
    most = max(1, LOGITS.get(trainer.plan.device, MANY_LOGITS) // each)
    for part in trainer.parts(lengths, np.arange(len(rows)), min(most, max(1, len(rows)))):
        batch = trainer.batch(rows, part)
        losses = trainer.loss_sum(batch, reduction="none").double().cpu().numpy()
        ends = np.cumsum(batch.documents or [batch.ids.shape[1]] * len(part))
        owners = np.searchsorted(ends, batch.positions, side="right")
        found[part] = np.bincount(owners, weights=losses, minlength=len(part))
    return found
