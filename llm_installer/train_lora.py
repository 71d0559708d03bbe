"""The story of a training run: options -> model -> data -> plan -> loop -> adapter.

Run as: llm-installer train --model-path DIR --data my.json   (or DIR/train.sh --data my.json)
"""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.console import Console
from llm_installer.core.errors import Interrupted, TrainingError, UsageError
from llm_installer.core.examples import Kind
from llm_installer.core.files import write_json
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import ModelInfo, fingerprint, read_model_info
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run_record import FAILED, FINISHED, RUNNING, STOPPED, RunRecord
from llm_installer.core.state import Result, RunState
from llm_installer.data.batches import sample
from llm_installer.data.cache import content_hash
from llm_installer.data.encode import Encoder, load_tokenizer
from llm_installer.data.prepare import Given, Prepared, prepare, read
from llm_installer.going_on import Unfinished, differences, find_unfinished, refuse
from llm_installer.planning.lora import refuse_contradictions
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan, make_plan
from llm_installer.planning.registry import find_handler

if TYPE_CHECKING:
    from llm_installer.training.checkpoint import Checkpoint
    from llm_installer.training.loop import TrainingData
    from llm_installer.training.reporters import Everyone
    from llm_installer.training.signals import Requests

COMPARED = 4
"""Held-out prompts answered by base and tuned model at the end."""


@dataclass(frozen=True)
class Job:
    """Everything decided before the first weight is loaded."""

    options: Options
    base: Path
    """What relative paths of the options are below."""
    folder: ModelDir
    info: ModelInfo
    handler: Handler
    encoder: Encoder
    given: Given
    prepared: Prepared
    plan: Plan
    unfinished: Unfinished | None = None
    """The run to go on with."""
    since: Checkpoint | None = None
    """The moment of it to go on from; with no unfinished run, where the weights come from."""

    @property
    def kind(self) -> Kind:
        """The kind most examples have: it decides how the adapter is talked to."""
        seen = range(0, len(self.given.train), max(1, len(self.given.train) // 1000))
        return Counter(self.given.train[i].kind for i in seen).most_common(1)[0][0]


def run(options: Options, console: Console | None = None, base: Path | None = None) -> Result | None:
    """Train as asked and return how it ended; None for --show and --dry-run. Raises InstallerError when it cannot."""
    console, base = console or Console(), base or Path.cwd()
    job = resume(options, console, base) if options.resuming else decide(options, console, base)
    if job is None or options.dry_run:
        return None
    return train_and_publish(job, console)


def decide(options: Options, console: Console, base: Path) -> Job | None:
    """Model, data, plan: all that can fail cheaply, in that order. None after --show."""
    if not options.model_path:
        raise UsageError("Say which model to train, for example: --model-path ~/LLM/models/tiny")
    refuse_contradictions(options)
    folder = ModelDir.find(options.model_path)
    info = read_model_info(folder.weights, folder.root.name)
    handler = find_handler(info)
    given = read(options, base)
    encoder = Encoder(load_tokenizer(folder.weights), options.train_on_prompt)
    if options.show:
        console.rows(given.train, encoder, options.show)
        return None
    with console.progress("Encoding") as progress:
        prepared = prepare(given, encoder, options, info, handler, progress)
    hardware = probe_hardware()
    plan = make_plan(options, info, handler, hardware, prepared.facts, prepared.length)
    console.opening(info, handler, hardware, given, prepared)
    job = Job(options, base, folder, info, handler, encoder, given, prepared, plan)
    if not options.resuming:
        console.plan(plan)
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
    found = differences(unfinished, rows_fingerprint(job), data_files(job), fingerprint(job.info.path), hardware.device)
    finished = unfinished.record.status == FINISHED
    if found and not options.resume_anyway:
        raise refuse(unfinished, found)
    if (found or finished) and since:
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


def train_and_publish(job: Job, console: Console) -> Result:
    """Load, train, write the adapter, switch `lora` to it, compare. A run that fails or is stopped switches nothing."""
    from llm_installer.training.checkpoint import CheckpointWriter, load_weights
    from llm_installer.training.loop import train
    from llm_installer.training.model import add_lora, load_base
    from llm_installer.training.optimizers import check_ready
    from llm_installer.training.publish import Published, publish, switch_to
    from llm_installer.training.quantise import whole_line
    from llm_installer.training.signals import stop_requests
    from llm_installer.training.trainer import Trainer

    plan, options, since = job.plan, job.options, job.since
    check_ready(plan.method)
    with console.waiting("Loading the model"):
        base = load_base(job.info.path, plan.precision, plan.device, plan.method.quantised)
        whole = whole_line(base) if plan.method.quantised else ""
        model = add_lora(base, plan)
    if whole:
        console.line(whole)
    trainer, data = Trainer(model, plan, job.encoder.eos), _training_data(job)
    if since and not job.unfinished:
        load_weights(model, since.weights)
        since = None
    run = job.unfinished.run if job.unfinished else _begin(job)
    adapter = Path(options.output).expanduser().absolute() if options.output else run.adapter
    with _recorded(job, run) as ended, stop_requests() as requests:
        with _reporting(job, run, console, requests, since) as report:
            state, best = train(trainer, data, CheckpointWriter(run), report, requests, since)
            about = Published(job.info, plan, str(options.sources), job.kind, job.encoder)
            _check_learned(state, run)
            result = publish(model, best, state, about, run, adapter)
            report.on_end(state, result)
        ended.append((STOPPED if requests.stop else FINISHED, result))
        if requests.number and plan.total_steps:
            name = signal.Signals(requests.number).name
            raise Interrupted(
                f"Stopped by {name} at step {state.step}; ./lora is as it was, the best so far is {adapter}; "
                f"go on with --resume",
                requests.number,
            )
    switched = result.improved and not options.output
    if switched:
        switch_to(job.folder, run)
    if not options.skip_test:
        _compare(job, model, console)
    console.closing(job.folder, result, switched=switched)
    return result


def rows_fingerprint(job: Job) -> str:
    """One hash for the rows of both sides."""
    return f"{job.prepared.train.fingerprint()}-{job.prepared.validation.fingerprint()}"


def data_files(job: Job) -> dict[str, str]:
    """Content hashes of the data files, by the names they are reported under."""
    return {name: content_hash(path) for name, path in job.given.loaded.paths.items()}


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


def _begin(job: Job) -> Run:
    """A new run folder with everything that was decided."""
    now = datetime.now()
    run = job.folder.new_run(job.plan.mode, now)
    write_json(run.plan, job.plan.to_json())
    _write_dropped(run, job)
    options = {k: v for k, v in job.options.given().items() if k not in ("model_path", "resume")}
    RunRecord(
        status=RUNNING,
        started=now.isoformat(timespec="seconds"),
        options=options,
        base=str(job.base),
        rows=rows_fingerprint(job),
        files=data_files(job),
        model=fingerprint(job.info.path),
        data=str(job.options.sources),
    ).write(run)
    return run


@contextmanager
def _recorded(job: Job, run: Run) -> Iterator[list[tuple[str, Result]]]:
    """Keep run.json true: running, then what the caller appends, or failed when it appends nothing."""
    record = RunRecord.read(run)
    assert record is not None, "the run was begun"
    replace(record, status=RUNNING, result={}).write(run)
    ended: list[tuple[str, Result]] = []
    try:
        yield ended
    finally:
        status, result = ended[0] if ended else (FAILED, None)
        found = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(result).items()} if result else {}
        replace(record, status=status, result=found).write(run)


def _compare(job: Job, model: object, console: Console) -> None:
    """Base and tuned answers to held-out prompts side by side (training prompts where none are held out)."""
    from peft import PeftModel

    from llm_installer.inference.before_after import compare

    assert isinstance(model, PeftModel)
    examples = job.given.validation if len(job.given.validation) else job.given.train
    different = {examples[i].prompt: examples[i] for i in range(0, len(examples), max(1, len(examples) // 100))}
    shown = list(different.values())[:COMPARED]
    with console.waiting("Comparing base and tuned model"):
        found = compare(model, job.encoder, shown, job.options.test_prompt)
    console.comparison(found, held_out=bool(len(job.given.validation)))


def _reporting(
    job: Job, run: Run, console: Console, requests: Requests, since: Checkpoint | None
) -> AbstractContextManager[Everyone]:
    """Everyone who watches the run."""
    from llm_installer.training.reporters import REPORTERS, RunHeader, reporters

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
    return reporters(header, list(REPORTERS), tensorboard_port=port, console=console.rich)


def _write_dropped(run: Run, job: Job) -> None:
    """dropped.jsonl: every record that is not trained on, and why; no file when there is none."""
    loaded, refused = job.given.loaded, job.prepared.dropped
    if loaded.dropped_count:
        shutil.copyfile(loaded.dropped_file, run.dropped)
    if refused:
        with run.dropped.open("a", encoding="utf-8") as file:
            file.writelines(
                json.dumps({**asdict(d.origin), "reason": d.reason}, ensure_ascii=False) + "\n" for d in refused
            )


def _check_learned(state: RunState, run: Run) -> None:
    """Refuse to publish weights of a run in which nothing could be measured."""
    if state.best_loss is None and state.step:
        raise TrainingError(
            f"The loss was never a finite number, so nothing is kept; ./lora is as it was (details: {run.root}). "
            "Try a lower rate, for example: --learning-rate 1e-4"
        )
