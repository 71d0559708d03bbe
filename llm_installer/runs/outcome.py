"""What came of a run: its result, what ./lora is now, and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.changes import Changes
from llm_installer.core.errors import Interrupted
from llm_installer.core.files import write_text
from llm_installer.core.hints import quoted, script, typed
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.history import Past, remember
from llm_installer.core.run.samples import Sample
from llm_installer.core.state import Result, RunState
from llm_installer.core.text import short_path
from llm_installer.planning.longer import longer
from llm_installer.runs import uncompared
from llm_installer.runs.current import Lora
from llm_installer.runs.job import Job, took
from llm_installer.runs.report import NamedRow, Report, in_short, render

if TYPE_CHECKING:  # at run time it would bring torch
    from llm_installer.inference.before_after import Comparison


@dataclass(frozen=True)
class Compared:
    """What was found out about base and tuned model after a run, as far as it came."""

    changes: Changes | None = None
    answers: Sequence[Comparison] = ()
    stopped: Interrupted | None = None
    """The signal that ended it."""

    @property
    def why(self) -> str:
        """Why there are no changes, as the end of a sentence."""
        return f"{self.stopped.name} came before that" if self.stopped else "no single GPU holds the model"


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and what it left."""

    folder: ModelDir
    result: Result
    lora: Lora
    """What ./lora is now."""
    report: Report | None
    """None where nothing was compared."""
    report_file: Path | None = None
    uncompared: str = ""
    """Why nothing was compared, as a sentence."""
    stopped: Interrupted | None = None
    """The signal that ended the comparison, when all else was done."""

    @property
    def found(self) -> list[str]:
        """What the comparison found, in sentences."""
        return in_short(self.report) if self.report else [self.uncompared]

    @property
    def talk(self) -> str:
        """The command that talks to the tuned model."""
        return talk(self.folder, self.result, self.lora.switched)


def outcome(job: Job, state: RunState, result: Result, lora: Lora, found: Compared) -> Outcome:
    """The outcome of a run, its report written to report.md. Raises OSError when that cannot be written."""
    run, changes, spent = Run(result.run), found.changes, took(job, state)
    if spent:
        spent.write(run)
        if spent.took_seconds and state.step == job.plan.course.total_steps:  # an end of its own is no measure
            remember(Past(job.plan.device, spent.predicted_seconds, spent.took_seconds))
    ended = Outcome(job.folder, result, lora, None, run.report, stopped=found.stopped and _finished(found.stopped, run))
    if changes is None:
        why = f"Nothing was compared: {found.why}."
        write_text(
            run.report,
            uncompared.render(job, state, result, " ".join(lora.said), why + (f" {spent.said()}" if spent else "")),
        )
        return replace(ended, uncompared=why)
    sides = {False: job.given.train, True: job.given.validation}
    report = Report(
        model=job.info.name,
        run=run.id,
        data=str(job.options.sources),
        plan=job.plan,
        result=result,
        changes=changes,
        rows=[NamedRow(str(sides[row.validation][row.source].origin), row) for row in changes.rows],
        answers=found.answers,
        validation=bool(len(job.given.validation)),
        samples=_samples(run, result.best_step),
        lora=" ".join(lora.said),
        talk=_talk_from_anywhere(job.folder, result, lora.switched),
        picture=run.history_png.name if run.history_png.exists() else "",
        adjustments=state.adjustments,
        longer=longer(state, job.plan),
        took=spent.said() if spent else "",
    )
    write_text(run.report, render(report))
    return replace(ended, report=report)


def _finished(stopped: Interrupted, run: Run) -> Interrupted:
    said = "which ended the comparison of base and tuned model; the run itself is finished, and its report is"
    return Interrupted(f"{stopped}, {said} {short_path(run.report)}", stopped.number)


def _talk_from_anywhere(folder: ModelDir, result: Result, switched: bool) -> str:
    """The same with whole paths, for a file that is read elsewhere."""
    words = [str(folder.root / "start.sh")] + ([] if switched else ["--lora", str(result.adapter)])
    return " ".join(map(quoted, words))


def talk(folder: ModelDir, result: Result, switched: bool) -> str:
    """The command that talks to the tuned model."""
    return script(folder.root, "start.sh") + ("" if switched else f" --lora {typed(result.adapter)}")


def _samples(run: Run, best_step: int) -> list[tuple[int, list[Sample]]]:
    """(step, answers to the user's prompts) of the first and the best evaluation, from samples.jsonl."""
    if not run.samples.exists():
        return []
    found: dict[int, list[Sample]] = {}
    for line in run.samples.read_text(encoding="utf-8").splitlines():
        value = json.loads(line)
        found.setdefault(value["step"], []).append(Sample(value["prompt"], value["answer"], value["ended"]))
    return [(step, found[step]) for step in dict.fromkeys((min(found), best_step)) if step in found]
