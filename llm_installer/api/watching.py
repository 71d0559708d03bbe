"""How a training went and what memory is in use, in Python."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import memory_bytes
from llm_installer.core.paths import Run
from llm_installer.core.state import Result
from llm_installer.core.text import size

LATEST = 10
"""Steps that are looked at, as many before them for comparison."""
LOW_RATE = 1e-6


@dataclass(frozen=True)
class Memory:
    """Memory in bytes."""

    free: int
    total: int
    """Main memory of the machine, or of the container."""
    gpu: int | None = None
    """What torch has allocated on the GPU; None where there is none."""

    @property
    def percent(self) -> float:
        """Main memory in use, from 0 to 100."""
        return 100 * (1 - self.free / self.total)

    def __str__(self) -> str:
        gpu = "" if self.gpu is None else f"; {size(self.gpu)} on the GPU"
        return f"{size(self.total - self.free)} of {size(self.total)} in use ({self.percent:.0f}%){gpu}"


def memory_usage() -> Memory:
    """Main memory that is free, and what torch has allocated on a GPU: print it, or take the numbers."""
    import torch

    free, total = memory_bytes()
    return Memory(free, total, torch.cuda.memory_allocated() if torch.cuda.is_available() else None)


def training_diagnostics(run: Result | str | Path) -> list[str]:
    """What looks wrong with a run, one sentence each; nothing where nothing does.

    `run` is what `lora_sft` returned, or the folder of a run. Raises UsageError where there is no record of its steps.
    """
    folder = Run(run.run if isinstance(run, Result) else Path(run).expanduser())
    try:
        lines = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        raise UsageError(f"{folder.root} has no readable metrics.jsonl; name the folder of a run") from None
    return findings([line for line in lines if isinstance(line, dict)])


def findings(lines: list[dict[str, object]]) -> list[str]:
    """The same from the lines of metrics.jsonl."""
    steps = [line for line in lines if line.get("kind") == "step"]
    losses = _numbers(steps, "loss")
    found = []
    if lost := len(steps) - len(losses):
        found.append(f"The loss of {lost:,} of {len(steps):,} steps is not a number")
    before, after = losses[-2 * LATEST : -LATEST], losses[-LATEST:]
    if len(before) == LATEST and (grown := _mean(after) - _mean(before)) > 2 * _error(before, after):
        found.append(f"The loss of the last {LATEST} steps is {grown:.3g} higher than that of the {LATEST} before")
    validation = _numbers(lines, "validation_loss")
    if validation and (worse := validation[-1] - min(validation)) > 0.1 * min(validation):
        found.append(f"The validation loss ended {worse:.3g} above its best, {min(validation):.3g}: overfitting")
    rates = _numbers(steps, "learning_rate")
    if rates and max(rates) < LOW_RATE:
        found.append(f"The learning rate never exceeds {max(rates):.1g}, which is hardly any training")
    return found


def _numbers(lines: list[dict[str, object]], key: str) -> list[float]:
    """The finite numbers that the lines have under a key."""
    found = [line.get(key) for line in lines]
    return [float(value) for value in found if isinstance(value, int | float) and math.isfinite(value)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _error(one: list[float], other: list[float]) -> float:
    """The standard error of the difference of two means."""
    spread = [sum((v - _mean(part)) ** 2 for v in part) / (len(part) - 1) / len(part) for part in (one, other)]
    return math.sqrt(sum(spread))
