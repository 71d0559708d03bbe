"""The command that serves a model over HTTP: the base and all of its runs, to clients of OpenAI's API.

Run as: llm-installer serve MODEL
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llm_installer.cli.names import chosen_model, models_or_path
from llm_installer.cli.options import held_in_bits
from llm_installer.planning.bounds import Filled, Number, Whole
from llm_installer.server.request import ENGINES, ServeRequest, check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_installer.core.paths import ModelDir

KEY = "LLM_API_KEY"


@click.command()
@models_or_path
@click.option("--host", default="127.0.0.1", show_default=True, type=Filled(), help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, type=Whole(0, 65535), help="0 takes any that is free.")
@click.option(
    "--api-key",
    default="",
    metavar="KEY",
    envvar=KEY,
    help=f"What clients must send; needed to listen beyond this machine. Also taken from {KEY}.",
)
@click.option(
    "--engine",
    default="own",
    show_default=True,
    type=click.Choice(ENGINES),
    help="vllm checks the runs and then starts vLLM, on a GPU.",
)
@held_in_bits
@click.option("--rows", default=32, show_default=True, type=Whole(1), help="Answers generated at the same time.")
@click.option("--queue", default=256, show_default=True, type=Whole(1), help="Requests that may wait.")
@click.option(
    "--cache-gib",
    default=2.0,
    show_default=True,
    type=Number(0, low_open=True),
    help="Memory for what was read and said, in GiB.",
)
@click.option(
    "--max-tokens", default=1024, show_default=True, type=Whole(1), help="Longest answer where a chat names no limit."
)
def serve(models: tuple[str, ...], model_path: str | None, **given: object) -> None:
    """Serve each MODEL and all of its runs over HTTP, to clients of OpenAI's API."""
    from llm_installer.core.paths import ModelDir
    from llm_installer.planning.settings import built

    request = built(ServeRequest, given)
    check(request, len(models))
    first = chosen_model(next(iter(models), None), model_path, "Say which model to serve", "serve {}")
    serve_folders([ModelDir.find(model) for model in (first, *models[1:])], request)


def serve_folders(folders: Sequence[ModelDir], request: ServeRequest) -> None:
    """Serve until Ctrl-C, as the options of `serve` say."""
    from llm_installer.ui.console import Console

    console = Console()
    if request.engine == "vllm":
        from llm_installer.server.vllm import become, prepared

        launch = prepared(folders[0], request)
        for note in launch.notes:
            console.line(note)
        console.command(launch.shown)
        return become(launch)
    with console.waiting("Loading what it takes"):
        from llm_installer.server.story import opened
    with opened(folders, request, console) as server:
        console.show(server.serving)
        server.run()
    console.line("Stopped.")
