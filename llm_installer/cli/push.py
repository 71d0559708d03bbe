"""What others get of a model: `push` sends it to a hub, `check-for` says what an engine would make of it."""

from __future__ import annotations

import click

from llm_installer.cli.names import adapter_options, chosen_model, model_or_path
from llm_installer.core.paths import ModelDir
from llm_installer.planning.bounds import Filled


@click.command()
@model_or_path
@adapter_options("Push")
@click.option(
    "--repo", metavar="OWNER/NAME", type=Filled(), help="Where to; by default your own, named after model and run."
)
@click.option("--private", is_flag=True, help="Nobody else may read the repository, if it is made now.")
@click.option("--merged", is_flag=True, help="Push a stand-alone model of base and adapter.")
@click.option("--gguf", is_flag=True, help="Push that as a GGUF file, for llama.cpp, Ollama and LM Studio.")
@click.option("--dry-run", is_flag=True, help="Show the model card and the files, and send nothing.")
def push(model: str | None, model_path: str | None, **given: str | bool | None) -> None:
    """Send an adapter to the Hugging Face hub, with a model card, after a search for keys, local paths and rows."""
    from llm_installer.ui.console import Console

    folder = ModelDir.find(chosen_model(model, model_path, "Say which model to push", "push {} --repo OWNER/NAME"))
    console = Console()
    with console.waiting("Loading what it takes"):
        from llm_installer.export.push.request import PushRequest
        from llm_installer.export.push.story import push as push_model
        from llm_installer.planning.settings import built

    console.show(push_model(folder, built(PushRequest, given), console))


@click.command(name="check-for")
@click.argument("engine", type=click.Choice(("vllm", "ollama"), case_sensitive=False))
@model_or_path
@adapter_options("Check")
def check_for(engine: str, model: str | None, model_path: str | None, run: str | None, lora: str | None) -> None:
    """Say what ENGINE would refuse or ignore of an adapter, and what to type to use it there."""
    from llm_installer.ui.console import Console

    asks, example = "Say which model's adapter to check", f"check-for {engine} {{}}"
    folder = ModelDir.find(chosen_model(model, model_path, asks, example))
    console = Console()
    with console.waiting("Reading the adapter"):
        from llm_installer.export.check_for import check
        from llm_installer.export.chosen import chosen_adapter

        chosen = chosen_adapter(folder, run, lora, "check")
        found = check(engine, folder, chosen.lora, chosen.name)
    console.show(found)
