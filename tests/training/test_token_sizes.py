"""Timing several sizes of a micro-batch: what is found, that it leaves no trace, and what happens without memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_installer.models.base import add_lora, load_base
from llm_installer.training.token_sizes import choose_size, rates
from llm_installer.training.trainer import Trainer


@pytest.fixture
def trainer(tiny_llama: Path, plan_for: Callable) -> Trainer:
    plan = plan_for(16, batch=16, micro_batch_tokens=256, micro_batch_rows=16)
    return Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)


def test_each_size_is_timed_and_leaves_no_trace(trainer: Trainer, make_rows: Callable) -> None:
    rows, plan = make_rows(16), trainer.plan
    before = [p.detach().clone() for p in trainer.trained]
    random = torch.random.get_rng_state()
    found = rates(trainer, rows, np.arange(16), (256, 512), seconds=0.05)
    assert list(found) == [256, 512] and all(rate > 0 for rate in found.values())
    assert trainer.plan is plan and not trainer.bare_optimizer.state
    assert all(torch.equal(p, was) and not p.grad.any() for p, was in zip(trainer.trained, before, strict=True))
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_size_for_which_there_is_no_memory_ends_the_timing(trainer: Trainer, make_rows: Callable) -> None:
    def refuse(module: object, args: tuple[torch.Tensor, ...]) -> None:
        if args[0].shape[0] * args[0].shape[1] > 256:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    trainer.model.get_base_model().model.layers[1].register_forward_pre_hook(refuse)
    found = rates(trainer, make_rows(16), np.arange(16), (256, 1024), seconds=0.05)
    assert list(found) == [256] and not any(p.grad.any() for p in trainer.trained)


def test_on_a_cpu_the_plan_stays(trainer: Trainer, make_rows: Callable) -> None:
    plan = trainer.plan
    assert choose_size(trainer, make_rows(16)) is False and trainer.plan is plan
