"""Seconds from the command to the step loop: `train` on a small model and few rows, caches warm, several times.

Run as: python benchmarks/startup.py MODEL DATA.json       (a model folder; ../shared/models/stories260K is small)
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
LINES = {"plan": b"Plan", "step loop": b"Training ", "base measured": b"Evaluation #0", "end": b"Trained "}
"""Moments, and how the line begins that tells of each."""


def moments(model: Path, data: str, home: str) -> dict[str, float]:
    """Seconds from the start of the process to each line."""
    command = [sys.executable, "-m", "llm_installer", "train", "--model-path", str(model), "--data", data]
    command += ["--allow-cut-answers"]
    began, found = time.perf_counter(), {}
    with subprocess.Popen(
        [*command, "--epochs", "1", "--skip-test", "--no-tensorboard"],
        env=os.environ | {"LLM_HOME": home}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            found.update({name: time.perf_counter() - began for name, words in LINES.items() if line.startswith(words)})
    if process.returncode:
        sys.exit(f"training ended with exit code {process.returncode}")
    return found


def main() -> None:
    """Install, train once to warm the caches, then measure."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    model, data = sys.argv[1:]
    with tempfile.TemporaryDirectory() as home:
        install = [sys.executable, "-m", "llm_installer", "install", model, "--name", "m"]
        subprocess.run(install, env=os.environ | {"LLM_HOME": home}, check=True, capture_output=True)
        runs = [moments(Path(home, "models", "m"), data, home) for _ in range(ROUNDS + 1)][1:]
    for name in LINES:
        seconds = sorted(run[name] for run in runs)
        print(f"{name:14s} {statistics.median(seconds):5.1f} s   ({seconds[0]:.1f} to {seconds[-1]:.1f})")


if __name__ == "__main__":
    main()
