"""Text that the base writes itself, at temperature 1: what it knows best, and so what shows best what a run forgot.

Each token is drawn from what the base expects next, so that the rise of the loss on it is the divergence of the tuned
model from its base (Kullback and Leibler, 1951), whatever either was trained on. A run changes no weight of the base:
with the adapter off it is at the end what it was before the first step, and writes what it would have written then.
To ask it at the end takes nothing from the run: no random number, no memory, and no more time than a share of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from llm_installer.core.files import write_text
from llm_installer.core.state import RunState
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.row import Row
from llm_installer.distributed.memory_errors import is_out_of_memory
from llm_installer.inference.generate import Sampling, samples
from llm_installer.models.base import first_line
from llm_installer.training.trainer import Trainer

SAMPLES = 32
SHARE, FEWEST, MOST = 0.01, 512, 2048
"""Tokens of all samples: a share of those that the run trained on, within bounds. To write a token takes up to four
times as long as to train on one, so that this is a few hundredths of a run."""
SECONDS = 20.0
"""After so many the samples end where they are. Only a model that is very slow to write comes to it, for otherwise a
busy machine would change what is evaluated."""
TOO_FEW = 64
"""Tokens of all samples, below which they tell nothing."""
BETWEEN = "<|endoftext|>"
"""What many models that have no BOS saw between two documents."""
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, LookupError)
"""What the code of a model's family raises that cannot write: the adapter must not be lost over it."""


@dataclass(frozen=True)
class OwnText:
    """What the base wrote."""

    rows: Sequence[Row] = ()
    why_none: str = "the base was not asked"
    """Why there are no rows, as the end of a sentence."""


def own_text(trainer: Trainer, encoder: Encoder, state: RunState, positions: int | None, file: Path) -> OwnText:
    """What the base writes when it is asked for nothing; from `file`, where it was kept before.

    `positions` is the longest text that the model can read, where it has a limit.
    """
    start = document_start(encoder)
    kept = _read(file)
    if kept is not None:
        return _rows(kept, len(start))
    length = min(own_tokens(state.tokens) // SAMPLES, (positions or MOST) - len(start))
    try:
        written = _written(trainer, encoder, start, Sampling(length, temperature=1.0, seconds=SECONDS))
    except _FAILURES as error:
        why = "there is not enough memory" if is_out_of_memory(error) else f"it could not write ({first_line(error)})"
        return OwnText(why_none=why)
    lines = [{"text": encoder.tokenizer.decode(ids[len(start) :]), "ids": ids} for ids in written]
    write_text(file, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
    return _rows(written, len(start))


def own_tokens(trained: float) -> int:
    """Tokens of all samples after a run over so many."""
    return min(MOST, max(FEWEST, int(trained * SHARE)))


def document_start(encoder: Encoder) -> list[int]:
    """What comes before the first token of a document: BOS, or what the model knows in its place."""
    tokenizer = encoder.tokenizer
    if encoder.bos or tokenizer.bos_token_id is not None:
        return encoder.bos or [tokenizer.bos_token_id or 0]
    return [tokenizer.get_vocab().get(BETWEEN, encoder.eos)]


def _written(trainer: Trainer, encoder: Encoder, start: list[int], sampling: Sampling) -> list[list[int]]:
    """The ids of each sample, which draw no random number of the run's."""
    model, plan = trainer.model.eval(), trainer.plan
    gpus = range(torch.cuda.device_count()) if plan.device == "cuda" else ()
    with model.disable_adapter(), torch.random.fork_rng(devices=gpus):
        torch.manual_seed(plan.seed)
        return [[*start, *ids] for ids in samples(model, encoder, start, SAMPLES, sampling)]


def _rows(written: Sequence[Sequence[int]], start: int) -> OwnText:
    rows = []
    for number, ids in enumerate(written):
        supervised = np.arange(len(ids)) >= start
        rows.append(Row(np.array(ids, dtype=np.int32), supervised, number, text=True))
    rows = [row for row in rows if row.supervised[1:].any()]
    if sum(int(row.supervised[1:].sum()) for row in rows) < TOO_FEW:
        return OwnText(why_none="it ends its texts at once")
    return OwnText(rows, "")


def _read(file: Path) -> list[list[int]] | None:
    """The ids of the samples in `file`; None where there is none that can be read."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return [[int(i) for i in json.loads(line)["ids"]] for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return None
