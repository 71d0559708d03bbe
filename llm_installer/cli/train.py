"""The command that trains, and that asks about, saves or stops a training in another shell."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from click.core import ParameterSource

from llm_installer.cli.as_json import errors_as_json, print_json
from llm_installer.cli.echo import complain, echo
from llm_installer.cli.names import chosen_model, model_argument
from llm_installer.cli.options import GroupedCommand, click_options
from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import busy_cores, usable_cores
from llm_installer.core.hints import script
from llm_installer.core.paths import ModelDir
from llm_installer.core.seconds import keeping, process_began
from llm_installer.core.user_config import read_user_config
from llm_installer.planning.environment import environment
from llm_installer.planning.options import Options
from llm_installer.planning.preferences import DEFAULT, PREFERENCES, find, preference
from llm_installer.planning.settings import built, checked, flag

if TYPE_CHECKING:
    from llm_installer.runs.job import Job
    from llm_installer.ui.console import Console


@click.command(cls=GroupedCommand)
@model_argument(required=False)
@click_options
def train(model: str | None, **given: object) -> None:
    """Fine-tune MODEL with LoRA on your data. Only --data is needed; everything else is chosen and explained. In a
    model directory ./train.sh is the same."""
    options = built(Options, given)
    with errors_as_json(options.json and not options.controlling):
        _told(options, model)


def _told(options: Options, model: str | None) -> None:
    """What the options ask for."""
    asks, example = "Say which model to train", "train {} --data my.json"
    if options.controlling:
        asks, example = "Say whose training", f"train {{}} {flag(options.controlling)}"
    path = chosen_model(model, options.model_path, asks, example)
    options = replace(options, model_path=path)
    if options.tensorboard_only is not None:
        _show_past_runs(options, options.tensorboard_only)
    if options.controlling:
        return _control(options)
    if options.timed and not options.dry_run:
        raise UsageError("--timed goes with --dry-run, for every training is timed; leave it out, or add that")
    if not options.sources and not options.resuming:
        raise UsageError(f"Say what to train on, for example: {script(ModelDir.find(path).root)} --data my.json")
    from llm_installer.distributed.launch import Worker, launch, wanted

    if wanted(options) and not options.show and not options.dry_run:
        raise SystemExit(launch(options, sys.argv[1:], complain))
    options = _preferred(click.get_current_context(), options)
    for name, value in environment(usable_cores(), busy_cores()).items():
        os.environ.setdefault(name, value)
    with Worker(), keeping(process_began()):
        _train(options)


def _preferred(ctx: click.Context, options: Options) -> Options:
    """The options with what the user prefers where no flag says otherwise; a run that is resumed keeps its mode."""
    stored = read_user_config()
    for one in PREFERENCES:
        if not one.field or ctx.get_parameter_source(one.field) is not ParameterSource.DEFAULT:
            continue
        found = find(one, os.environ, stored)
        if found.source == DEFAULT or (one.field == "mode" and (options.circular or _continues(options))):
            continue
        options = built(Options, {**vars(options), one.field: checked(Options, one.field, found.value)})
        if one.field == "mode" and os.environ.get("RANK", "0") == "0":
            echo(f"Mode {options.mode} is what {found.origin} says; for one run: {flag(one.field)} NAME")
    return options


def _continues(options: Options) -> bool:
    """Whether there is a run to resume, as was asked."""
    from llm_installer.core.run.record import FINISHED
    from llm_installer.runs.listing import list_runs

    return options.resuming and any(row.status != FINISHED for row in list_runs(ModelDir.find(options.model_path)))


def _train(options: Options) -> None:
    from llm_installer.ui.console import Console

    console = Console(stderr=options.json)
    with console.waiting("Starting"):
        from llm_installer.data.preview import preview
        from llm_installer.train_lora import run
    if options.json:
        from llm_installer.runs.document import job_values

        print_json(job_values(_foreseen(options, console)))
    elif options.show:
        with console.progress("Encoding") as progress:
            found = preview(*_remembered(options, console), progress)
        console.show(found)
    elif options.dry_run:
        with console.waiting("Planning"):
            job = _foreseen(options, console)
        console.show(job)
        if job.forecast:
            console.line(job.forecast.said())
    elif options.push:
        from llm_installer.export.push.after import push_after, ready_to_push

        ready_to_push(options.push)
        if ended := run(options, console):
            push_after(ended.folder, ended.result.adapter, options.push, console)
    else:
        run(options, console)


def _foreseen(options: Options, console: Console) -> Job:
    """What would be trained; with --timed the model is loaded and a few steps are timed, too."""
    from llm_installer.core.startup import import_bitsandbytes
    from llm_installer.core.state import RunState
    from llm_installer.core.voice import STARTING
    from llm_installer.train_lora import decide
    from llm_installer.train_lora.training import forecast_of, ready

    if not options.timed:
        return decide(options, console)
    from llm_installer.distributed.processes import together

    with together():
        job = decide(options, console)
        with console.waiting(STARTING):
            import_bitsandbytes()
        trainer, data, since = ready(job, console)
        before = since.state if since else RunState()
        return replace(job, plan=trainer.plan, forecast=forecast_of(job, console, trainer, data, before))


def _remembered(options: Options, console: Console) -> tuple[Options, Path]:
    """What to show the rows of, and the folder that its paths are below: with --resume, those of the unfinished run."""
    from llm_installer.runs.resume import find_unfinished

    here = Path.cwd()
    unfinished = find_unfinished(ModelDir.find(options.model_path), options, here, console.line)
    if unfinished is None:
        return options, here
    return unfinished.options, here if options.sources else Path(unfinished.record.base)


def _control(options: Options) -> None:
    from llm_installer.runs.status import RunStatus, control
    from llm_installer.ui.console import Console

    console = Console()
    found = control(options, console)
    if options.json and isinstance(found, RunStatus):
        click.echo(found.to_json())
    else:
        console.show(found)


def _show_past_runs(options: Options, port: int) -> NoReturn:
    from llm_installer.training.reporters import serve_tensorboard

    if not any(str(port) in word for word in sys.argv):  # the option was given without a port
        port = int(find(preference("tensorboard-port"), os.environ, read_user_config()).value)
    raise SystemExit(serve_tensorboard(ModelDir.find(options.model_path).runs, port))
