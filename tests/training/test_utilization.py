"""The machine's limit: named for known GPUs, measured elsewhere."""

from __future__ import annotations

import time

import torch

from llm_installer.training.utilization import SIDE, machine_limit, measured_limit


def test_a_known_gpu_is_looked_up_and_a_cpu_measured_once() -> None:
    assert machine_limit("NVIDIA H200", "cuda", "bfloat16") == 989e12
    found = machine_limit("CPU", "cpu", "float32")
    assert measured_limit("cpu", "float32") == found
    square = torch.randn(SIDE, SIDE)
    before = time.perf_counter()
    torch.mm(square, square)
    assert found > 0.3 * 2 * SIDE**3 / (time.perf_counter() - before), "it is the best of several"
