"""The story of a training run: options -> model -> data -> plan -> loop -> adapter.

Run as: llm-installer train --model-path DIR --data my.json   (or DIR/train.sh --data my.json)
"""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.console import Console
from llm_installer.core.errors import Interrupted, TrainingError, UsageError
from llm_installer.core.examples import Kind
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.state import Result, RunState
from llm_installer.data.batches import sample
from llm_installer.data.encode import Encoder
from llm_installer.data.prepare import Given, Prepared, prepare, read
from llm_installer.data.processor import load_encoder
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan, make_plan
from llm_installer.planning.registry import find_handler

if TYPE_CHECKING:
    from llm_installer.training.reporters import Reporter

COMPARED = 4
"""Held-out prompts answered by base and tuned model at the end."""


@dataclass(frozen=True)
class Job:
    """Everything decided before the first weight is loaded."""

    options: Options
    folder: ModelDir
    info: ModelInfo
    handler: Handler
    encoder: Encoder
    given: Given
    prepared: Prepared
    plan: Plan

    @property
    def kind(self) -> Kind:
        """The kind most examples have: it decides how the adapter is talked to."""
        seen = range(0, len(self.given.train), max(1, len(self.given.train) // 1000))
        return Counter(self.given.train[i].kind for i in seen).most_common(1)[0][0]


def run(options: Options, console: Console | None = None, base: Path | None = None) -> Result | None:
    """Train as asked and return how it ended; None for --show and --dry-run. Raises InstallerError when it cannot."""
    console = console or Console()
    job = decide(options, console, base or Path.cwd())
    if job is None or options.dry_run:
        return None
    return train_and_publish(job, console)


def decide(options: Options, console: Console, base: Path) -> Job | None:
    """Model, data, plan: all that can fail cheaply, in that order. None after --show."""
    if not options.model_path:
        raise UsageError("Say which model to train, for example: --model-path ~/LLM/models/tiny")
    folder = ModelDir.find(options.model_path)
    info = read_model_info(folder.weights, folder.root.name)
    handler = find_handler(info)
    given = read(options, base)
    encoder = load_encoder(info, options.train_on_prompt)
    if options.show:
        console.rows(given.train, encoder, options.show)
        return None
    with console.progress("Encoding") as progress:
        prepared = prepare(given, encoder, options, info, handler, progress)
    hardware = probe_hardware()
    plan = make_plan(options, info, handler, hardware, prepared.facts, prepared.length)
    console.opening(info, handler, hardware, given, prepared)
    console.plan(plan)
    return Job(options, folder, info, handler, encoder, given, prepared, plan)


def train_and_publish(job: Job, console: Console) -> Result:
    """Load, train, write the adapter, switch `lora` to it, compare. A run that fails or is stopped switches nothing."""
    from llm_installer.training.checkpoint import CheckpointWriter, write_json
    from llm_installer.training.loop import Trainer, TrainingData, train
    from llm_installer.training.model import add_lora, load_base
    from llm_installer.training.publish import Published, publish, switch_to
    from llm_installer.training.signals import stop_requests

    plan, options, pad = job.plan, job.options, job.encoder.eos
    with console.waiting("Loading the model"):
        model = add_lora(load_base(job.info.path, plan.precision, plan.device), plan)
    trainer = Trainer(model, plan, pad, job.encoder.inputs)
    measured = plan.evaluation_rows
    data = TrainingData(
        rows=job.prepared.train,
        train_slice=sample(job.prepared.train, measured, plan.seed),
        validation=sample(job.prepared.validation, measured, plan.seed),
        mix=job.prepared.mix,
    )
    run = job.folder.new_run(plan.mode, datetime.now())
    write_json(run.plan, plan.to_json())
    _write_dropped(run, job)
    with stop_requests() as stop, _reporting(job, run, console) as report:
        state, best = train(trainer, data, CheckpointWriter(run), report, stop)
        about = Published(job.info, plan, str(options.sources), job.kind, job.encoder)
        adapter = Path(options.output).expanduser().absolute() if options.output else run.adapter
        _check_learned(state, run)
        result = publish(model, best, state, about, run, adapter)
        report.on_end(state, result)
    if stop.number:
        name = signal.Signals(stop.number).name
        raise Interrupted(
            f"Stopped by {name} at step {state.step}; ./lora is as it was, the best so far is {adapter}", stop.number
        )
    if result.improved and not options.output:
        switch_to(job.folder, run)
    if not options.skip_test:
        _compare(job, model, console)
    console.closing(job.folder, result, switched=result.improved and not options.output)
    return result


def _compare(job: Job, model: object, console: Console) -> None:
    """Base and tuned answers to held-out prompts side by side (training prompts where none are held out)."""
    from peft import PeftModel

    from llm_installer.inference.before_after import compare

    assert isinstance(model, PeftModel)
    examples = job.given.validation if len(job.given.validation) else job.given.train
    some = [examples[i] for i in range(0, len(examples), max(1, len(examples) // 100))]
    shown = list({(example.prompt, example.images): example for example in some}.values())[:COMPARED]
    with console.waiting("Comparing base and tuned model"):
        found = compare(model, job.encoder, shown, job.options.test_prompt)
    console.comparison(found, held_out=bool(len(job.given.validation)))


def _reporting(job: Job, run: Run, console: Console) -> AbstractContextManager[Reporter]:
    """Everyone who watches the run."""
    from llm_installer.training.reporters import REPORTERS, RunHeader, reporters

    plan, facts = job.plan, job.prepared.facts
    header = RunHeader(
        model=job.info.name,
        method="lora",
        mode=plan.mode,
        run=run,
        model_dir=job.folder,
        total_steps=plan.total_steps,
        epochs=plan.epochs,
        patience=plan.limits.patience if "patience" in plan.stop_rules else 0,
        perplexity=plan.task == "text",
        rows=facts.rows,
        validation_rows=facts.validation_rows,
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
