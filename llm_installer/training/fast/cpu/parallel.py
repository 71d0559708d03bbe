"""Several micro-batches at once on a CPU: a thread for each, with a model of its own that shares all weights.

One micro-batch on all cores leaves them idle wherever the program decides what comes next, and wherever one waits for
the other. Two on half of the cores each do not wait for each other until the step ends.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from torch import Tensor, nn

from llm_installer.core.hardware import usable_cores
from llm_installer.data.batches import Batch, micro_batches
from llm_installer.distributed.processes import count, shares
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.cpu.precision import OtherProducts, exactly
from llm_installer.training.fast.lora import forget_half_done, replace_forward
from llm_installer.training.fast.speed import speed_up
from llm_installer.training.loss import ScoredHead
from llm_installer.training.packing import as_packed

COUNT = 2
"""Micro-batches at once; more were not measured."""
BESIDE = 32
"""Tokens that take as long as a micro-batch does whatever its size: 27 with 135 million parameters on two cores."""
SIZES_TRIED = 64
"""Most sizes of micro-batches that are compared for one step."""


def refusal(model: nn.Module, plan: Plan, pictures: bool, sharded: bool) -> str:
    """Why the micro-batches of a step are computed one after the other; empty where they may go side by side."""
    method = plan.method
    checks = (
        (plan.device != "cpu" or plan.precision != "bfloat16", "only for bfloat16 on CPUs"),
        (usable_cores() < COUNT or torch.get_num_threads() < COUNT, "there is one core"),
        (count() > 1 or sharded, "there are several processes"),
        (bool(method.neftune_noise_alpha) or drops(model), "what is random would depend on which is first"),
        (bool(plan.checkpointed_layers), "memory is short"),
        (bool(method.quantised or method.dora), "the base is quantised, or the adapter is no plain LoRA"),
        (pictures, "there are pictures"),
    )
    return next((why for found, why in checks if found), "")


def drops(model: nn.Module) -> bool:
    """Whether dropout is on anywhere: in the adapters, or in the base, as in GPT-2."""
    rates = (getattr(m, "p" if isinstance(m, nn.Dropout) else "attention_dropout", 0.0) for m in model.modules())
    return any(isinstance(rate, float) and rate > 0 for rate in rates)


class Lanes:
    """Threads with a model each; the first model is the one that is trained, measured and saved."""

    def __init__(self, model: PeftModel, head: ScoredHead, twins: Sequence[PeftModel]) -> None:
        self.models = [model, *twins]
        self.heads = [head, *(ScoredHead(twin, head.kernels) for twin in twins)]
        self._trained = [[p for p in m.parameters() if p.requires_grad] for m in self.models]
        self.packing = ""
        """The attention for packed rows; empty where rows are padded."""
        self._attached = ExitStack()
        for other in self.heads[1:]:
            self._attached.enter_context(other.attached())
        cores, each = torch.get_num_threads(), (threads(twins),)
        self._pools = [ThreadPoolExecutor(1, "lane", torch.set_num_threads, each) for _ in self.models]
        for pool in self._pools:
            pool.submit(torch.get_num_threads).result()
        torch.set_num_threads(cores)

    def step(self, batches: Sequence[Batch], learned: int) -> Tensor:
        """The summed loss of all; its gradient, divided by `learned`, is added to that of the first model.

        Who computes what depends on the sizes alone, and gradients are added in the order of the lanes.
        """
        dealt = _deal([b.ids.size for b in batches])
        works = [
            pool.submit(self._compute, lane, [batches[i] for i in mine], learned)
            for lane, (pool, mine) in enumerate(zip(self._pools, dealt, strict=True))
        ]
        errors = [work.exception() for work in works]
        for error in errors:
            if error:
                self.forget()
                raise error
        for parameters in zip(*self._trained, strict=True):
            first = parameters[0]
            for other in parameters[1:]:
                if other.grad is not None:
                    first.grad = other.grad if first.grad is None else first.grad.add_(other.grad)
                    other.grad = None
        return torch.stack([work.result() for work in works]).sum()

    def pack(self, kind: str) -> None:
        """Take packed rows from here on, with the attention that the first model was given for them."""
        self.packing = kind
        for model in self.models[1:]:
            base: Any = model.get_base_model()
            base.set_attn_implementation(kind)

    def forget(self) -> None:
        """Let go of what a step that failed has left in the twins."""
        for model, trained in zip(self.models[1:], self._trained[1:], strict=True):
            forget_half_done(model)
            for parameter in trained:
                parameter.grad = None

    def _compute(self, lane: int, batches: Sequence[Batch], learned: int) -> Tensor:
        total = torch.zeros(())
        for batch in batches:
            ids, positions, targets = (torch.from_numpy(a) for a in (batch.ids, batch.positions, batch.targets))
            extra = {name: torch.from_numpy(array) for name, array in batch.extra.items()}
            with as_packed(batch, self.packing, ids.device) as packed:
                loss = self.heads[lane].loss_sum(self.models[lane], ids, positions, targets, {**extra, **packed})
            torch.autograd.backward(loss / learned)
            total += loss.detach()
        return total


def threads(twins: Sequence[object]) -> int:
    """Threads of each lane, where there are so many beside the first; 0 where it has all of them."""
    return max(1, torch.get_num_threads() // (1 + len(twins))) if twins else 0


def twin(model: PeftModel) -> PeftModel:
    """A model with modules of its own and the same weights. Those that are trained are tensors of their own, for their
    gradient, on the same memory."""
    memo: dict[int, object] = {id(buffer): buffer for buffer in model.buffers()}
    for p in model.parameters():
        memo[id(p)] = nn.Parameter(p.detach()) if p.requires_grad else p
    return copy.deepcopy(model, memo).train()


def guard_rotary(models: Sequence[nn.Module]) -> None:
    """Positions need all their digits, whatever another thread computes."""
    for model in models:
        for module in model.modules():
            if type(module).__name__.endswith("RotaryEmbedding"):
                replace_forward(module, exactly(module.forward))


def multiplies_exactly_elsewhere(model: PeftModel, head: ScoredHead) -> bool:
    """Whether a step multiplies float32 matrices outside of what is guarded; another thread could blur them."""
    base: Any = model.get_base_model()
    words = base.get_input_embeddings().weight
    ids = torch.arange(8).remainder(len(words)).unsqueeze(0)
    watched = OtherProducts()
    # What is compiled multiplies nothing, and cannot be watched.
    with torch.compiler.set_stance("force_eager"), watched, head.attached(), torch.enable_grad():
        torch.autograd.backward(head.loss_sum(model, ids, torch.arange(7), ids[0, 1:]))
    model.zero_grad()
    return watched.found


def side_by_side(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tokens: int, most_rows: int
) -> list[npt.NDArray[np.int64]]:
    """Micro-batches of `tokens` between them for COUNT lanes: of neighbours in length, so that little is padded, and of
    the size with which the lane that has most to do has least."""
    each, own = tokens // COUNT, np.unique(lengths[rows])
    sizes = np.unique(np.outer(own, np.arange(1, min(len(rows), each // max(1, int(own[0]))) + 1)))
    sizes = sizes[sizes <= each]
    tried = sizes[np.unique(np.linspace(0, len(sizes) - 1, SIZES_TRIED).astype(int))] if len(sizes) else [each]
    splits = [micro_batches(lengths, rows, int(size), most_rows) for size in tried]
    return min(splits, key=lambda split: _longest([int(lengths[part].max()) * len(part) for part in split]))


def _longest(sizes: Sequence[int]) -> int:
    """What the lane with most to do has to do, in tokens."""
    return max(sum(sizes[i] + BESIDE for i in mine) for mine in _deal(sizes))


def _deal(sizes: Sequence[int]) -> list[list[int]]:
    """Which lane computes which micro-batches of so many tokens."""
    return shares([size + BESIDE for size in sizes], COUNT)


def packed_side_by_side(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tokens: int, most_rows: int
) -> list[npt.NDArray[np.int64]]:
    """The same for packed rows: as few parts as there can be, of about the same size, some for each lane."""
    sizes, each = lengths[rows].tolist(), tokens // COUNT
    parts, dealt = COUNT * max(1, math.ceil(sum(sizes) / (each * COUNT))), [[i] for i in range(len(rows))]
    while parts < len(rows):
        found = shares(sizes, parts)
        if all(len(part) <= most_rows and (sum(sizes[i] for i in part) <= each or len(part) == 1) for part in found):
            dealt = found
            break
        parts += COUNT
    return [rows[part] for part in dealt]


def make_lanes(
    model: PeftModel, head: ScoredHead, twins: Sequence[PeftModel], compiling: bool
) -> tuple[Lanes | None, str]:
    """Lanes, or None and why not. The twins were made before the model was made faster."""
    for other in twins:
        speed_up(other, compiling, threads(twins), head.kernels)
    guard_rotary([model, *twins])
    if multiplies_exactly_elsewhere(model, head):
        return None, "one micro-batch at a time: the model multiplies in float32, too"
    return Lanes(model, head, twins), f"{COUNT} micro-batches at once, on {torch.get_num_threads()} cores"
