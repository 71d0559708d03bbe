"""One run's moving parts: the model, its optimizer, and what one step and one evaluation are."""

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

from llm_installer.data.batches import Batch, Inputs, collate, collate_packed
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.row import Row
from llm_installer.distributed import processes
from llm_installer.planning.plan import Plan
from llm_installer.training import gradients
from llm_installer.training.device_memory import checkpoint_layers
from llm_installer.training.fast.interface import FixedSteps, flat_adapters, prepare
from llm_installer.training.neftune import add_noise
from llm_installer.training.optimizer import make_optimizer, plain_rates, set_learning_rate

Part = TypeVar("Part")
Sums = npt.NDArray[np.float64]


class Trainer:
    """Model and optimizer on their devices. It knows steps and rows, not epochs."""

    def __init__(
        self, model: PeftModel, plan: Plan, pad: int, inputs: Inputs | None = None, sharded: bool = False
    ) -> None:
        fp16 = plan.precision == "float16"
        self.accelerator = Accelerator(cpu=plan.device == "cpu", mixed_precision="fp16" if fp16 else "no")
        self.plan, self.pad, self.model, self.inputs, self.sharded = plan, pad, model, inputs, sharded
        self.rank = plan.lora_r
        """What is trained of each adapter: so many rows of A and columns of B; all others get no gradient."""
        self.fixed: FixedSteps | None = None
        """Where micro-batches have fixed shapes (fixed_shapes.py)."""
        self.trained = [p for p in model.parameters() if p.requires_grad]
        processes.same_everywhere(self.trained)
        self.flat = flat_adapters(model, plan, sharded)
        self.bare_optimizer = make_optimizer(model, plan, self.flat)
        self.optimizer = self.accelerator.prepare(self.bare_optimizer)
        checkpoint_layers(model, plan.checkpointed_layers)
        images, adapters = inputs is not None, self.flat.flat if self.flat else None
        self.fast = prepare(model, plan, self.accelerator.device, images=images, sharded=sharded, flat=adapters)
        if plan.method.neftune_noise_alpha:
            add_noise(model, plan.method.neftune_noise_alpha)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which fast paths are on, and why others are not."""
        reason = self.flat.reason if self.flat else ""
        return (*self.fast.notes, reason) if reason else self.fast.notes

    @property
    def packing(self) -> str:
        """The attention for packed rows; empty where rows are padded."""
        return self.fast.packing

    @property
    def is_writer(self) -> bool:
        """Whether this process is the one that writes files."""
        return processes.is_main()

    def step(self, batches: Sequence[Batch], rate: float) -> tuple[float, float, bool]:
        """One optimizer step over micro-batches: (mean loss per token, gradient norm before clipping, taken).

        The loss of each micro-batch is divided by the supervised tokens of the whole step, so that any split over
        micro-batches and processes gives the same gradient. A step whose loss or gradient is not a finite number is not
        taken.
        """
        self.model.train()
        supervised = sum(len(b.targets) for b in batches)
        with processes.all_or_none(exchanges=self.sharded):
            total = self.add_gradients(batches, supervised)
        gradients.add_up(self.accelerator, self.trained, self.flat)
        if self.rank < self.plan.lora_r:
            gradients.keep_below(self.model, self.rank)
        if self.fixed and self.fixed.decides(self.bare_optimizer):
            total.copy_(self.accelerator.reduce(total, reduction="sum"))
            set_learning_rate(self.optimizer, rate)
            loss, size, taken = self.fixed.step()
            return loss / supervised, size, taken
        most = self.plan.max_grad_norm
        norm = gradients.clip(self.accelerator, self.bare_optimizer, self.trained, self.flat, most)
        mean = float(self.accelerator.reduce(total, reduction="sum")) / supervised
        size = float(norm) if norm is not None else math.nan
        # Under float16 the scaler tries scales until gradients fit, and skips steps by itself.
        taken = math.isfinite(mean) and (math.isfinite(size) or self.accelerator.scaler is not None)
        if taken:
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
        self.zero_grad()
        return mean, size, taken

    def zero_grad(self) -> None:
        """Forget all gradients; where they may be recorded, in their place."""
        if self.flat:
            self.flat.zero_grad(bool(self.fixed))
        else:
            self.bare_optimizer.zero_grad(set_to_none=not self.fixed)

    def weights_changed(self) -> None:
        """Somebody other than the optimizer has written adapters."""
        if self.flat:
            self.flat.flat.refresh()

    def add_gradients(self, batches: Sequence[Batch], supervised: int) -> Tensor:
        """The summed loss of this process's micro-batches; its gradient, divided by `supervised`, is added."""
        if self.fast.parallel:
            total = self.fast.add_gradients(batches, supervised)
            self.fast.micro_batch_done(max(b.ids.size for b in batches))
            return total
        total = self.fixed.begin() if self.fixed else torch.zeros((), device=self.accelerator.device)
        for batch, weight in self._mine(batches, [b.ids.size for b in batches]):
            if self.fixed and self.fixed.add(batch, supervised):
                self.fast.micro_batch_done(batch.ids.size)
                continue
            loss = self.loss_sum(batch) * weight
            self.accelerator.backward(loss / supervised)
            total += loss.detach()
            self.fast.micro_batch_done(batch.ids.size)
        return total

    def evaluate(self, rows: Sequence[Row]) -> float:
        """Mean loss per supervised token in eval mode: no dropout, no gradient; rows in a fixed order."""
        sums = self.summed_losses(rows, np.zeros(len(rows), dtype=np.int64))
        return float(sums.sum()) / sum(int(r.supervised[1:].sum()) for r in rows)

    @torch.no_grad()
    def summed_losses(self, rows: Sequence[Row], groups: npt.NDArray[np.int64]) -> Sums:
        """The same as sums over groups of rows, in nats; row i belongs to group groups[i], and groups are counted from
        0. The rows of a group are computed together, and no others with them."""
        self.model.eval()
        lengths, most, count = row_lengths(rows), self._most(len(rows)), int(groups.max()) + 1
        parts = [part for g in range(count) for part in self.parts(lengths, np.flatnonzero(groups == g), most)]
        sums = torch.zeros(count, dtype=torch.float64, device=self.accelerator.device)
        with processes.all_or_none(exchanges=self.sharded):
            for part, weight in self._mine(parts, [int(lengths[part].max()) * len(part) for part in parts]):
                batch = self.batch(rows, part)
                sums[int(groups[part[0]])] += self.loss_sum(batch).double() * weight
                self.fast.micro_batch_done(batch.ids.size)
        found: Tensor = self.accelerator.reduce(sums, reduction="sum")
        return found.cpu().numpy()

    def batch(self, rows: Sequence[Row], chosen: npt.NDArray[np.int64]) -> Batch:
        """The chosen rows as one micro-batch."""
        found = [rows[i] for i in chosen]
        if self.fast.pads(row_lengths(found), [np.arange(len(found))]):
            return collate(found, self.pad, self.inputs)
        return collate_packed(found)

    def micro_batches(
        self, rows: Sequence[Row], lengths: npt.NDArray[np.int64], step: npt.NDArray[np.int64]
    ) -> list[Batch]:
        """The rows of one step in parts that fit into memory, and are enough for all processes."""
        return [self.batch(rows, part) for part in self.parts_of_step(lengths, step)]

    def parts_of_step(self, lengths: npt.NDArray[np.int64], step: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Which rows of a step are a micro-batch."""
        return self.fast.split_step(lengths, step, self.plan.micro_batch_tokens, self.rows_at_once(len(step)))

    def gradients(self) -> list[Tensor]:
        """The gradient of each trained parameter, zero where it had none."""
        return gradients.of_each(self.trained)

    def rows_at_once(self, rows: int) -> int:
        """The most rows of a step of so many that are computed together, were memory no limit."""
        return min(self.plan.micro_batch_rows, self._most(rows))

    def parts(
        self, lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], most: int
    ) -> list[npt.NDArray[np.int64]]:
        """Rows that are computed together: packed, or padded to the longest."""
        return self.fast.split(lengths, rows, self.plan.micro_batch_tokens, most)

    def loss_sum(self, batch: Batch, reduction: str = "sum") -> Tensor:
        """Summed loss over supervised positions, in nats: a float32 scalar, or with reduction "none" each by itself."""
        with self.accelerator.autocast():
            return self.fast.loss_sum(batch, reduction)

    def optimizer_state(self) -> dict[str, Any]:
        """All the optimizer remembers, for a checkpoint."""
        scaler = self.accelerator.scaler
        state = self.flat.state(self.bare_optimizer) if self.flat else self.bare_optimizer.state_dict()
        return {"optimizer": plain_rates(state), "scaler": scaler.state_dict() if scaler else None}

    def set_optimizer_state(self, saved: dict[str, Any]) -> None:
        """Remember what optimizer_state said."""
        state = self.flat.joined(saved["optimizer"]) if self.flat else saved["optimizer"]
        if state is None:  # some of its adapters were left out of steps: each goes on by itself
            self.keep_apart()
            state = saved["optimizer"]
        self.bare_optimizer.load_state_dict(state)
        if self.fixed:
            self.fixed.loaded()
        if saved["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(saved["scaler"])

    def keep_apart(self) -> None:
        """Let the optimizer move each adapter by itself from here on, with nothing remembered."""
        self.bare_optimizer = make_optimizer(self.model, self.plan, self.flat, apart=True)
        self.optimizer = self.accelerator.prepare(self.bare_optimizer)

    def forget(self) -> None:
        """Make the optimizer forget its state."""
        self.bare_optimizer.state.clear()

    def grow(self, rank: int) -> str:
        """Train with this rank from now on; where it has grown, with an optimizer that remembers nothing of less. What
        there is to say about that."""
        before, self.rank = self.rank, rank
        if rank <= before:
            return ""
        self.forget()
        return f"the rank grows from {before} to {rank}"

    def _most(self, rows: int) -> int:
        """Rows of a part that leave something for every process."""
        return max(1, math.ceil(rows / processes.count()))

    def _mine(self, parts: Sequence[Part], sizes: Sequence[int]) -> list[tuple[Part, float]]:
        """The share of this process, each with weight 1.

        Of a sharded base all must call the layers equally often: a process with fewer parts repeats the smallest with
        weight 0.
        """
        if processes.count() == 1:
            return [(part, 1.0) for part in parts]
        dealt = processes.shares(sizes, processes.count())
        mine = [(parts[i], 1.0) for i in dealt[processes.index()]]
        if self.sharded:
            smallest = parts[min(range(len(sizes)), key=sizes.__getitem__)]
            mine += [(smallest, 0.0)] * (max(map(len, dealt)) - len(mine))
        return mine


def row_lengths(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Tokens of each row."""
    if isinstance(rows, EncodedSet):
        return rows.lengths
    return np.fromiter((len(r.ids) for r in rows), dtype=np.int64, count=len(rows))
