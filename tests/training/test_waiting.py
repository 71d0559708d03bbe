"""A step does not wait for the device more often because it has more micro-batches."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import masking_utils

from llm_installer.data.encoding.row import Row
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.optimizers import OPTIMIZERS, default_optimizer
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.cuda.to_device import pinned_to_device
from llm_installer.training.fast.mask_search import SEARCH, without_search
from llm_installer.training.trainer import Trainer, row_lengths

ASKS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "is_nonzero", "unique_consecutive", "_unique2"}
"""Operations whose result the program reads, or whose size depends on the numbers: on CUDA they wait."""


class Waits(TorchDispatchMode):
    """Counts what would wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        picks = name in ("index", "index_put_") and any(t is not None and t.dtype == torch.bool for t in args[1])
        if name in ASKS or picks:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def trainer_of(folder: Path, plan: Plan) -> Trainer:
    trainer = Trainer(add_lora(load_base(folder, plan.precision, plan.device), plan), plan, pad=0)
    assert any(note.startswith("fused loss") for note in trainer.notes)
    return trainer


def stepped(trainer: Trainer, rows: list[Row], tokens: int, counting: Any) -> tuple[int, Any]:
    """(micro-batches, what waited) of one step in parts of at most so many tokens."""
    trainer.plan = dataclasses.replace(trainer.plan, micro_batch_tokens=tokens)
    batches = trainer.micro_batches(rows, row_lengths(rows), np.arange(len(rows)))
    trainer.step(batches, 1e-3)  # the first step makes what later ones have
    with counting as found:
        assert trainer.step(batches, 1e-3)[2]
    return len(batches), found


@pytest.mark.parametrize("packing", [False, True])
def test_a_step_waits_as_often_with_many_micro_batches_as_with_one(
    tiny_llama: Path, make_rows: Callable[[int], list[Row]], plan_for: Callable[..., Plan], packing: bool
) -> None:
    rows, trainer = make_rows(8), trainer_of(tiny_llama, plan_for(8, micro_batch_rows=8, packing=packing))
    assert bool(trainer.packing) == packing
    parts, waits = zip(*(stepped(trainer, rows, tokens, counting()) for tokens in (4096, 64)), strict=True)
    assert parts[0] == 1 and parts[1] > 2
    assert waits[0] == waits[1] and waits[0].total() <= 4, "loss, norm and what the optimizer asks, once"


@contextmanager
def counting() -> Iterator[Counter[str]]:
    with Waits() as waits:
        yield waits.found


def test_what_is_counted_is_found() -> None:
    data = torch.arange(4)
    with counting() as found:
        float(data.sum())
        data[data > 1]
        data.nonzero()
        torch.equal(data, data)
    assert found == {"_local_scalar_dense": 1, "index": 1, "nonzero": 1, "equal": 1}


def test_documents_are_searched_for_again_afterwards() -> None:
    positions = torch.tensor([[0, 1, 0, 1]])

    def found() -> bool:
        return getattr(masking_utils, SEARCH)(positions) is not None

    with without_search(False):
        assert found()
    with pytest.raises(ZeroDivisionError), without_search():
        assert not found()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(found).result(), "another thread, and another model, search as before"
        raise ZeroDivisionError
    assert found()


def test_the_usual_optimizer_on_cuda_is_one_kernel() -> None:
    assert OPTIMIZERS[default_optimizer("cuda")[0]].settings == (("fused", True),)


def test_on_a_cpu_nothing_is_copied() -> None:
    data = torch.arange(4)
    assert pinned_to_device(data, "cpu") is data


@contextmanager
def cuda_warnings() -> Iterator[list[Any]]:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            yield found
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_on_cuda_it_is_the_same(
    tiny_llama: Path, make_rows: Callable[[int], list[Row]], plan_for: Callable[..., Plan], precision: str
) -> None:
    trainer = trainer_of(tiny_llama, plan_for(8, micro_batch_rows=8, precision=precision, device="cuda"))
    one, many = (stepped(trainer, make_rows(8), tokens, cuda_warnings()) for tokens in (4096, 64))
    assert one[0] == 1 and many[0] > 2 and len(one[1]) == len(many[1]) <= 4
