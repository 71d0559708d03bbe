"""The commands about runs: `llm-installer adapters [MODEL]` and what follows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_installer.cli.echo import echo
from llm_installer.cli.options import Commands
from llm_installer.core.errors import AdapterError, UsageError
from llm_installer.core.hints import program
from llm_installer.core.text import counted, short_path, visible

if TYPE_CHECKING:
    from llm_installer.core.paths import ModelDir

HERE = "."
ASKS_FOR_HELP = "llm_installer.help"


class ModelFirst(Commands):
    """A group whose commands may have a model before them: `adapters tiny use last`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["--model", *args]
        ctx.meta[ASKS_FOR_HELP] = "--help" in args or "-h" in args
        return super().parse_args(ctx, args)


@click.group(cls=ModelFirst, invoke_without_command=True, subcommand_metavar="[MODEL] [COMMAND ...]")
@click.option("--model", default=HERE, metavar="DIR", help="The model; by default the model directory you are in.")
@click.pass_context
def adapters(ctx: click.Context, model: str) -> None:
    """List the runs of a model; compare two, use one as ./lora, remove one. A part of a run's id will do, or `last`."""
    from llm_installer.core.paths import ModelDir
    from llm_installer.runs.listing import RunList, list_runs
    from llm_installer.ui.console import Console

    if ctx.meta[ASKS_FOR_HELP]:  # a command explains itself wherever one is
        return
    if model == HERE and not ModelDir(Path(HERE)).info.is_file():
        raise UsageError(
            f"Say whose runs, for example: {program()} adapters tiny (or run this inside a model directory)"
        )
    ctx.obj = ModelDir.find(model)
    if ctx.invoked_subcommand is None:
        Console().show(RunList(ctx.obj, list_runs(ctx.obj)))


@adapters.command(name="compare")
@click.argument("one")
@click.argument("other")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="Ask this instead of the data's questions.")
@click.pass_obj
def compare_command(folder: ModelDir, one: str, other: str, prompts: tuple[str, ...]) -> None:
    """Show where two runs differ: settings, losses, and answers to the same prompts."""
    from llm_installer.runs.compare import compare
    from llm_installer.ui.console import Console

    console = Console()
    found = compare(folder, one, other, prompts, console)
    console.show(found)
    if found.unanswered:
        raise AdapterError(found.unanswered)


@adapters.command(name="use")
@click.argument("run")
@click.pass_obj
def use_command(folder: ModelDir, run: str) -> None:
    """Point ./lora at RUN after checking its adapter; `none` removes ./lora."""
    from llm_installer.runs.listing import Chosen, use
    from llm_installer.ui.console import Console

    Console().show(Chosen(folder, use(folder, run)))


@adapters.command(name="remove")
@click.argument("run")
@click.option("--force", is_flag=True, help="Even if ./lora names it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove_run_command(folder: ModelDir, run: str, force: bool, yes: bool) -> None:
    """Delete RUN with its adapter and checkpoints."""
    from llm_installer.runs.listing import removable
    from llm_installer.runs.listing import remove as remove_run

    row = removable(folder, run, force)
    if not yes:
        steps = counted(row.steps, "step")
        click.confirm(f"Delete run {visible(row.run.id)} ({steps}) with its adapter and checkpoints?", abort=True)
    echo(f"Removed {short_path(remove_run(folder, row.run.id, force).run.root)}")
