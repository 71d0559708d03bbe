"""The memory formula against fresh processes: a few cases in the slow tests, all of them where they are asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiers import minutes

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "memory.py"
CASES = re.findall(r'^    "([^"]+)": Case\(', SCRIPT.read_text(encoding="utf-8"), flags=re.M)
QUICK = ("small", "all checkpointed")
OTHER = ("nf4", "int8", "packed", "dropout", "dora")
PLAIN = [case for case in CASES if not any(way in case for way in OTHER)]
LOOSE = {"int8": 0.3, "int8 bf16": 0.3}
"""What a CPU keeps of freed memory there differs from run to run; docs/concepts/memory.md has the figures."""


def ratio(case: str, path: str) -> float:
    """Predicted bytes over measured ones, both above what the libraries hold."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--case", case, "--path", path, "--json"],
        env=environment, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    return found["predicted"] / found["measured"]


def test_there_are_ten_plain_cases_and_some_of_every_other_way() -> None:
    assert len(PLAIN) == 10 and set(QUICK) < set(PLAIN)
    for way in OTHER:
        assert any(way in case for case in CASES), way


@minutes
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("case", QUICK)
def test_a_prediction_is_near_what_is_measured(case: str) -> None:
    assert ratio(case, "fused") == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.skipif("MEMORY_CASES" not in os.environ, reason="minutes of a quiet machine: MEMORY_CASES=1 asks for it")
@pytest.mark.parametrize(("case", "path"), [*((case, "fused") for case in CASES), *((case, "eager") for case in PLAIN)])
def test_all_predictions_are_near_what_is_measured(case: str, path: str) -> None:
    assert ratio(case, path) == pytest.approx(1, abs=LOOSE.get(case, 0.15))
