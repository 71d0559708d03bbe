"""The story of a training run in three steps: decide -> Job, train -> Trained, finish -> Outcome.

Run as: llm-installer train --model-path DIR --data my.json   (or DIR/train.sh --data my.json)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from llm_installer.core.changes import Changes
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.hub_base import hub_base
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.forecast import Duration, Forecast
from llm_installer.core.run.lock import only_training
from llm_installer.core.run.record import FINISHED, STOPPED
from llm_installer.core.run.samples import ANSWER_TOKENS
from llm_installer.core.run.signals import early_end, stop_requests
from llm_installer.core.speed import timed
from llm_installer.core.startup import import_bitsandbytes
from llm_installer.core.state import Result, RunState
from llm_installer.core.voice import Voice
from llm_installer.data.encoding.known_tokens import refuse_unknown_tokens
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.encoding.prompts import read_prompts
from llm_installer.data.prepare import prepare, read, room
from llm_installer.distributed.launch import check_processes
from llm_installer.planning.contradictions import refuse_contradictions
from llm_installer.planning.cuts import refuse_lost_answers
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.registry import find_handler
from llm_installer.planning.trackers import asked as asked_trackers
from llm_installer.runs.current import settle
from llm_installer.runs.interrupted import interrupted, told_what_is_kept
from llm_installer.runs.job import Job, begin, recorded, replanned
from llm_installer.runs.outcome import Compared, Outcome, outcome
from llm_installer.runs.output import output_folder, refuse_output
from llm_installer.runs.report import QUESTIONS
from llm_installer.runs.resume import find_unfinished, resumed

if TYPE_CHECKING:
    from llm_installer.inference.before_after import Comparison
    from llm_installer.training.checkpoint import Checkpoint
    from llm_installer.training.trainer import Trainer
    from llm_installer.training.training_data import TrainingData

TellRun = Callable[[Run], None]
STARTING = "Starting"
"""What is said while libraries are loaded, which takes seconds."""


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


def run(options: Options, voice: Voice, base: Path | None = None, callbacks: Sequence[object] = ()) -> Outcome | None:
    """All three steps. None in the processes beside the main one.

    --show and --dry-run are not looked at here. Raises InstallerError when it cannot be done.
    """
    with voice.waiting(STARTING):
        from llm_installer.distributed.processes import main_first, main_only, of_main, together

    folder = ModelDir.find(options.model_path)
    folder.require_writable()
    with together(), main_only(lambda: only_training(folder), lambda run: None) as tell_run:
        with main_first(), voice.waiting(STARTING):
            job = decide(options, voice, base)
        voice.show(job)
        # Free memory differs from process to process: one of them plans for all.
        job = replace(job, plan=Plan.from_json(of_main(job.plan.to_json)))
        with voice.waiting(STARTING):
            import_bitsandbytes()
        trained = train(job, voice, tell_run, callbacks)
        found = finish(trained, voice) if trained else None
    if found:
        voice.show(found)
        if found.stopped:
            raise found.stopped
    return found


def decide(options: Options, voice: Voice, base: Path | None = None) -> Job:
    """Model, data, plan: everything that can fail before a weight is loaded, in that order.

    Raises UsageError, ModelError, DataError, or TrainingError where there is nothing to resume, or no room.
    """
    base, folder = base or Path.cwd(), ModelDir.find(options.model_path)
    refuse_contradictions(options)
    check_processes(options)
    unfinished, anyway = find_unfinished(folder, options, base, voice.line), options.resume_anyway
    if unfinished:
        base, options = base if options.sources else Path(unfinished.record.base), unfinished.options
        refuse_contradictions(options)
    asked_trackers(options)  # refuses an unknown one
    refuse_output(options)
    info = read_model_info(folder.weights, folder.root.name)
    handler = find_handler(info)
    phases: dict[str, float] = {}
    with timed(phases, "read"), voice.waiting("Reading the data"):
        given = read(options, base)
    encoder = load_encoder(info, options.train_on_prompt)
    with timed(phases, "encode"), voice.progress("Encoding") as progress:
        prepared = prepare(given, encoder, options, info, handler, progress)
    if not unfinished or anyway:
        refuse_lost_answers(prepared.cut, options, room(prepared.length[0], info, handler))
    refuse_unknown_tokens(prepared.train, encoder.tokenizer, info)
    hardware = probe_hardware()
    plan = make_plan(options, info, handler, hardware, prepared.facts, prepared.length)
    job = Job(options, base, folder, info, handler, hardware, encoder, given, prepared, plan, phases=phases)
    if options.eval_prompts:
        file = base / Path(options.eval_prompts).expanduser()
        job = replace(job, prompts=read_prompts(file, encoder, job.kind, (info.max_positions or 10**6) - ANSWER_TOKENS))
    job = resumed(job, unfinished, anyway) if unfinished else job
    from llm_installer.training.start import checked  # here, for it takes seconds, and what is above may refuse first

    return replace(job, plan=checked(job.plan, info, folder.root))


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


def finish(trained: Trained, voice: Voice) -> Outcome:
    """Evaluate what the run changed, switch ./lora to the adapter where nothing speaks against it, write report.md.

    A signal ends the comparison, and nothing else.
    """
    job, result, state = trained.job, trained.result, trained.state
    changes, answers = None, list["Comparison"]()
    with early_end(trained.asked) as early, voice.waiting("Evaluating what the run changed"):
        if not trained.trainer.sharded:  # to evaluate takes all processes, and the others have ended
            with timed(state.phases, "compare"):
                changes = early.attempt(lambda: _changes(trained), None)
        lora = settle(job, result, changes)
        if changes and not job.options.skip_test:
            with timed(state.phases, "answer"), voice.waiting("Asking base and tuned model"):
                answers = early.attempt(lambda: _answers(trained), answers)
        return outcome(job, state, result, lora, Compared(changes, answers, early.stopped))


def _changes(trained: Trained) -> Changes | None:
    """The losses of base and tuned model on the same rows."""
    from llm_installer.training.evaluation import choose_side, evaluate_changes
    from llm_installer.training.own_text import own_text

    job, data, state, seed = trained.job, trained.data, trained.state, trained.job.plan.seed
    training = choose_side(job.prepared.train, data.train_slice, seed, state)
    validation = choose_side(job.prepared.validation, data.validation, seed, state)
    own = own_text(trained.trainer, job.encoder, state, job.info.max_positions, Run(trained.result.run).own_text)
    return evaluate_changes(trained.trainer, job.encoder, training, validation, own, job.info.path)


def _answers(trained: Trained) -> list[Comparison]:
    """What base and tuned model answer to questions from the data, and to the user's own."""
    from llm_installer.inference.before_after import compare, different

    job, given = trained.job, trained.job.given
    questions = different(given.validation if len(given.validation) else given.train, QUESTIONS)
    return compare(trained.trainer.model, job.encoder, questions, job.options.test_prompt)
