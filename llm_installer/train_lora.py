"""The story of a training run: options -> model -> data -> plan -> loop -> adapter.

Run as: llm-installer train --model-path DIR --data my.json   (or DIR/train.sh --data my.json)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.errors import TrainingError, UsageError
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import fingerprint, read_model_info
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import only_training
from llm_installer.core.run.record import FINISHED, STOPPED
from llm_installer.core.speed import timed
from llm_installer.core.startup import import_bitsandbytes
from llm_installer.core.state import Result, RunState
from llm_installer.data.batches import sample
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.prepare import prepare, read
from llm_installer.models.load import load_model
from llm_installer.planning.memory_table import memory_table
from llm_installer.planning.method import refuse_contradictions
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan, make_plan
from llm_installer.planning.registry import find_handler
from llm_installer.runs.evaluate import look_back
from llm_installer.runs.interrupted import break_off
from llm_installer.runs.job import Job, begin, recorded
from llm_installer.runs.resume import check_weights_fit, differences, find_unfinished, refuse
from llm_installer.runs.samples import asking, read_watching
from llm_installer.ui.console import Console

if TYPE_CHECKING:
    from llm_installer.training.checkpoint import Checkpoint
    from llm_installer.training.loop import TrainingData
    from llm_installer.training.reporters import Everyone, Reporter
    from llm_installer.training.signals import Requests
    from llm_installer.training.trainer import Trainer


def run(
    options: Options, console: Console | None = None, base: Path | None = None, callbacks: Sequence[object] = ()
) -> Result | None:
    """Train as asked and return how it ended; None for --show and --dry-run. Raises InstallerError when it cannot."""
    from llm_installer.distributed.processes import main_first, of_main, together

    console, base = console or Console(), base or Path.cwd()
    if options.controlling:
        raise UsageError("--status, --save-now and --stop-now are about another training; give them to train.sh")
    find = resume if options.resuming else decide
    if options.show or options.dry_run or not options.model_path:
        find(options, console, base)
        return None
    with together(), _alone(ModelDir.find(options.model_path)) as tell_run:
        with main_first():
            job = find(options, console, base)
        if job is None:
            return None
        # Free memory differs from process to process: one of them plans for all.
        plan = Plan.from_json(of_main(job.plan.to_json))
        import_bitsandbytes()
        return train_and_publish(replace(job, plan=plan, callbacks=callbacks), console, tell_run)


def _alone(folder: ModelDir) -> AbstractContextManager[Callable[[Run], None]]:
    """The right to train in a model directory, which the main of several processes holds for all."""
    from llm_installer.distributed.processes import is_main

    return only_training(folder) if is_main() else nullcontext(lambda run: None)


def decide(options: Options, console: Console, base: Path) -> Job | None:
    """Model, data, plan: all that can fail cheaply, in that order. None after --show."""
    if not options.model_path:
        raise UsageError("Say which model to train, for example: --model-path ~/LLM/models/tiny")
    refuse_contradictions(options)
    folder = ModelDir.find(options.model_path)
    info = read_model_info(folder.weights, folder.root.name)
    handler = find_handler(info)
    given = read(options, base)
    encoder = load_encoder(info, options.train_on_prompt)
    if options.show:
        console.rows(given.train, encoder, options.show)
        return None
    phases: dict[str, float] = {}
    with timed(phases, "encode"), console.progress("Encoding") as progress:
        prepared = prepare(given, encoder, options, info, handler, progress)
    hardware = probe_hardware()
    plan = make_plan(options, info, handler, hardware, prepared.facts, prepared.length)
    console.opening(info, handler, hardware, given, prepared)
    job = Job(options, base, folder, info, handler, encoder, given, prepared, plan, phases=phases)
    job = replace(job, prompts=read_watching(options, base, encoder, job.kind, info))
    if not options.resuming:
        console.plan(plan)
    if options.dry_run:
        console.memory(memory_table(info, hardware, plan))
    return job


def resume(options: Options, console: Console, base: Path) -> Job | None:
    """The job of an unfinished run, as it was; with --resume-anyway a new one that begins with its weights.

    Raises UsageError when data, model or options are not what they were, and names them.
    """
    if not options.model_path:
        raise UsageError("Say which model's run to go on with, for example: --model-path ~/LLM/models/tiny")
    folder = ModelDir.find(options.model_path)
    unfinished = find_unfinished(folder, options, base, console.line)
    where = base if options.sources else Path(unfinished.record.base)
    job = decide(replace(unfinished.options, resume=True), console, where)
    if job is None:
        return None
    since, hardware = unfinished.checkpoint, probe_hardware()
    found = differences(unfinished, job.rows_fingerprint, job.data_files, fingerprint(job.info.path), hardware.device)
    finished = unfinished.record.status == FINISHED
    if found and not options.resume_anyway:
        raise refuse(unfinished, found)
    if (found or finished) and since:
        check_weights_fit(unfinished.plan, job.plan, fingerprint(job.info.path) == unfinished.record.model)
        console.line(f"A new run begins with the weights of step {since.state.step} of {unfinished.run.id}, and keeps")
        console.line("nothing else: optimizer, schedule, place in the data, best and history begin anew.")
        console.plan(job.plan)
        return replace(job, since=since)
    if not since:
        console.line(f"Run {unfinished.run.id} ended before its first checkpoint, so it begins anew.")
        console.plan(job.plan)
        return job
    console.plan(unfinished.plan)
    console.line(f"Going on with run {unfinished.run.id} after step {since.state.step}.")
    return replace(job, plan=unfinished.plan, unfinished=unfinished, since=since)


def train_and_publish(job: Job, console: Console, tell_run: Callable[[Run], None]) -> Result | None:
    """Load, train, write the adapter, switch `lora` to it, compare. A run that fails or is stopped switches nothing.

    Of several processes the main one does all that comes after training; the others return None.
    """
    from llm_installer.distributed.processes import is_main, of_main
    from llm_installer.training.checkpoint import CheckpointWriter, check_room, load_weights
    from llm_installer.training.fast.cpu.allocator import prepare
    from llm_installer.training.loop import train
    from llm_installer.training.memory_probe import rehearse
    from llm_installer.training.optimizers import check_ready
    from llm_installer.training.publish import Published, publish
    from llm_installer.training.signals import stop_requests
    from llm_installer.training.trainer import Trainer
    from llm_installer.training.utilization import speed_of

    plan, options, since = job.plan, job.options, job.since
    check_ready(plan.method)
    if plan.device == "cpu":
        prepare()
    with timed(job.phases, "load"), console.waiting("Loading the model"):
        model, parted, whole = load_model(job)
    if whole:
        console.line(whole)
    check_room(job.folder.root, model)
    trainer, data = Trainer(model, plan, job.encoder.eos, job.encoder.inputs, parted), _training_data(job)
    if since and not job.unfinished:
        load_weights(model, since.weights)
        since = None
    with timed(job.phases, "rehearse"), console.waiting("Rehearsing the longest rows"):
        plan = rehearse(trainer, data.rows, [*data.train_slice, *data.validation], console.line)
    console.line(f"Fast path: {'; '.join(trainer.notes)}.")
    job = replace(job, plan=plan)
    run = job.unfinished.run if job.unfinished else Run(Path(of_main(lambda: str(begin(job).root))))
    if not is_main():
        _train_along(trainer, data, run, since)
        return None
    tell_run(run)
    adapter = Path(options.output).expanduser().absolute() if options.output else run.adapter
    with recorded(run) as ended, stop_requests() as requests:
        with _reporting(job, run, console, requests, since, trainer) as report:
            state, best = train(trainer, data, CheckpointWriter(run), report, requests, since, job.phases)
            speed = speed_of(job.info, plan, probe_hardware().name, data.rows, state)
            about = Published(job.info, plan, str(options.sources), job.kind, job.encoder, speed)
            if requests.number and state.best_loss is None:
                raise break_off(requests.number, job, run, state, "nothing was measured yet")
            _check_learned(state, run)
            result = publish(model, best, state, about, run, adapter)
            report.on_end(state, result)
        ended.append((STOPPED if requests.number or requests.why else FINISHED, result))
        if requests.number and plan.total_steps:
            raise break_off(requests.number, job, run, state, f"the best so far is {adapter}")
    switched = result.improved and not options.output
    if switched:
        job.folder.switch_to(run)
    if parted:
        # Answers need all processes, and the others have ended.
        console.closing(job.folder, result, switched=switched, found=["No comparison: no single GPU holds the model."])
    else:
        look_back(job, trainer, data, state, result, switched, console)
    return result


def _train_along(trainer: Trainer, data: TrainingData, run: Run, since: Checkpoint | None) -> None:
    """The part of a process that is not the main one: it computes, and writes and says nothing."""
    from llm_installer.training.checkpoint import CheckpointWriter
    from llm_installer.training.loop import train
    from llm_installer.training.reporters import Everyone
    from llm_installer.training.signals import stop_requests

    with stop_requests() as requests:
        train(trainer, data, CheckpointWriter(run), Everyone({}), requests, since)


def _training_data(job: Job) -> TrainingData:
    from llm_installer.training.loop import TrainingData

    rows, measured, seed = job.prepared.train, job.plan.evaluation_rows, job.plan.seed
    return TrainingData(
        rows=rows,
        train_slice=sample(rows, measured, seed),
        validation=sample(job.prepared.validation, measured, seed),
        mix=job.prepared.mix,
        name=lambda i: str(job.given.train[int(rows.source[i])].origin),
    )


def _reporting(
    job: Job, run: Run, console: Console, requests: Requests, since: Checkpoint | None, trainer: Trainer
) -> AbstractContextManager[Everyone]:
    """Everyone who watches the run."""
    from llm_installer.training.reporters import REPORTERS, RunHeader, reporters
    from llm_installer.training.reporters.callbacks import CallbackReporter
    from llm_installer.training.reporters.requests import ControlReporter
    from llm_installer.training.reporters.trackers import trackers

    plan, facts = job.plan, job.prepared.facts
    header = RunHeader(
        model=job.info.name,
        method=plan.method.name,
        mode=plan.mode,
        run=run,
        model_dir=job.folder,
        total_steps=plan.total_steps,
        epochs=plan.epochs,
        patience=plan.limits.patience if "patience" in plan.stop_rules else 0,
        perplexity=plan.task == "text",
        rows=facts.rows,
        validation_rows=facts.validation_rows,
        start_step=since.state.step if since else 0,
    )
    port = job.options.tensorboard_port if job.options.tensorboard else None
    more: dict[str, Reporter] = {"control": ControlReporter(header, requests)}
    if job.callbacks:
        more["callbacks"] = CallbackReporter(header, job.callbacks, requests, console.line)
    return reporters(
        header,
        list(REPORTERS),
        tensorboard_port=port,
        console=console.rich,
        trackers=trackers(header, plan.to_json(), job.options),
        more=more,
        ask=asking(trainer, job.encoder, job.prompts),
    )


def _check_learned(state: RunState, run: Run) -> None:
    """Refuse to publish weights of a run in which nothing could be measured."""
    if state.best_loss is None and state.step:
        raise TrainingError(
            f"The loss was never a finite number, so nothing is kept; ./lora is as it was (details: {run.root}). "
            "Try a lower rate, for example: --learning-rate 1e-4"
        )
