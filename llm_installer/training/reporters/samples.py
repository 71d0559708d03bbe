"""Answers to the user's prompts at each evaluation, in samples.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.samples import Sample
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.core.text import visible
from llm_installer.training.reporters.jsonl import keep_until
from llm_installer.training.reporters.lines import append_whole


class SamplesReporter:
    """Appends one strict JSON object for each prompt and evaluation; no file where there are no prompts."""

    def __init__(self, header: RunHeader) -> None:
        self._path = header.run.samples

    def on_start(self, header: RunHeader) -> None:
        """A resumed run keeps what came before its checkpoint."""
        if header.start_step and self._path.exists():
            keep_until(self._path, header.start_step)

    def on_step(self, report: StepReport) -> None:
        """There are no answers between evaluations."""

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """The answers come through on_samples."""

    def on_samples(self, evaluation: Evaluation, samples: Sequence[Sample]) -> None:
        """Write them at once."""
        lines = [
            json.dumps({"step": evaluation.step, "epoch": evaluation.epoch, **asdict(sample)}, ensure_ascii=False)
            for sample in samples
        ]
        append_whole(self._path, "".join(f"{visible(line)}\n" for line in lines).encode())

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Everything is written already."""

    def on_note(self, text: str) -> None:
        """Notes are in train.log."""
