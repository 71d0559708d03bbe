"""Parallel micro-batches on a CPU: a thread for each, with a replica of the model that shares all weights.

One micro-batch on all cores leaves them idle wherever the program decides what comes next, and wherever one waits for
the other. Two on half of the cores each do not wait for each other until the step ends.
Delete when one micro-batch keeps all cores busy: on two cores, two at once did 405 tokens/s where one did 321
(135 million parameters, bfloat16, torch 2.13).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_installer.core.handler import EXPERTS
from llm_installer.core.hardware import usable_cores
from llm_installer.data.batches import Batch, micro_batches
from llm_installer.distributed.processes import count, shares
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.cpu.precision import OtherProducts, exactly
from llm_installer.training.fast.dropout import drops
from llm_installer.training.fast.flat import FlatAdapters
from llm_installer.training.fast.lora import forget_half_done, replace_forward
from llm_installer.training.fast.loss import LossSum
from llm_installer.training.fast.packed_rows import as_packed

PRECISIONS = ("bfloat16", "float32")
LEAST_WEIGHTS = 30_000_000
"""Of a model in float32: where Python takes longer than the products do, two threads of it wait for each other. On two
cores: 0.83 times as fast with 2.9 million weights, 1.24 times with 135 million; the border between is a guess."""
COUNT = 2
"""Micro-batches at once; more were not measured."""
OVERHEAD = 32
"""Tokens that take as long as a micro-batch does whatever its size: 27 with 135 million parameters on two cores."""
SIZES_TRIED = 64
"""Most sizes of micro-batches that are compared for one step."""


def refusal(model: nn.Module, plan: Plan, images: bool, sharded: bool) -> str:
    """Why the micro-batches of a step are computed one after the other; empty where they can be parallel."""
    method = plan.method
    checks = (
        (plan.device != "cpu" or plan.precision not in PRECISIONS, f"only on CPUs, in {' or '.join(PRECISIONS)}"),
        (
            plan.precision == "float32" and weights(model) < LEAST_WEIGHTS,
            "the model is so small that two threads of Python would wait for each other",
        ),
        (usable_cores() < COUNT or torch.get_num_threads() < COUNT, "there is one core"),
        (count() > 1 or sharded, "there are several processes"),
        (bool(method.neftune_noise_alpha) or drops(model), "what is random would depend on which is first"),
        (bool(plan.checkpointed_layers), "memory is short"),
        (bool(method.quantised or method.dora), "the base is quantised, or the adapter is not plain LoRA"),
        (EXPERTS in plan.target_modules, "PEFT puts other weights in the place of experts while it computes"),
        (images, "there are images"),
    )
    return next((why for found, why in checks if found), "")


def weights(model: nn.Module) -> int:
    """Of the base and of what is trained."""
    return sum(p.numel() for p in model.parameters())


class ParallelMicroBatches:
    """Threads with a model and its loss each; the first model is the one that is trained, evaluated and saved."""

    def __init__(
        self, models: Sequence[PeftModel], losses: Sequence[LossSum], flats: Sequence[FlatAdapters] = ()
    ) -> None:
        """`flats` are the adapters of each model, where the gradients of each are one tensor."""
        self.models, self.losses, self._flats = models, losses, flats
        trained = [[p for p in m.parameters() if p.requires_grad] for m in models]
        flat = [{id(part.parameter) for part in f.parts.values()} for f in flats] or [set() for _ in models]
        self._trained = [[p for p in own if id(p) not in inside] for own, inside in zip(trained, flat, strict=True)]
        self.packing = ""
        """The attention for packed rows; empty where rows are padded."""
        cores, each = torch.get_num_threads(), (threads_each(len(models)),)
        self._pools = [ThreadPoolExecutor(1, "micro-batch", torch.set_num_threads, each) for _ in models]
        for pool in self._pools:
            pool.submit(torch.get_num_threads).result()
        torch.set_num_threads(cores)

    def add_gradients(self, batches: Sequence[Batch], supervised: int) -> Tensor:
        """The summed loss of all; its gradient, divided by `supervised`, is added to that of the first model.

        Which replica computes what depends on the sizes alone, and gradients are added in the order of the replicas.
        """
        dealt = _deal([b.ids.size for b in batches])
        works = [
            pool.submit(self._compute, index, [batches[i] for i in mine], supervised)
            for index, (pool, mine) in enumerate(zip(self._pools, dealt, strict=True))
        ]
        errors = [work.exception() for work in works]
        for error in errors:
            if error:
                self.forget()
                raise error
        for flat in self._flats:
            flat.collect()
        for flat in self._flats[1:]:
            self._flats[0].gradients.add_(flat.gradients)
            flat.zero_grad()
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
            cast(PreTrainedModel, model.get_base_model()).set_attn_implementation(kind)

    def forget(self) -> None:
        """Let go of what a step that failed has left in the replicas."""
        for model, trained in zip(self.models[1:], self._trained[1:], strict=True):
            forget_half_done(model)
            for parameter in trained:
                parameter.grad = None
        for flat in self._flats[1:]:
            flat.zero_grad()

    def _compute(self, index: int, batches: Sequence[Batch], supervised: int) -> Tensor:
        total = torch.zeros(())
        for batch in batches:
            ids, positions, targets = (torch.from_numpy(a) for a in (batch.ids, batch.positions, batch.targets))
            extra = {name: torch.from_numpy(array) for name, array in batch.extra.items()}
            with as_packed(batch, self.packing, ids.device) as packed:
                loss = self.losses[index](ids, positions, targets, {**extra, **packed})
            torch.autograd.backward(loss / supervised)
            total += loss.detach()
        return total


def threads_each(models: int) -> int:
    """Threads of each of so many models; 0 where there is one, which has all of them."""
    return max(1, torch.get_num_threads() // models) if models > 1 else 0


def replica(model: PeftModel) -> PeftModel:
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


def multiplies_exactly_elsewhere(model: PeftModel, loss: LossSum) -> bool:
    """Whether a step multiplies float32 matrices outside of what is guarded; another thread could blur them."""
    words = cast(nn.Embedding, model.get_input_embeddings()).weight
    ids = torch.arange(8).remainder(len(words)).unsqueeze(0)
    watched = OtherProducts()
    # What is compiled multiplies nothing, and cannot be watched.
    with torch.compiler.set_stance("force_eager"), watched, torch.enable_grad():
        torch.autograd.backward(loss(ids, torch.arange(7), ids[0, 1:]))
    model.zero_grad(set_to_none=False)
    return watched.found


def split_padded(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tokens: int, most_rows: int
) -> list[npt.NDArray[np.int64]]:
    """Micro-batches of `tokens` between them for COUNT replicas: of neighbours in length, so that little is padded, and
    of the size with which the replica that has most to do has least."""
    each, own = tokens // COUNT, np.unique(lengths[rows])
    sizes = np.unique(np.outer(own, np.arange(1, min(len(rows), each // max(1, int(own[0]))) + 1)))
    sizes = sizes[sizes <= each]
    tried = sizes[np.unique(np.linspace(0, len(sizes) - 1, SIZES_TRIED).astype(int))] if len(sizes) else [each]
    splits = [micro_batches(lengths, rows, int(size), most_rows) for size in tried]
    return min(splits, key=lambda split: _longest([int(lengths[part].max()) * len(part) for part in split]))


def split_packed(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tokens: int, most_rows: int
) -> list[npt.NDArray[np.int64]]:
    """The same for packed rows: as few parts as there can be, of about the same size, some for each replica."""
    sizes, each = lengths[rows].tolist(), tokens // COUNT
    parts, dealt = COUNT * max(1, math.ceil(sum(sizes) / (each * COUNT))), [[i] for i in range(len(rows))]
    while parts < len(rows):
        found = shares(sizes, parts)
        if all(len(part) <= most_rows and (sum(sizes[i] for i in part) <= each or len(part) == 1) for part in found):
            dealt = found
            break
        parts += COUNT
    return [rows[part] for part in dealt]


def _longest(sizes: Sequence[int]) -> int:
    """What the replica with most to do has to do, in tokens."""
    return max(sum(sizes[i] + OVERHEAD for i in mine) for mine in _deal(sizes))


def _deal(sizes: Sequence[int]) -> list[list[int]]:
    """Which replica computes which micro-batches of so many tokens."""
    return shares([size + OVERHEAD for size in sizes], COUNT)
