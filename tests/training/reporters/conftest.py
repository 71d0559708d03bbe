"""A run to report: its folder, its header and a short story with known numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters import Reporter

MakeHeader = Callable[..., RunHeader]


@dataclass
class Story:
    """Forty steps of eight tokens in half a second each, measured every ten; the best is at step 20."""

    header: RunHeader
    state: RunState = field(default_factory=RunState)
    losses: tuple[tuple[float, float], ...] = ((2.0, 2.1), (1.5, 1.7), (1.0, 1.4), (0.7, 1.5), (0.5, 1.6))
    every: int = 10

    def evaluation(self, number: int) -> Evaluation:
        train, validation = self.losses[number]
        step = number * self.every
        known = validation if self.header.validation_rows else None
        return Evaluation(step, step / 20, train, known, 1e-4, 1.25, 16.0, number * 125.5)

    def step(self, number: int) -> StepReport:
        loss = math.nan if number == 7 else 2.0 - number / 40
        return StepReport(number, number / 20, loss, 1e-4, 1.25, 8, 0.5)

    def play(self, reporter: Reporter, evaluations: int = 5) -> None:
        """Everything from the base model's measurement to the given number of them."""
        for number in range(evaluations):
            for step in range((number - 1) * self.every + 1, number * self.every + 1) if number else ():
                self.state.step, self.state.epoch = step, step / 20
                reporter.on_step(self.step(step))
            evaluation = self.evaluation(number)
            reporter.on_evaluation(evaluation, self.state, self.state.record(evaluation))

    def result(self) -> Result:
        state, run = self.state, self.header.run
        reached = state.step, state.best_step, state.base_loss, state.best_loss
        return Result(run.root, run.adapter, *reached, "no improvement", improved=True)


@pytest.fixture
def make_header(tmp_path: Path) -> MakeHeader:
    """Makes the header of a run in a fresh folder, with what a test wants different."""

    def make(**changes: object) -> RunHeader:
        model_dir = ModelDir(tmp_path / "tiny")
        run = Run(model_dir.runs / "20261121-120000-fast")
        run.root.mkdir(parents=True, exist_ok=True)
        usual: dict[str, object] = {
            "model": "tiny",
            "method": "lora",
            "mode": "fast",
            "run": run,
            "model_dir": model_dir,
            "total_steps": 80,
            "epochs": 4.0,
            "patience": 3,
            "perplexity": False,
            "rows": 1234,
            "validation_rows": 137,
        }
        return RunHeader(**(usual | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_story(make_header: MakeHeader) -> Callable[..., Story]:
    """Makes a story whose header has what a test wants different."""
    return lambda **changes: Story(make_header(**changes))
