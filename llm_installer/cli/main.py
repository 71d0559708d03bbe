"""The command line: each command builds its arguments, calls one story and prints.

Stories are imported inside commands, so that --help never waits for torch.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from llm_installer.cli.runs import adapters
from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.hardware import busy_cores, usable_cores
from llm_installer.core.startup import begin
from llm_installer.core.version import __version__
from llm_installer.planning.environment import environment
from llm_installer.planning.options import Options, click_options, some_options

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "BITSANDBYTES_NOWELCOME": "1",
}
"""Telemetry off, and one voice on the terminal. What the user has set stays."""


class Commands(click.Group):
    """A group that suggests the nearest command for a mistyped one and keeps the order of definition."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llm-installer")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Give a model a folder, train a LoRA on your data, keep what it learned."""


@cli.command()
def quickstart() -> None:
    """Install the built-in model, train it, and show before and after: about a minute."""
    from llm_installer.cli.quickstart import run

    run()


@cli.command()
@click.argument("model")
@click.option("--name", help="Name of the model directory.")
@click.option("--force", is_flag=True, help="Replace what is installed under this name; its runs stay.")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@click.option("--link", is_flag=True, help="Use a local folder where it is instead of copying it.")
def install(model: str, name: str | None, force: bool, revision: str | None, link: bool) -> None:
    """Give MODEL (a hub id, a local folder, or `tiny`) a directory of its own."""
    from llm_installer.install.installer import install as install_model

    found = install_model(model, name=name, force=force, revision=revision, link=link, say=click.echo)
    click.echo(f"\nInstalled in {found.root}\n\nTrain it:      {found.root}/train.sh --data my.json")
    click.echo(f"Talk to it:    {found.root}/start.sh")


@cli.command(name="list")
def list_command() -> None:
    """Show the installed models."""
    from llm_installer.install.installed import list_models
    from llm_installer.ui.console import Console

    Console().models(list_models())


@cli.command()
@click.argument("model")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(model: str, yes: bool) -> None:
    """Delete MODEL's directory with everything trained in it."""
    from llm_installer.install.installed import remove as remove_model

    if not yes:
        click.confirm(f"Delete {model} with all its runs and adapters?", abort=True)
    click.echo(f"Removed {remove_model(model)}")


@cli.command()
@click.argument("model")
def update(model: str) -> None:
    """Write MODEL's scripts anew; weights and runs are not touched."""
    from llm_installer.install.installed import update as update_scripts

    for file in update_scripts(model):
        click.echo(f"Wrote {file}")


@cli.command()
@click.argument("model")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
def check(model: str, revision: str | None) -> None:
    """Say whether MODEL runs and trains here, before any of its weights is downloaded."""
    from llm_installer.install.check import outlook
    from llm_installer.ui.console import Console

    console, found = Console(), outlook(model, revision)
    console.checks(found.checks)
    console.memory(found.memory)
    if any(each.ok is False for each in found.checks):
        raise SystemExit(1)


@cli.command()
def doctor() -> None:
    """Check this machine and what is installed on it."""
    from llm_installer.install.doctor import doctor as look
    from llm_installer.ui.console import Console

    checks = look()
    Console().checks(checks)
    if any(check.ok is False for check in checks):
        raise SystemExit(1)


@cli.command()
def handlers() -> None:
    """List the model families known and where each came from."""
    from llm_installer.planning.registry import all_handlers
    from llm_installer.ui.console import Console

    Console().handlers(all_handlers())


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--model", metavar="DIR", help="Also count tokens, with this model's tokenizer.")
@some_options(
    *("dataset_format", "columns", "validation_data", "validation_split", "max_examples"),
    *("mix", "task_prefix", "chunk_words", "seed", "strict"),
)
@click.option("--show", type=click.IntRange(1), help="Print N rows with what is learned marked; needs --model.")
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object.")
@click.option("--fix", "out", metavar="OUT.jsonl", help="Write a cleaned copy.")
def data(paths: tuple[str, ...], model: str | None, as_object: bool, out: str | None, **given: Any) -> None:
    """Look at a dataset without training: what is kept, what is left out and why."""
    from llm_installer.data.look import look
    from llm_installer.data.report import as_json, render, render_fixed
    from llm_installer.ui.console import Console

    options, base, console = Options(data=",".join(paths), model_path=model, **given), Path.cwd(), Console()
    if out:
        from llm_installer.data.fix import fix

        chosen = {name: given[name] for name in ("dataset_format", "columns")}
        console.parts(render_fixed(fix(options.data or "", Path(out), base=base, **chosen)))
    elif options.show:
        from llm_installer.train_lora import run

        if not model:
            raise UsageError("--show needs a tokenizer; say whose, for example: --model tiny")
        run(options, console, base)
    elif as_object:
        click.echo(as_json(look(options, base)))
    else:
        console.parts(render(look(options, base)))


cli.add_command(adapters)


@cli.command()
@click_options
def train(**given: Any) -> None:
    """Fine-tune a model with LoRA. Only --data is needed; everything else is chosen, and the reason printed."""
    options = Options(**given)
    if options.tensorboard_only is not None:
        _show_past_runs(options, options.tensorboard_only)
    if options.controlling:
        from llm_installer.runs.status import control

        return control(options)
    if not options.sources and not options.resuming:
        raise UsageError("Say what to learn from, for example: ./train.sh --data my.json")
    from llm_installer.distributed.launch import Worker, launch, wanted

    if wanted(options) and not options.show and not options.dry_run:
        raise SystemExit(launch(options, sys.argv[1:]))
    for name, value in environment(usable_cores(), busy_cores()).items():
        os.environ.setdefault(name, value)
    with Worker():
        from llm_installer.train_lora import run

        run(options)


def _show_past_runs(options: Options, port: int) -> NoReturn:
    from llm_installer.core.paths import ModelDir
    from llm_installer.training.reporters import serve_tensorboard

    raise SystemExit(serve_tensorboard(ModelDir.find(options.model_path or ".").runs, port))


@cli.command()
@click.option("--model-path", required=True, metavar="DIR", help="The model directory.")
@click.option("--lora", metavar="DIR", help="Use this adapter instead of ./lora.")
@click.option("--run", "run_id", metavar="ID", help="Use this run's adapter: its id, a part of it, or `last`.")
@click.option("--no-lora", is_flag=True, help="Use the base model alone.")
@click.option("--prompt", metavar="TEXT", help="Answer once and end.")
@click.option("--image", "images", multiple=True, metavar="PATH", help="Ask about this picture; needs --prompt.")
@click.option("--system", default="", metavar="TEXT", help="Instructions for the model.")
@click.option("--max-new-tokens", default=512, show_default=True, type=click.IntRange(1), help="Longest answer.")
@click.option(
    "--temperature",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    help="0 always gives the likeliest answer.",
)
@click.option(
    "--top-p", default=1.0, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Nucleus size."
)
@click.option(
    "--use-4bit",
    "quantised",
    flag_value="nf4",
    default="",
    help="Hold the base in 4 bits, as --method qlora trains on.",
)
@click.option("--use-8bit", "quantised", flag_value="int8", help="Hold the base in 8 bits.")
@click.option("--raw/--chat", default=None, help="Continue plain text, or use the chat template; default as trained.")
def start(
    model_path: str,
    lora: str | None,
    run_id: str | None,
    no_lora: bool,
    prompt: str | None,
    raw: bool | None,
    **sampling: Any,
) -> None:
    """Talk to a model; ./lora is loaded by itself."""
    from llm_installer.core.paths import ModelDir
    from llm_installer.inference.start import run
    from llm_installer.runs.listing import find_run

    if bool(lora) + bool(run_id) + no_lora > 1:
        raise UsageError("--lora, --run and --no-lora contradict each other; give one of them")
    if sampling["images"] and prompt is None:
        raise UsageError("--image needs a question about it, for example: --prompt 'What is this?'")
    folder = ModelDir.find(model_path)
    lora = str(find_run(folder, run_id).adapter) if run_id else lora
    run(folder, lora=lora, no_lora=no_lora, prompt=prompt, raw=raw, **sampling)


def main() -> None:
    """Run a command. An error of ours is one sentence on stderr and its exit code; --debug shows where it came from."""
    begin()
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if not debug:
        _one_voice()
    _guarded(
        lambda: cli(args=[a for a in arguments if a != "--debug"], prog_name="llm-installer", standalone_mode=False),
        debug,
    )


def _one_voice() -> None:
    """Libraries warn their programmers; our users can do nothing about it."""
    warnings.simplefilter("ignore")
    for library in ("bitsandbytes", "transformers", "peft", "accelerate", "torch"):
        logging.getLogger(library).setLevel(logging.ERROR)


def _guarded(command: Callable[[], Any], debug: bool) -> NoReturn:
    try:
        code = command()
    except click.Abort:
        click.echo("Stopped.", err=True)
        raise SystemExit(130) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except InstallerError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        raise SystemExit(130) from None
    raise SystemExit(code if isinstance(code, int) else 0)
