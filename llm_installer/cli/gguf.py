"""`llm-installer export`: a model as a file for other programs."""

from __future__ import annotations

import click

from llm_installer.cli.names import FILES, chosen_model, model_or_path
from llm_installer.export.gguf.request import KINDS, GgufRequest, require_gguf
from llm_installer.planning.bounds import Filled

FORMATS = ("gguf",)


@click.command()
@model_or_path
@click.option("--to", required=True, type=click.Choice(FORMATS), help="The format: gguf is read by llama.cpp.")
@click.option(
    "--out",
    metavar="FILE",
    type=Filled(),
    shell_complete=FILES,
    help="The file to write; by default NAME-TYPE.gguf in the model directory.",
)
@click.option(
    "--type",
    default="f16",
    show_default=True,
    type=click.Choice(KINDS),
    help="Type of the weights; norms and biases are f32 in each.",
)
@click.option("--no-lora", is_flag=True, help="Export the base model alone, without ./lora.")
def export(model: str | None, model_path: str | None, to: str, **given: str | bool | None) -> None:
    """Write MODEL as one file for other programs, and prove that it is the same model."""
    from llm_installer.core.paths import ModelDir
    from llm_installer.ui.console import Console

    folder = ModelDir.find(chosen_model(model, model_path, "Say which model to export", "export {} --to gguf"))
    console = Console()
    with console.waiting("Loading what it takes"):
        from llm_installer.planning.settings import built

        require_gguf()
        from llm_installer.export.gguf.story import export_gguf

        found = export_gguf(folder, built(GgufRequest, given), console)
    console.show(found)
