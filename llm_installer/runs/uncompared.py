"""The report of a run whose adapter could not be compared with its base: its losses and its plan."""

from __future__ import annotations

from llm_installer.core.markdown import document, plain, table
from llm_installer.core.paths import Run
from llm_installer.core.state import Result, RunState
from llm_installer.core.text import counted
from llm_installer.runs.job import Job
from llm_installer.runs.report import adjustments_part, plan_part


def render(job: Job, state: RunState, result: Result, lora: str, why: str) -> str:
    """report.md of a run that ended; `lora` says what ./lora is, `why` why nothing was compared."""
    run, steps = Run(result.run), counted(result.steps, "step")
    return document(
        [
            [f"# {plain(job.info.name)}: run {plain(run.id)}"],
            [f"Trained on {plain(str(job.options.sources))} for {steps}. Stopped because {plain(result.stop_reason)}."],
            [lora],
            [why],
            [f"![Loss over the run]({run.history_png.name})"] if run.history_png.exists() else [],
            losses_part("Loss over the run", state),
            plan_part(job.plan),
            adjustments_part(state.adjustments),
        ]
    )


def losses_part(title: str, state: RunState) -> list[str]:
    """Both losses at each evaluation; nothing where there was none."""
    losses = [
        (f"{e.step:,}", f"{e.train_loss:.4f}", "" if e.validation_loss is None else f"{e.validation_loss:.4f}")
        for e in state.history
    ]
    return [f"## {title}", "", *table(("step", "training rows", "validation rows"), losses)] if losses else []
