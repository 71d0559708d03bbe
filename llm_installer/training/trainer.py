"""One run's moving parts: the model, its optimizer, and what one step and one measurement are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor

from llm_installer.data.batches import Batch, Inputs, collate, micro_batches
from llm_installer.data.encoding.encode import Row
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.packing import collate_packed, pack
from llm_installer.distributed import processes
from llm_installer.models.base import DTYPES, model_inputs
from llm_installer.planning.plan import Plan
from llm_installer.training.device_memory import FreedMemory, checkpoint_layers
from llm_installer.training.fast.cpu import parallel as lanes
from llm_installer.training.fast.packed import FLEX
from llm_installer.training.fast.speed import speed_up
from llm_installer.training.fast.waiting import borders_known, upload
from llm_installer.training.loss import ScoredHead
from llm_installer.training.neftune import add_noise
from llm_installer.training.optimizers import make_optimizer, set_rate
from llm_installer.training.packing import as_packed, try_packing

Part = TypeVar("Part")
PARTED = "plain PEFT, because the base is parted over several processes"


class Trainer:
    """Model and optimizer on their devices. It knows steps and rows, not epochs."""

    def __init__(
        self, model: PeftModel, plan: Plan, pad: int, inputs: Inputs | None = None, sharded: bool = False
    ) -> None:
        fp16 = plan.precision == "float16"
        self.accelerator = Accelerator(cpu=plan.device == "cpu", mixed_precision="fp16" if fp16 else "no")
        self.plan, self.pad, self.model, self.inputs, self.sharded = plan, pad, model, inputs, sharded
        self.trained = [p for p in model.parameters() if p.requires_grad]
        processes.same_everywhere(self.trained)
        self.bare_optimizer = make_optimizer(model, plan)
        self.optimizer = self.accelerator.prepare(self.bare_optimizer)
        checkpoint_layers(model, plan.checkpointed_layers)
        alone = lanes.refusal(model, plan, inputs is not None, sharded)
        twins = [] if alone else [lanes.twin(model) for _ in range(lanes.COUNT - 1)]
        # The fast paths take weights from modules whose own forward is not called, where nobody would fetch the parts.
        notes = (PARTED,) if sharded else speed_up(model, plan.compiling, lanes.threads(twins), plan.kernels).notes
        self.head = ScoredHead(model, plan.kernels)
        self.lanes, beside = lanes.make_lanes(model, self.head, twins, plan.compiling) if twins else (None, alone)
        self.packing, packed = try_packing(self.head, plan, sharded)
        """The attention for packed rows; empty where rows are padded."""
        if self.lanes and self.packing:
            self.lanes.pack(self.packing)
        self.notes = (*notes, self.head.note, *filter(None, [packed, beside if twins else ""]))
        """Which fast paths are on, and why others are not."""
        self.freed = FreedMemory() if plan.device == "cpu" else None
        if plan.method.neftune_noise_alpha:
            add_noise(model, plan.method.neftune_noise_alpha)

    @property
    def is_writer(self) -> bool:
        """Whether this process is the one that writes files."""
        return processes.is_main()

    def step(self, batches: Sequence[Batch], rate: float) -> tuple[float, float, bool]:
        """One optimizer step over micro-batches: (mean loss per learned token, gradient norm before clipping, taken).

        The loss of each micro-batch is divided by the learned tokens of the whole step, so any split over micro-batches
        and processes gives the same gradient. A step whose loss or gradient is no finite number is not taken.
        """
        self.model.train()
        learned = sum(len(b.targets) for b in batches)
        with processes.all_or_none(exchanges=self.sharded):
            total = self.add_gradients(batches, learned)
        self._add_up_gradients()
        norm = self.accelerator.clip_grad_norm_(self.trained, self.plan.max_grad_norm)
        mean = float(self.accelerator.reduce(total, reduction="sum")) / learned
        size = float(norm) if norm is not None else math.nan
        # Under float16 the scaler tries scales until gradients fit, and skips steps by itself.
        taken = math.isfinite(mean) and (math.isfinite(size) or self.accelerator.scaler is not None)
        if taken:
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        self.optimizer.zero_grad()
        return mean, size, taken

    def add_gradients(self, batches: Sequence[Batch], learned: int) -> Tensor:
        """The summed loss of this process's micro-batches; its gradient, divided by `learned`, is added."""
        if self._beside:
            total = self._beside.step(batches, learned)
            self._part_done(max(b.ids.size for b in batches))
            return total
        total = torch.zeros((), device=self.accelerator.device)
        for batch, weight in self._mine(batches, [b.ids.size for b in batches]):
            loss = self.loss_sum(batch) * weight
            self.accelerator.backward(loss / learned)
            total += loss.detach()
            self._part_done(batch.ids.size)
        return total

    @torch.no_grad()
    def evaluate(self, rows: Sequence[Row]) -> float:
        """Mean loss per learned token in eval mode: no dropout, no gradient; rows in a fixed order."""
        self.model.eval()
        lengths = row_lengths(rows)
        parts = self.parts(lengths, np.arange(len(rows)), self._most(len(rows)))
        total = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        with processes.all_or_none(exchanges=self.sharded):
            for part, weight in self._mine(parts, [int(lengths[part].max()) * len(part) for part in parts]):
                batch = self.batch(rows, part)
                total += self.loss_sum(batch).double() * weight
                self._part_done(batch.ids.size)
        total = self.accelerator.reduce(total, reduction="sum")
        return float(total) / sum(int(r.learned[1:].sum()) for r in rows)

    def batch(self, rows: Sequence[Row], chosen: npt.NDArray[np.int64]) -> Batch:
        """The chosen rows as one micro-batch."""
        if self.packing:
            return collate_packed([rows[i] for i in chosen])
        return collate([rows[i] for i in chosen], self.pad, self.inputs)

    def micro_batches(
        self, rows: Sequence[Row], lengths: npt.NDArray[np.int64], step: npt.NDArray[np.int64]
    ) -> list[Batch]:
        """The rows of one step in parts that fit into memory, and are enough for all processes."""
        most = self.rows_at_once(len(step))
        if self._beside:
            split = lanes.packed_side_by_side if self.packing else lanes.side_by_side
            parts = split(lengths, step, self.plan.micro_batch_tokens, most)
        else:
            parts = self.parts(lengths, step, most)
        return [self.batch(rows, part) for part in parts]

    def rows_at_once(self, rows: int) -> int:
        """The most rows of a step of so many that are computed together, were memory no limit."""
        return min(self.plan.micro_batch_rows, self._most(rows))

    def parts(
        self, lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], most: int
    ) -> list[npt.NDArray[np.int64]]:
        """Rows that are computed together: packed, or padded to the longest."""
        return (pack if self.packing else micro_batches)(lengths, rows, self.plan.micro_batch_tokens, most)

    def loss_sum(self, batch: Batch, reduction: str = "sum") -> Tensor:
        """Summed loss over the scored positions of a batch, a float32 scalar; with reduction "none" each by itself."""
        device = self.accelerator.device
        ids, positions, targets = (
            upload(torch.from_numpy(a), device) for a in (batch.ids, batch.positions, batch.targets)
        )
        extra = model_inputs(batch.extra, device, DTYPES[self.plan.precision])
        documents = as_packed(batch, self.packing, device)
        with self.accelerator.autocast(), documents as packed, borders_known(self.packing != FLEX):
            return self.head.loss_sum(self.model, ids, positions, targets, {**extra, **packed}, reduction)

    def optimizer_state(self) -> dict[str, Any]:
        """All the optimizer remembers, for a checkpoint."""
        scaler = self.accelerator.scaler
        return {"optimizer": self.bare_optimizer.state_dict(), "scaler": scaler.state_dict() if scaler else None}

    def set_optimizer_state(self, saved: dict[str, Any]) -> None:
        """Remember what optimizer_state said."""
        self.bare_optimizer.load_state_dict(saved["optimizer"])
        if saved["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(saved["scaler"])

    def forget(self) -> None:
        """Let the optimizer begin anew."""
        self.bare_optimizer.state.clear()

    @property
    def _beside(self) -> lanes.Lanes | None:
        """The lanes, as long as memory is not short."""
        return None if self.plan.checkpointed_layers else self.lanes

    def _part_done(self, tokens: int) -> None:
        if self.freed:
            self.freed.part_done(tokens)

    def _most(self, rows: int) -> int:
        """Rows of a part that leave something for every process."""
        return max(1, math.ceil(rows / processes.count()))

    def _mine(self, parts: Sequence[Part], sizes: Sequence[int]) -> list[tuple[Part, float]]:
        """The share of this process, each with weight 1.

        Of a parted base all must call the layers equally often: who has fewer parts repeats the smallest for nothing.
        """
        if processes.count() == 1:
            return [(part, 1.0) for part in parts]
        dealt = processes.shares(sizes, processes.count())
        mine = [(parts[i], 1.0) for i in dealt[processes.index()]]
        if self.sharded:
            smallest = parts[min(range(len(sizes)), key=sizes.__getitem__)]
            mine += [(smallest, 0.0)] * (max(map(len, dealt)) - len(mine))
        return mine

    def _add_up_gradients(self) -> None:
        """Sum the gradients of all processes: adapters are small, so one exchange a step does."""
        if processes.count() == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.trained]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="sum")
        for parameter, part in zip(self.trained, flat.split([p.numel() for p in self.trained]), strict=True):
            parameter.grad = part.view_as(parameter)


def row_lengths(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Tokens of each row."""
    if isinstance(rows, EncodedSet):
        return rows.lengths
    return np.fromiter((len(r.ids) for r in rows), dtype=np.int64, count=len(rows))
