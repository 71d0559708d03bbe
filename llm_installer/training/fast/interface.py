"""The one way into the fast paths: what a training step is computed with, chosen once for a model and a plan.

`plan.fast` is the switch (--fast off). With it off nothing of PEFT, transformers or the C library's allocator is
replaced or set: the loss comes from the model's own logits, rows are padded, and micro-batches follow each other.
No other file outside of training/fast imports from fast/cpu or fast/cuda.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from torch import Tensor

from llm_installer.data.batches import Batch, alike, micro_batches, pack
from llm_installer.data.buckets import Bucket
from llm_installer.models.base import DTYPES, model_inputs, to_device
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.compiled import Compiler
from llm_installer.training.fast.cpu import allocator, parallel
from llm_installer.training.fast.cpu.attention import choose_attention
from llm_installer.training.fast.cpu.reserved import ReservedMemory
from llm_installer.training.fast.cuda.graphs import Capture, refusal, without
from llm_installer.training.fast.cuda.to_device import pinned_to_device
from llm_installer.training.fast.document_attention import FLEX, Device
from llm_installer.training.fast.dropout import drops
from llm_installer.training.fast.fixed_steps import FixedSteps, Told, fixed_steps, refused
from llm_installer.training.fast.flat import FlatAdapters, flatten
from llm_installer.training.fast.flat_optimizer import FlatOptimizer, separate_gradients
from llm_installer.training.fast.float8 import fuse_adapters
from llm_installer.training.fast.kernel_choice import fuse_kernels
from llm_installer.training.fast.layer_choice import plan_layers
from llm_installer.training.fast.lora import forget_half_done, watch_of
from llm_installer.training.fast.loss import LossSum, PlainLoss, SupervisedLoss
from llm_installer.training.fast.mask_search import without_search
from llm_installer.training.fast.packed_rows import as_packed, try_packing
from llm_installer.training.fast.pointwise import fuse_pointwise
from llm_installer.training.fast.static_batches import StaticBatches

__all__ = [
    "NOT_PACKED", "OFF", "SHARDED", "Capture", "FastPath", "FixedSteps", "FlatOptimizer", "Told", "drops",
    "flat_adapters", "make_parallel", "prepare", "prepare_process", "speed_up", "without",
]  # fmt: skip
NOT_PACKED = "not packed: the base is sharded over several processes"
OFF = "plain PEFT and transformers, because of --fast off"
SHARDED = "plain PEFT, because the base is sharded over several processes"
Indices = npt.NDArray[np.int64]


def prepare_process(device: str, fast: bool = True) -> None:
    """What a process that trains on a CPU sets before its first matrix product; nothing where the switch is off."""
    if fast and device == "cpu":
        allocator.reserve_freed_memory()
        allocator.remember_few_products()


def flat_adapters(model: PeftModel, plan: Plan, sharded: bool = False) -> FlatOptimizer | None:
    """The model's adapters as views of one tensor, before its optimizer is made; None where they stay apart: with the
    switch off, and beside a sharded base, whose layers are left alone. A gradient for all is only there where each step
    reaches each adapter."""
    flat = flatten(model) if plan.fast and not sharded else None
    if flat is None:
        return None
    reason = separate_gradients(model, flat)
    if not reason:
        flat.attach()
    return FlatOptimizer(model, flat, reason)


def prepare(
    model: PeftModel, plan: Plan, device: Device | None = None, *, images: bool = False, sharded: bool = False,
    flat: FlatAdapters | None = None,
) -> FastPath:  # fmt: skip
    """Choose and put on everything fast that this model can take, on `device`, the plan's kind where none is named.

    `images` says that rows come with pixels, `sharded` that the base is divided over processes: its layers then keep
    their own forwards, because the shards are fetched where those are called. `flat` are its adapters where they lie
    side by side.
    """
    path = FastPath(model, plan, device or plan.device)
    if not plan.fast:
        path.notes = (OFF, path.loss.note)
        return path
    if plan.checkpointed_layers:
        path.short_of_memory()
    flat = flat or (None if sharded else flatten(model))
    alone = parallel.refusal(model, plan, images, sharded)
    replicas = [] if alone else [parallel.replica(model) for _ in range(parallel.COUNT - 1)]
    threads = parallel.threads_each(1 + len(replicas))
    notes = [SHARDED] if sharded else speed_up(model, plan.compiling, threads, plan.kernels, flat)
    path.loss = SupervisedLoss(model, plan.kernels)
    beside = f"one micro-batch at a time: {alone}" if plan.device == "cpu" else ""
    if replicas:
        path.parallel, beside = make_parallel([model, *replicas], path.loss, plan.compiling, flat)
    packed = ""
    if plan.packing:
        path.packing, packed = ("", NOT_PACKED) if sharded else try_packing(model, path.loss, plan)
        path.keeps_rows = plan.device == "cuda" and path.packing != FLEX
    if path.parallel and path.packing:
        path.parallel.pack(path.packing)
    path.notes = (*notes, path.loss.note, *filter(None, [beside, packed]))
    path.reserved = ReservedMemory() if plan.device == "cpu" else None
    if flat and flat.attached:
        flat.zero_grad()
    return path


class FastPath:
    """What the micro-batches of a run are made and computed with. Plain until `prepare` has put things on."""

    def __init__(self, model: PeftModel, plan: Plan, device: Device) -> None:
        self.model, self.device, self.dtype, self.fast = model, device, DTYPES[plan.precision], plan.fast
        self.loss: LossSum = PlainLoss(model)
        self.notes: tuple[str, ...] = ()
        """Which fast paths are on, and why others are not, a sentence each."""
        self.packing = ""
        """The attention for packed rows; empty where rows are padded."""
        self.keeps_rows = False
        """Whether rows of about one length stay rows where others are packed."""
        self.parallel: parallel.ParallelMicroBatches | None = None
        self.reserved: ReservedMemory | None = None

    @property
    def at_once(self) -> int:
        """Micro-batches that are computed at the same time."""
        return len(self.parallel.models) if self.parallel else 1

    def split(self, lengths: Indices, rows: Indices, tokens: int, most_rows: int) -> list[Indices]:
        """Rows that are computed together, at most `tokens` and `most_rows`: packed, or padded to the longest."""
        padded = micro_batches(lengths, rows, tokens, most_rows) if self.keeps_rows or not self.packing else []
        return padded if padded and self.pads(lengths, padded) else pack(lengths, rows, tokens, most_rows)

    def pads(self, lengths: Indices, parts: Sequence[Indices]) -> bool:
        """Whether rows in these parts are padded, not packed."""
        return not self.packing or (self.keeps_rows and alike(lengths, parts))

    def split_step(self, lengths: Indices, rows: Indices, tokens: int, most_rows: int) -> list[Indices]:
        """The same for the rows of an optimizer step, of which several may be computed at the same time."""
        if not self.parallel:
            return self.split(lengths, rows, tokens, most_rows)
        split = parallel.split_packed if self.packing else parallel.split_padded
        return split(lengths, rows, tokens, most_rows)

    def loss_sum(self, batch: Batch, reduction: str = "sum") -> Tensor:
        """Summed loss over the supervised positions of a batch, in nats: a float32 scalar; with reduction "none" the
        loss of each position by itself."""
        copy = pinned_to_device if self.fast else to_device
        arrays = (batch.ids, batch.positions, batch.targets)
        ids, positions, targets = (copy(torch.from_numpy(a), self.device) for a in arrays)
        extra = model_inputs(batch.extra, self.device, self.dtype, copy)
        search = self.fast and self.packing != FLEX
        with as_packed(batch, self.packing, self.device) as packed, without_search(search):
            return self.loss(ids, positions, targets, {**extra, **packed}, reduction)

    def add_gradients(self, batches: Sequence[Batch], supervised: int) -> Tensor:
        """The summed loss of parallel micro-batches; its gradient, divided by `supervised` tokens, is added."""
        assert self.parallel, "only where micro-batches are parallel"
        return self.parallel.add_gradients(batches, supervised)

    def fixed_steps(
        self,
        optimizer: torch.optim.Optimizer,
        gradients: Callable[[], Sequence[Tensor]],
        most: float,
        buckets: Sequence[Bucket],
        told: Told,
    ) -> FixedSteps:
        """Steps of micro-batches of these shapes, clipped to a norm of `most`; only where nothing refuses them."""
        assert isinstance(self.loss, SupervisedLoss), "another loss refuses them"
        static = StaticBatches(self.loss, self.packing, buckets, self.device)

        def say(line: str) -> None:
            self.forget_half_done()  # a recording that fails leaves outputs that nobody has collected
            told.say(line)

        return fixed_steps(static, optimizer, gradients, most, replace(told, say=say))

    def refuses_fixed(self, plan: Plan, rope: str, sharded: bool, images: bool) -> str:
        """Why micro-batches have no fixed shapes in this run; empty where they can have. `rope` is the kind of the
        rotary embedding."""
        kind = torch.device(self.device).type
        return refused(self.loss, self.packing, kind) or refusal(plan, rope, sharded, images)

    def micro_batch_done(self, tokens: int) -> None:
        """Nothing of a micro-batch of so many tokens, padding included, is needed any longer."""
        if self.reserved:
            self.reserved.micro_batch_done(tokens)

    def short_of_memory(self) -> None:
        """Layers are checkpointed from here on: compute one micro-batch at a time, and keep no freed memory."""
        self.parallel = None
        if self.fast and torch.device(self.device).type == "cpu":
            allocator.give_back_freed_memory()

    def forget_half_done(self) -> None:
        """Let go of what a forward pass that failed has left behind."""
        forget_half_done(self.model)


def speed_up(
    model: PeftModel, compiling: bool = False, threads: int = 0, kernels: bool = True, flat: FlatAdapters | None = None
) -> list[str]:
    """Replace the forwards of modules by equal, faster ones; a sentence for each thing done, or why it was not done.

    `compiling` compiles some of them, where that works, for so many `threads` (0: all); `kernels` is whether libraries
    of kernels may be used, `flat` are the adapters where they lie side by side already. Weights, names and
    configuration stay as they are.
    """
    notes = fuse_adapters(model, flat)
    compiler = Compiler(threads) if compiling else None
    refused = compiler.refusal() if compiler else ""
    if refused:
        notes, compiler = [*notes, f"nothing is compiled: {refused}"], None
    # In this order: what has a kernel is not replaced again, and a plan is tried against all of these.
    notes += [*fuse_kernels(model, kernels), *fuse_pointwise(model, compiler), *choose_attention(model, kernels)]
    return [*notes, *plan_layers(model, watch_of(model), compiler, kernels)]


def make_parallel(
    models: Sequence[PeftModel], loss: SupervisedLoss, compiling: bool, flat: FlatAdapters | None = None
) -> tuple[parallel.ParallelMicroBatches | None, str]:
    """Parallel micro-batches and a sentence, or None and why not.

    The first of the models is fast already, and has this loss; the others are its replicas, and are made as fast.
    """
    watch = watch_of(models[0])
    flat = watch.flat if watch else flat
    flats = [flat, *(flat.twin(other) if flat else None for other in models[1:])]
    for other, twin in zip(models[1:], flats[1:], strict=True):
        speed_up(other, compiling, parallel.threads_each(len(models)), loss.kernels, twin)
    if any(p.dtype != torch.float32 for p in models[0].parameters()):  # only then are products taken through bfloat16
        parallel.guard_rotary(models)
        if parallel.multiplies_exactly_elsewhere(models[0], loss):
            return None, "one micro-batch at a time: the model also multiplies in float32"
    losses = [loss, *(SupervisedLoss(other, loss.kernels) for other in models[1:])]
    made = parallel.ParallelMicroBatches(models, losses, [f for f in flats if f and f.attached])
    return made, f"{len(models)} parallel micro-batches on {torch.get_num_threads()} cores"
