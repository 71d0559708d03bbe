"""The commands about runs: `llm-installer adapters [MODEL]` and what follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from llm_installer.cli.commands import Commands, synonyms
from llm_installer.cli.echo import echo
from llm_installer.cli.models import confirm
from llm_installer.cli.names import HERE, here_or, offer_models, offer_runs
from llm_installer.core.errors import AdapterError
from llm_installer.core.text import counted, short_path, visible
from llm_installer.planning.bounds import Filled

if TYPE_CHECKING:
    from llm_installer.core.paths import ModelDir

ASKS_FOR_HELP = "llm_installer.help"


class _BehindModel(click.Context):
    """What stands before a command of this group in its usage."""

    @property
    def command_path(self) -> str:
        return f"{super().command_path} [MODEL]"


class ModelFirst(Commands):
    """A group whose commands may have a model before them: `adapters tiny use last`."""

    context_class = _BehindModel
    called = "adapters MODEL"
    tried = synonyms(
        {"compare ONE OTHER": "diff", "use RUN": "switch activate set select", "remove RUN": "delete rm del"}
    )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["--model", *args]
        ctx.meta[ASKS_FOR_HELP] = "--help" in args or "-h" in args
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Models come first, for one may stand before a command."""
        models = [] if ctx.params.get("model", HERE) != HERE else offer_models(ctx, self.params[0], incomplete)
        return [*map(CompletionItem, models), *super().shell_complete(ctx, incomplete)]


@click.group(cls=ModelFirst, invoke_without_command=True, subcommand_metavar="[COMMAND ...]")
@click.option(
    "--model",
    default=HERE,
    metavar="DIR",
    type=Filled(),
    shell_complete=offer_models,
    help="The model; by default the model directory you are in.",
)
@click.pass_context
def adapters(ctx: click.Context, model: str) -> None:
    """List the runs of a model; compare two, use one as ./lora, remove one. A part of a run's id will do, or `last`."""
    from llm_installer.core.paths import ModelDir
    from llm_installer.runs.listing import RunList, list_runs
    from llm_installer.ui.console import Console

    if ctx.meta[ASKS_FOR_HELP]:  # a command explains itself wherever one is
        return
    ctx.obj = ModelDir.find(here_or("Say whose runs", "adapters {}") if model == HERE else model)
    if ctx.invoked_subcommand is None:
        Console().show(RunList(ctx.obj, list_runs(ctx.obj)))


@adapters.command(name="compare")
@click.argument("one", type=Filled(), shell_complete=offer_runs)
@click.argument("other", type=Filled(), shell_complete=offer_runs)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="TEXT",
    type=Filled(),
    help="Ask this instead of the data's questions.",
)
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
@click.argument("run", type=Filled(), shell_complete=offer_runs)
@click.pass_obj
def use_command(folder: ModelDir, run: str) -> None:
    """Point ./lora at RUN after checking its adapter; `none` removes ./lora."""
    from llm_installer.runs.listing import Chosen, use
    from llm_installer.ui.console import Console

    Console().show(Chosen(folder, use(folder, run)))


@adapters.command(name="remove")
@click.argument("run", type=Filled(), shell_complete=offer_runs)
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
        confirm(f"Delete run {visible(row.run.id)} ({steps}) with its adapter and checkpoints?")
    echo(f"Removed {short_path(remove_run(folder, row.run.id, force).run.root)}")
