"""What leaves a model directory: `llm-installer merge` makes a stand-alone model of a base and a run."""

from __future__ import annotations

import click

from llm_installer.cli.names import FOLDERS, adapter_options, chosen_model, model_or_path
from llm_installer.export.request import BASES, DTYPES, MergeRequest
from llm_installer.planning.bounds import Filled


@click.command()
@model_or_path
@adapter_options("Merge")
@click.option(
    "--to", metavar="NAME|DIR", type=Filled(), shell_complete=FOLDERS, help="Name of the new model, or its folder."
)
@click.option(
    "--dtype",
    default="auto",
    show_default=True,
    type=click.Choice(DTYPES),
    help="Type of the new weights; auto keeps the base's.",
)
@click.option(
    "--onto",
    type=click.Choice(BASES),
    help="Of a run on 4 or 8 bits: the base as published, or as the run saw it; by default the one that is nearer.",
)
def merge(model: str | None, model_path: str | None, **given: str | None) -> None:
    """Make a stand-alone model of MODEL and what a run has taught it, and prove that both say the same."""
    from llm_installer.core.paths import ModelDir
    from llm_installer.ui.console import Console

    folder = ModelDir.find(chosen_model(model, model_path, "Say which model to merge a run into", "merge {}"))
    console = Console()
    with console.waiting("Reading the adapter"):
        from llm_installer.export.merge import merge as merge_model
        from llm_installer.planning.settings import built

        found = merge_model(folder, built(MergeRequest, given), console)
    console.show(found)
