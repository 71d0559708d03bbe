"""The story after a run: measure what it changed, ask base and tuned model the same, write report.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llm_installer.core.paths import Run
from llm_installer.core.state import Result, RunState
from llm_installer.runs.report import NamedRow, Report, in_short, render

if TYPE_CHECKING:
    from llm_installer.inference.before_after import Comparison
    from llm_installer.runs.job import Job
    from llm_installer.training.loop import TrainingData
    from llm_installer.training.reporters import Sample
    from llm_installer.training.trainer import Trainer
    from llm_installer.ui.console import Console

ASKED, SHOWN = 8, 4
"""Prompts answered by base and tuned model at the end, and those of them that the console shows."""


def look_back(
    job: Job, trainer: Trainer, data: TrainingData, state: RunState, result: Result, switched: bool, console: Console
) -> None:
    """Measure, ask, write the report, and say the shortest of it."""
    from llm_installer.training.evaluation import choose_side, measure

    run, seed = Run(result.run), job.plan.seed
    learned = choose_side(job.prepared.train, data.train_slice, seed, state)
    kept = choose_side(job.prepared.validation, data.validation, seed, state)
    with console.waiting("Measuring what the run changed"):
        measured = measure(trainer, job.encoder, learned, kept)
        answers = [] if job.options.skip_test else _ask(job, trainer)
    held_out = bool(len(job.given.validation))
    sides = {False: job.given.train, True: job.given.validation}
    talk = f"{job.folder.root}/start.sh" + ("" if switched else f" --lora {result.adapter}")
    report = Report(
        model=job.info.name,
        run=run.id,
        data=str(job.options.sources),
        plan=job.plan,
        result=result,
        measured=measured,
        rows=[NamedRow(str(sides[row.held_out][row.source].origin), row) for row in measured.rows],
        answers=answers,
        held_out=held_out,
        samples=_samples(run, result.best_step),
        lora=_lora(job, result, switched),
        talk=talk,
        picture=run.history_png.name if run.history_png.exists() else "",
        changes=state.adjustments,
    )
    run.report.write_text(render(report), encoding="utf-8")
    console.comparison([*answers[:SHOWN], *answers[ASKED:]], answers, held_out)
    console.samples(report.samples)
    console.closing(job.folder, result, switched=switched, found=in_short(report), report=run.report)


def _ask(job: Job, trainer: Trainer) -> list[Comparison]:
    """Base and tuned answers to held-out prompts (training prompts where none are held out), and to the user's."""
    from llm_installer.inference.before_after import compare, different

    examples = job.given.validation if len(job.given.validation) else job.given.train
    return compare(trainer.model, job.encoder, different(examples, ASKED), job.options.test_prompt)


def _lora(job: Job, result: Result, switched: bool) -> str:
    """What ./lora is after this run."""
    if switched:
        return f"./lora is now the adapter of this run, from step {result.best_step:,}, its best."
    if not result.improved:
        return f"No measurement beat the base model, so ./lora is as it was; this adapter is {result.adapter}."
    return f"./lora is as it was; this adapter, from step {result.best_step:,}, is {result.adapter}."


def _samples(run: Run, best_step: int) -> list[tuple[int, list[Sample]]]:
    """(step, answers to the user's prompts) of the first and the best measurement, from samples.jsonl."""
    from llm_installer.training.reporters import Sample

    if not run.samples.exists():
        return []
    found: dict[int, list[Sample]] = {}
    for line in run.samples.read_text(encoding="utf-8").splitlines():
        value = json.loads(line)
        found.setdefault(value["step"], []).append(Sample(value["prompt"], value["answer"], value["ended"]))
    return [(step, found[step]) for step in dict.fromkeys((min(found), best_step)) if step in found]
