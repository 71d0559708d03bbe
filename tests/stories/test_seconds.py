"""A command's seconds, as its last lines say them, are those of the clock."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_closing_line_adds_up_to_the_clock(
    installed: Path, write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    data = write_rows(40)
    words = ["train", str(installed), "--data", str(data), "--epochs", "2", "--no-tensorboard"]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "llm_installer", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    clock = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    line = next(line.strip() for line in done.stdout.splitlines() if line.strip().startswith("Seconds: "))
    found = re.fullmatch(r"Seconds: (.*); ([\d.]+) in all\.", line)
    assert found
    phases = dict(part.rsplit(" ", 1) for part in found[1].split(", "))
    total = float(found[2])
    assert sum(map(float, phases.values())) == pytest.approx(total, abs=0.06 * len(phases))
    # What ends the process, once all is said, is not in it: half a second.
    assert clock - 0.05 * clock - 0.5 <= total <= clock, (line, clock)
    assert float(phases["start"]) > 0.5 and float(phases.get("other", 0)) < 0.2 * total
