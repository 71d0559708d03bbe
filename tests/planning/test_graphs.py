"""Whether steps are recorded as CUDA graphs, and the memory that is counted for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.planning.fitting import Fit, fit_memory
from llm_installer.planning.graphs import LIBRARIES, choose_graphs
from llm_installer.planning.memory import plan_memory
from llm_installer.planning.method import PLAIN
from llm_installer.planning.setup import Adapters, Setup


def setup_of(folder: Path, free: int = 8 * GIB, **more: Any) -> Setup:
    hardware = Hardware(more.pop("device", "cuda"), "a GPU", 1, free, free, True, 2)
    made = {
        "model": read_model_info(folder), "hardware": hardware, "precision": "bfloat16", "method": PLAIN,
        "packing": True, "adapters": Adapters(16, 32, 0.0, ("q_proj", "v_proj")), "longest": 512, "fast": True,
    }  # fmt: skip
    return Setup(**{**made, **more})


def chosen(setup: Setup, sharded: bool = False) -> tuple[Fit, Fit, bool, str]:
    memory = plan_memory(setup)
    fit = fit_memory(memory, enough=16384, longest=512, step_tokens=8192, smaller=memory)
    return fit, *choose_graphs(setup, memory, fit, 8192, sharded)


def test_the_memory_of_the_largest_micro_batch_is_counted_twice(tiny_llama: Path) -> None:
    setup = setup_of(tiny_llama)
    bare, fit, on, why = chosen(setup)
    memory = plan_memory(setup)
    assert on and "does not wait" in why
    assert fit.peak - bare.peak == memory.peak(8192) - memory.peak(0) + LIBRARIES
    assert dataclasses.replace(fit, peak=bare.peak) == bare


def test_where_that_does_not_fit_nothing_is_recorded_and_nothing_else_changes(tiny_llama: Path) -> None:
    roomy = plan_memory(setup_of(tiny_llama))
    need = roomy.peak(16384) + (roomy.peak(8192) - roomy.peak(0)) // 2
    bare, fit, on, why = chosen(setup_of(tiny_llama, int(need / 0.92)))
    assert not on and fit == bare and why.startswith("memory is short: they would take ")


@pytest.mark.parametrize(
    ("more", "sharded", "why"),
    [
        ({"device": "cpu"}, False, ""),
        ({"fast": False}, False, "plain PEFT"),
        ({"precision": "float16"}, False, "float16"),
        ({"method": dataclasses.replace(PLAIN, neftune_noise_alpha=5.0)}, False, "NEFTune"),
        ({}, True, "sharded"),
    ],
)
def test_why_nothing_is_recorded(more: dict[str, Any], sharded: bool, why: str, tiny_llama: Path) -> None:
    _, _, on, said = chosen(setup_of(tiny_llama, **more), sharded)
    assert not on and why in said and bool(said) == bool(why)
