"""The second step: from a plan to an adapter that is written, whatever ends the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from llm_installer.core.hub_base import hub_base
from llm_installer.core.paths import Run
from llm_installer.core.run.forecast import Duration, Forecast
from llm_installer.core.run.record import FINISHED, STOPPED
from llm_installer.core.run.signals import stop_requests
from llm_installer.core.speed import timed
from llm_installer.core.state import Result, RunState
from llm_installer.core.voice import STARTING, Voice
from llm_installer.runs.interrupted import interrupted, told_what_is_kept
from llm_installer.runs.job import Job, begin, recorded, replanned
from llm_installer.runs.output import output_folder

if TYPE_CHECKING:
    from llm_installer.training.checkpoint import Checkpoint
    from llm_installer.training.trainer import Trainer
    from llm_installer.training.training_data import TrainingData

TellRun = Callable[[Run], None]


@dataclass(frozen=True)
class Trained:
    """A run whose adapter is written."""

    job: Job
    """With the plan as it was at the end."""
    trainer: Trainer
    data: TrainingData
    state: RunState
    result: Result
    asked: int = 0
    """The signal that came after the last step, and so has ended nothing; 0 while none has."""


def train(job: Job, voice: Voice, tell_run: TellRun, callbacks: Sequence[object] = ()) -> Trained | None:
    """Load, train, and write the best adapter. None in the processes beside the main one: they only compute.

    Raises Interrupted, after everything is saved, when a signal ended the run.
    """
    with voice.waiting(STARTING):
        from llm_installer.distributed.processes import is_main, of_main
        from llm_installer.training.checkpoint import CheckpointWriter
        from llm_installer.training.loop import train_loop
        from llm_installer.training.publish import Published, publish
        from llm_installer.training.session import Audience, session, silent_session
        from llm_installer.training.utilization import speed_of

        trainer, data, since = ready(job, voice)
        before = since.state if since else RunState()
        job = replace(
            job, plan=trainer.plan, forecast=forecast_of(job, voice, trainer, data, before), forecast_at=monotonic()
        )
        run = job.run or Run(Path(of_main(lambda: str(begin(job).root))))
    if not is_main():
        with silent_session(CheckpointWriter(run), since) as now:
            train_loop(trainer, data, now)
        return None
    tell_run(run)
    if job.forecast:
        Duration.planned(job.forecast).write(run)
        voice.line(job.forecast.said())
    adapter = output_folder(job.options) or run.adapter
    header = job.header(run, before)
    audience = Audience(job.options, voice, callbacks, job.encoder, job.prompts)
    with told_what_is_kept(job.folder, run), stop_requests() as late, recorded(run) as ended:
        with session(trainer, header, audience, since, job.phases) as now:
            now.requests.take(late.number)
            state, best = train_loop(trainer, data, now)
            # A signal from here on comes too late to stop the run, and only ends the comparison.
            job, stopped = replanned(job, run, trainer.plan), now.requests.number
            if stopped and state.best_loss is None:
                raise interrupted(stopped, job, run, state, None)
            speed = speed_of(job.info, job.plan, job.hardware.name, data.rows, state)
            origin = hub_base(job.folder.info)
            about = Published(job.info, job.plan, str(job.options.sources), job.kind, job.encoder, speed, origin)
            with timed(state.phases, "save"):
                result = publish(trainer.model, best, state, about, run, adapter)
            ended.append((STOPPED if stopped or now.requests.why else FINISHED, result))
            now.report.on_end(state, result)
        if stopped and job.plan.course.total_steps:
            raise interrupted(stopped, job, run, state, adapter)
    return Trained(job, trainer, data, state, result, late.number or (0 if stopped else now.requests.number))


def ready(job: Job, voice: Voice) -> tuple[Trainer, TrainingData, Checkpoint | None]:
    """The model and its rows, with a plan that fits into memory, and the checkpoint to resume from."""
    from llm_installer.training.checkpoint import load_weights, read_checkpoint
    from llm_installer.training.start import load_trainer, probe_memory
    from llm_installer.training.training_data import TrainingData

    with timed(job.phases, "load"):
        trainer = load_trainer(job.plan, job.info, job.encoder, voice, bool(job.prompts))
    data = TrainingData.of(job.given, job.prepared, job.plan)
    since = read_checkpoint(job.since) if job.since else None
    if since and not job.run:
        load_weights(trainer.model, since.weights)
        since = None
    with timed(job.phases, "rehearse"):
        probe_memory(trainer, data, voice, begins=not job.run)
    return trainer, data, since


def forecast_of(job: Job, voice: Voice, trainer: Trainer, data: TrainingData, state: RunState) -> Forecast:
    """How long the run will take."""
    from llm_installer.training.timing import Extra, forecast

    with timed(job.phases, "rehearse"):
        extra = Extra(bool(job.prompts), not job.options.skip_test)
        return forecast(trainer, data, state, extra, voice.line)
