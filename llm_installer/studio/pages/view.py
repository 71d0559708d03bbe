"""A job or a run as its page shows it: from the database and the run's folder, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.forecast import Duration
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.record import FINISHED
from llm_installer.core.text import duration, loss_text, shortened
from llm_installer.runs.listing import RunRow, list_runs
from llm_installer.studio import foresight, states
from llm_installer.studio.access.visible import of_job
from llm_installer.studio.pages.actions import Action, job_actions, question, run_actions
from llm_installer.studio.pages.points import plan_values
from llm_installer.studio.pages.report import report_parts, samples, start_of
from llm_installer.studio.pages.stages import Stage, stage
from llm_installer.studio.pages.words import for_page
from llm_installer.studio.plain import Json
from llm_installer.studio.store.tables import Event, Job

_BEFORE = {
    states.QUEUED: "It waits for its turn: this machine trains one after the other. The page can be closed meanwhile.",
    states.PREPARING: "The data are read and the model is loaded. The first point comes within a minute with a small "
    "model, and after some minutes with a large one.",
    states.INSTALLING: "The model is downloaded first; how long that takes is a matter of the network.",
    states.TRAINING: "The model is loaded, and its loss before training is computed: the first point of the curve.",
    states.RESUMABLE: "It has lost its worker; another one goes on from the newest checkpoint in a moment.",
}
"""What is said in the place of an empty curve."""


@dataclass(frozen=True)
class View:
    """What the page of a run says."""

    key: str
    """Of its addresses: the id of a job, or model/run."""
    title: str
    about: str
    state: str
    words: str
    running: bool
    live: bool
    progress: int
    error: str = ""
    last: int = 0
    """The number of the newest event that is shown."""
    points: bool = False
    figures: Sequence[tuple[str, str]] = ()
    foresight: str = ""
    actions: Sequence[Action] = ()
    samples: Sequence[tuple[str, list[tuple[int, str]]]] = ()
    report: Sequence[tuple[str, str]] = ()
    """(title, Markdown) of its parts, what matters most first."""
    files: Sequence[tuple[str, str, int]] = ()
    events: Sequence[tuple[datetime, str, str]] = ()
    plan: Sequence[tuple[str, str, str]] = ()
    stage: Stage = field(default_factory=Stage)
    question: str = ""
    """Before it is deleted."""
    talk: str = ""
    """Names by which the chat page knows the base and this run, with a line between them."""
    waiting: str = ""
    """What happens now, where there is no step to show yet."""

    @property
    def version(self) -> str:
        """Such as tiny/3."""
        return self.stage.version


def model_dir(model: str) -> ModelDir:
    """The directory that a job's model has, or would have."""
    return ModelDir(models_dir() / model.replace("/", "_"))


def run_of(job: Job) -> Run | None:
    """The folder of a job's run, where it is on this machine."""
    run = Run(model_dir(job.model).runs / job.run) if job.run and "/" not in job.run and job.run[0] != "." else None
    return run if run and run.root.is_dir() and of_job(run, job.id) else None


def view_of_job(job: Job, file: str, events: Sequence[Event], last: int) -> View:
    """A job with its run; `file` is what its data was called."""
    run, folder = run_of(job), model_dir(job.model)
    rows = list_runs(folder) if run else []
    row = next((one for one in rows if one.run.id == job.run), None)
    ended = job.state in states.ENDED
    about = f"{job.model}, {file}" if file else job.model
    found = View(
        key=job.id,
        title=job.suffix or f"{job.model} on {file or 'its data'}",
        about=about + (f", {run.id}" if run else ""),
        state=job.state,
        words=states.words_of(job.state),
        running=job.state in states.HELD,
        live=not ended,
        progress=job.progress,
        error=for_page(job.error),
        last=last,
        points=bool(run) or not ended or any(event.type == "metrics" for event in events),
        figures=_figures(run, job),
        foresight=foresight.said(job.predicted, _measured(job, run)),
        actions=job_actions(job, row),
        stage=stage(folder, rows, row.run.id) if row and ended else Stage(),
        question=question(row),
        waiting=waiting_for(job),
        events=[(event.at, event.level, text) for event in events if (text := _text(event))],
    )
    return _with_folder(found, run) if run else found


def view_of_run(folder: ModelDir, row: RunRow) -> View:
    """A run that no job asked for, such as one from a terminal."""
    key = f"{folder.root.name}/{row.run.id}"
    seen = Progress.read(row.run)
    share = 100 * seen.step // seen.total_steps if seen and seen.total_steps else 0
    found = View(
        key=key,
        title=row.run.id,
        about=f"{folder.root.name}, {data_names(row)}",
        state=row.status,
        words=states.words_of_run(row.status),
        running=row.status == "running",
        live=False,
        progress=100 if row.status == FINISHED else share,
        points=row.run.metrics.is_file(),
        figures=_figures(row.run, None),
        foresight=_duration(row.run),
        actions=run_actions(row),
        stage=stage(folder, list_runs(folder), row.run.id),
        question=question(row),
    )
    return _with_folder(found, row.run)


def _with_folder(view: View, run: Run) -> View:
    """The same with what lies in the folder of its run."""
    return replace(
        view,
        samples=samples(run),
        report=report_parts(start_of(run.report)),
        files=list(_files(run, view.key)),
        talk=f"{run.root.parent.parent.name}|{run.root.parent.parent.name}:{run.id}",
        plan=list(_plan(run)),
    )


def waiting_for(job: Job) -> str:
    """What happens before the first step, and how long that takes; empty where there is nothing to wait for."""
    return _BEFORE.get(job.state, "") if not job.step else ""


def _figures(run: Run | None, job: Job | None) -> list[tuple[str, str]]:
    seen = Progress.read(run) if run else None
    if seen is None:
        return [("step", f"{job.step:,} of {job.steps:,}")] if job and job.steps else []
    steps = f"{seen.step:,} of {seen.total_steps:,}" if seen.total_steps else f"{seen.step:,}"
    found = [("step", steps)]
    going = seen.training and (job is None or job.state not in states.ENDED)
    if going:
        found.append(("training loss", loss_text(seen.loss)))
    if going and seen.validation_loss is not None:
        found.append((f"validation loss, step {seen.measured_at:,}", loss_text(seen.validation_loss)))
    losses = ("best", seen.best_loss), ("before training", seen.base_loss)
    found += [(name, loss_text(loss)) for name, loss in losses if loss is not None]
    if speed := seen.tokens_per_second:
        found.append(("tokens per second", f"{speed:,.0f}"))
    if going and seen.remaining is not None:
        found.append(("time left", duration(seen.remaining)))
    took = Duration.read(run) if run else None
    found.append(("time taken", duration(took.took_seconds if took and took.took_seconds else seen.elapsed)))
    return found


def _measured(job: Job, run: Run | None) -> Json:
    found = dict(job.measured)
    took = Duration.read(run) if run else None
    if took and took.took_seconds and "seconds" not in found:
        found["seconds"] = took.took_seconds
    weights = run.adapter / "adapter_model.safetensors" if run else None
    if weights and weights.is_file() and "adapter_bytes" not in found:
        found["adapter_bytes"] = weights.stat().st_size
    return found


def _duration(run: Run) -> str:
    found = Duration.read(run)
    return found.said() if found else ""


def _text(event: Event) -> str:
    if event.type == "message":
        return for_page(shortened(str(event.data.get("text", ""))))
    if event.type == "state":
        state = str(event.data.get("state", ""))
        words = states.words_of(state) if state in states.ARROWS else state
        return f"{words}: {for_page(str(event.data['why']))}" if event.data.get("why") else words
    return ""


def _files(run: Run, key: str) -> Iterable[tuple[str, str, int]]:
    weights = run.adapter / "adapter_model.safetensors"
    if weights.is_file():
        yield (
            "adapter.zip: what was learned, for this program, PEFT and vLLM",
            f"/runs/{key}/adapter.zip",
            _bytes(weights),
        )
    for file, words in (
        (run.report, "report.md"),
        (run.metrics, "metrics.jsonl: every number"),
        (run.dropped, "dropped.jsonl: rows that were not used"),
    ):
        if file.is_file():
            yield words, f"/runs/{key}/files/{file.name}", _bytes(file)


def _bytes(file: Path) -> int:
    return file.stat().st_size


def _plan(run: Run) -> Iterable[tuple[str, str, str]]:
    """Values of the plan that have a reason."""
    values = plan_values(run)
    why = values.get("why")
    for name, reason in why.items() if isinstance(why, dict) else ():
        value = values.get(name)
        if value is not None and not isinstance(value, (dict, list)):
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            yield name.replace("_", " "), shown, for_page(str(reason))


def data_names(row: RunRow) -> str:
    """What a run learned from, without folders."""
    return shortened(", ".join(part.rpartition("/")[2] for part in row.data.split(",")), 80)


def rows_loss(row: RunRow) -> str:
    """Loss before and after, in short."""
    if row.base_loss is None or row.best_loss is None:
        return ""
    return f"{row.base_loss:.3f} → {row.best_loss:.3f}"
