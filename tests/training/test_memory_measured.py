"""The memory formula against fresh processes: a few cases always, all ten in the slow tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "memory.py"
CASES = re.findall(r'^    "([^"]+)": Case\(', SCRIPT.read_text(encoding="utf-8"), flags=re.M)
QUICK = ("small", "all checkpointed")


def ratio(case: str, path: str) -> float:
    """Predicted bytes over measured ones, both above what the libraries hold."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--case", case, "--path", path, "--json"],
        env=environment, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    return found["predicted"] / found["measured"]


def test_there_are_ten_cases() -> None:
    assert len(CASES) == 10 and set(QUICK) < set(CASES)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("case", QUICK)
def test_a_prediction_is_near_what_is_measured(case: str) -> None:
    assert ratio(case, "fused") == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.skipif("MEMORY_CASES" not in os.environ, reason="minutes of a quiet machine: MEMORY_CASES=1 asks for it")
@pytest.mark.parametrize("path", ["fused", "eager"])
@pytest.mark.parametrize("case", CASES)
def test_all_predictions_are_near_what_is_measured(case: str, path: str) -> None:
    assert ratio(case, path) == pytest.approx(1, abs=0.15)
