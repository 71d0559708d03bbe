"""Whether a run computes micro-batches of fixed shapes, which ones, and whether they are recorded.

On an NVIDIA GPU they are, where the plan says so and the model allows it. LLM_STATIC=1 computes so on any device, and
records nothing on a CPU: that is how it is tested there. LLM_STATIC=0 does without on a GPU too.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from llm_installer.core.arrays import Numbers
from llm_installer.core.text import counted
from llm_installer.data.batches import epoch_steps
from llm_installer.data.buckets import Bucket, Need, choose_buckets, fitting
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.row import Row
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.interface import Capture, Told, without
from llm_installer.training.trainer import Trainer, row_lengths
from llm_installer.training.training_data import TrainingData

SWITCH = "LLM_STATIC"
EPOCHS = 3
"""So many epochs are looked at, one after the other, to choose buckets."""
ORDER = "shuffled"
"""How rows are taken where they are packed into fixed shapes: those of similar length together would pad much more."""
WHY_ORDER = "packed at random, steps have about one size, and a few fixed shapes hold them"
PARALLEL = "micro-batches are computed at the same time, each with its own threads"


def fix_shapes(
    trainer: Trainer, data: TrainingData, begins: bool, say: Callable[[str], None], capture: Capture | None = None
) -> None:
    """Give the trainer fixed shapes where its run takes them; `say` is told what became of it.

    `begins` is whether the run is at its start: only then its order of rows may still change. `capture`
    records in the place of CUDA graphs.
    """
    plan, switch = trainer.plan, os.environ.get(SWITCH, "")
    device = trainer.accelerator.device
    wanted = switch == "1" or (torch.device(device).type == "cuda" and plan.graphs and switch != "0")
    if not wanted or not plan.fast:
        return
    apart = trainer.flat.reason if trainer.flat else ""
    images = hasattr(trainer.model.get_base_model().config, "vision_config")
    apart = PARALLEL if trainer.fast.parallel else apart
    if why := apart or trainer.fast.refuses_fixed(plan, _rope(trainer.model), trainer.sharded, images):
        say(without(why))
        return
    if begins and trainer.packing and plan.order == "random":
        trainer.plan = plan = replace(plan, order=ORDER, why={**plan.why, "order": WHY_ORDER})
    needs = needs_of(trainer, data)
    buckets = choose_buckets(needs, int(row_lengths(data.rows).max()))
    told = Told(meets_of(plan, buckets, needs), say, capture)
    trainer.fixed = trainer.fast.fixed_steps(
        trainer.bare_optimizer, trainer.gradients, plan.max_grad_norm, buckets, told
    )  # fmt: skip
    recorded = ", recorded as CUDA graphs where they come again" if trainer.fixed.records else ""
    say(f"Micro-batches have {counted(len(buckets), 'fixed shape')}{recorded}.")


def needs_of(trainer: Trainer, data: TrainingData) -> list[Need]:
    """What the micro-batches of the first epochs hold."""
    plan, lengths = trainer.plan, row_lengths(data.rows)
    counts = supervised_counts(data.rows)
    found: list[Need] = []
    for epoch in range(_looked_at(plan)):
        met = data.mix.epoch(plan.seed, epoch) if data.mix else None
        for step in epoch_steps(lengths, plan.batch_of(epoch), plan.seed, epoch, rows=met, order=plan.order):
            for part in trainer.parts_of_step(lengths, step):
                supervised = int(counts[part].sum())
                if trainer.fast.pads(lengths, [part]):
                    found.append(Need(len(part), int(lengths[part].max()), supervised))
                else:
                    found.append(Need(0, int(lengths[part].sum()), supervised, len(part)))
    return found


def meets_of(plan: Plan, buckets: Sequence[Bucket], needs: Sequence[Need]) -> dict[Hashable, float]:
    """How often each bucket is met in the run, going by the epochs that were looked at."""
    found = Counter(fitting(buckets, need) for need in needs)
    return {bucket: found[bucket] * max(1.0, plan.course.epochs / _looked_at(plan)) for bucket in buckets}


def supervised_counts(rows: Sequence[Row]) -> Numbers:
    """Supervised tokens of each row."""
    if isinstance(rows, EncodedSet):
        return rows.counts
    return np.fromiter((int(row.supervised[1:].sum()) for row in rows), dtype=np.int64, count=len(rows))


def _looked_at(plan: Plan) -> int:
    """Epochs that are looked at."""
    return max(1, math.ceil(min(EPOCHS, plan.course.epochs)))


def _rope(model: nn.Module) -> str:
    """The word dynamic where positions depend on the longest row so far."""
    kinds = {str(getattr(module, "rope_type", "")) for module in model.modules()}
    return "dynamic" if "dynamic" in kinds else ""
