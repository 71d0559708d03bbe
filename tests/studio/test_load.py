"""Many pages that ask, and large files that come meanwhile: nobody waits for long, nothing is lost, memory stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiers import minutes

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "studio_load.py"


@minutes
@pytest.mark.slow
def test_answers_stay_quick_beside_uploads() -> None:
    """A tenth of the load for which benchmarks/studio_load.py gives figures; on a busy machine it is slower by much."""
    words = ["--pages", "48", "--every", "2", "--uploads", "6", "--seconds", "6", "--rounds", "2", "--json"]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=True)
    rounds = json.loads(done.stdout)
    assert [one["wrong"] for one in rounds] == [[]] * 4
    beside = [one for one in rounds if one["name"] == "beside uploads"]
    assert [(len(one["uploads"]), one["lost"]) for one in beside] == [(6, 0)] * 2
    assert min(one["p95"] for one in rounds if one not in beside) < 100
    assert min(one["p95"] for one in beside) < 250
    assert rounds[-1]["resident"] < rounds[1]["resident"] + (30 << 20), "flat"
    assert rounds[-1]["resident"] < 300 << 20
