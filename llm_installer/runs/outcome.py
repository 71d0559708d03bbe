"""What came of a run: its result, what ./lora is now, and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.changes import Changes
from llm_installer.core.hints import quoted, script, typed
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.samples import Sample
from llm_installer.core.state import Result, RunState
from llm_installer.runs.job import Job
from llm_installer.runs.report import NamedRow, Report, in_short, render

if TYPE_CHECKING:  # at run time it would bring torch
    from llm_installer.inference.before_after import Comparison


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and what it left."""

    folder: ModelDir
    result: Result
    switched: bool
    """Whether ./lora is now this run's adapter."""
    report: Report | None
    """None where nothing was compared, as no single GPU holds the model."""
    report_file: Path | None = None

    @property
    def found(self) -> list[str]:
        """What the comparison found, in sentences."""
        return in_short(self.report) if self.report else ["Nothing was compared: no single GPU holds the model."]

    @property
    def talk(self) -> str:
        """The command that talks to the tuned model."""
        return talk(self.folder, self.result, self.switched)


def outcome(
    job: Job, state: RunState, result: Result, switched: bool, found: tuple[Changes, Sequence[Comparison]] | None
) -> Outcome:
    """The outcome of a run, its report written to report.md; `found` are losses and answers, None where there are none.

    Raises OSError when the report cannot be written.
    """
    if found is None:
        return Outcome(job.folder, result, switched, None)
    run, (changes, answers) = Run(result.run), found
    sides = {False: job.given.train, True: job.given.validation}
    report = Report(
        model=job.info.name,
        run=run.id,
        data=str(job.options.sources),
        plan=job.plan,
        result=result,
        changes=changes,
        rows=[NamedRow(str(sides[row.validation][row.source].origin), row) for row in changes.rows],
        answers=answers,
        validation=bool(len(job.given.validation)),
        samples=_samples(run, result.best_step),
        lora=_lora(job, result, switched),
        talk=_talk_from_anywhere(job.folder, result, switched),
        picture=run.history_png.name if run.history_png.exists() else "",
        adjustments=state.adjustments,
    )
    run.report.write_text(render(report), encoding="utf-8")
    return Outcome(job.folder, result, switched, report, run.report)


def _talk_from_anywhere(folder: ModelDir, result: Result, switched: bool) -> str:
    """The same with whole paths, for a file that is read elsewhere."""
    words = [str(folder.root / "start.sh")] + ([] if switched else ["--lora", str(result.adapter)])
    return " ".join(map(quoted, words))


def talk(folder: ModelDir, result: Result, switched: bool) -> str:
    """The command that talks to the tuned model."""
    return script(folder.root, "start.sh") + ("" if switched else f" --lora {typed(result.adapter)}")


def _lora(job: Job, result: Result, switched: bool) -> str:
    """What ./lora is after this run."""
    if switched:
        return f"./lora is now the adapter of this run, from step {result.best_step:,}, its best."
    if not result.improved:
        return f"No evaluation beat the base model, so ./lora is as it was; this adapter is {result.adapter}."
    return f"./lora is as it was; this adapter, from step {result.best_step:,}, is {result.adapter}."


def _samples(run: Run, best_step: int) -> list[tuple[int, list[Sample]]]:
    """(step, answers to the user's prompts) of the first and the best evaluation, from samples.jsonl."""
    if not run.samples.exists():
        return []
    found: dict[int, list[Sample]] = {}
    for line in run.samples.read_text(encoding="utf-8").splitlines():
        value = json.loads(line)
        found.setdefault(value["step"], []).append(Sample(value["prompt"], value["answer"], value["ended"]))
    return [(step, found[step]) for step in dict.fromkeys((min(found), best_step)) if step in found]
