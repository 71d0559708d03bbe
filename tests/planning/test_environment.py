"""What a training process is started with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llm_installer.core.hardware import GIB, Hardware
from llm_installer.planning.environment import environment


def on(device: str) -> dict[str, str]:
    return environment(Hardware(device, "", 1, GIB, GIB, True, 3))  # type: ignore[arg-type]


def test_each_device_has_its_own_settings() -> None:
    assert on("cpu")["OMP_NUM_THREADS"] == "3" and on("cpu")["OMP_WAIT_POLICY"] == "passive"
    assert on("cuda").keys() == {"PYTORCH_CUDA_ALLOC_CONF"}
    assert on("mps") == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as Linux counts them")
def test_freed_memory_is_not_faulted_in_again() -> None:
    code = (
        "import resource as r\nfor i in range(40):\n  b = bytearray(b'1') * (64 << 20); del b\n"
        "print(r.getrusage(r.RUSAGE_SELF).ru_minflt)"
    )
    faults = []
    for extra in ({}, on("cpu")):
        bare = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        done = subprocess.run([sys.executable, "-c", code], env={**bare, **extra}, capture_output=True, check=True)
        faults.append(int(done.stdout))
    assert faults[1] * 5 < faults[0]
