"""`llm-installer export`: a model, or an adapter alone, for other programs."""

from __future__ import annotations

import click

from llm_installer.cli.names import FOLDERS, chosen_model, model_or_path, offer_runs
from llm_installer.export.kinds import KINDS, TYPES, ExportRequest, chosen_kind, export_as, require
from llm_installer.planning.bounds import Filled


@click.command()
@model_or_path
@click.option(
    "--to",
    required=True,
    type=click.Choice(list(KINDS)),
    help=f"What for: {'; '.join(f'{kind.name}: {kind.words}' for kind in KINDS.values())}.",
)
@click.option(
    "--out",
    metavar="FILE|DIR",
    type=Filled(),
    shell_complete=FOLDERS,
    help="What to write; by default a file or folder with a fitting name in the model directory.",
)
@click.option("--type", type=click.Choice(TYPES), help="Type of the weights; by default f16, of gguf-lora and mlx f32.")
@click.option(
    "--run",
    metavar="ID",
    type=Filled(),
    shell_complete=offer_runs,
    help="With this run's adapter: its id, a part of it, or `last`; by default ./lora, where there is one.",
)
@click.option("--lora", metavar="DIR", type=Filled(), shell_complete=FOLDERS, help="With the adapter in this folder.")
@click.option("--no-lora", is_flag=True, help="Export the base model alone, without ./lora.")
@click.option("--as-adapter", is_flag=True, help="Of ollama: keep base and adapter in two files instead of merging.")
def export(model: str | None, model_path: str | None, **given: str | bool | None) -> None:
    """Write MODEL, or an adapter alone, for other programs, and prove that it is the same."""
    from llm_installer.core.paths import ModelDir
    from llm_installer.ui.console import Console

    folder = ModelDir.find(chosen_model(model, model_path, "Say which model to export", "export {} --to gguf"))
    console = Console()
    with console.waiting("Loading what it takes"):
        from llm_installer.planning.settings import built

        request = built(ExportRequest, given)
        require(chosen_kind(request))
    found = export_as(folder, request, console)
    console.show(found)
