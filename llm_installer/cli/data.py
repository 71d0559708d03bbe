"""The command that examines a dataset without training on it."""

from __future__ import annotations

from pathlib import Path

import click

from llm_installer.cli.as_json import errors_as_json, print_json
from llm_installer.cli.names import FILES, offer_models
from llm_installer.cli.options import some_options
from llm_installer.core.errors import UsageError
from llm_installer.planning.bounds import Filled, Whole
from llm_installer.planning.options import Options
from llm_installer.planning.settings import built


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=Filled(), shell_complete=FILES)
@click.option(
    "--model",
    metavar="DIR",
    type=Filled(),
    shell_complete=offer_models,
    help="Also count tokens, with this model's tokenizer.",
)
@some_options(
    *("dataset_format", "columns", "answers_as", "validation_data", "validation_split", "max_examples"),
    *("mix", "task_prefix", "chunk_words", "text_rows", "max_seq_length", "seed", "strict"),
)
@click.option("--show", type=Whole(1), help="Print N rows as they are trained on; needs --model.")
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object.")
@click.option("--fix", "out", metavar="OUT.jsonl", type=Filled(), help="Write a cleaned copy.")
def data(paths: tuple[str, ...], model: str | None, as_object: bool, out: str | None, **given: object) -> None:
    """Examine a dataset without training: what is kept, what is skipped, and why."""
    with errors_as_json(as_object):
        options = built(Options, {"data": ",".join(paths), "model_path": model, **given})
        if options.show and not options.model_path:
            raise UsageError("--show needs a tokenizer; say whose, for example: --model tiny")
        if out:
            _clean(options, Path(out))
        elif as_object:
            _describe(options)
        else:
            _examine(options)


def _clean(options: Options, out: Path) -> None:
    from llm_installer.data.fix import fix
    from llm_installer.data.prepare import request
    from llm_installer.ui.console import Console

    console = Console()
    with console.waiting("Cleaning the data"):
        fixed = fix(request(options, Path.cwd()), out)
    console.show(fixed)


def _describe(options: Options) -> None:
    """All that is found, as one JSON object."""
    from llm_installer.data.document import overview_values, shown_values
    from llm_installer.data.inspection import inspect_data

    found = inspect_data(options, Path.cwd())
    print_json({**overview_values(found.overview), "shown": shown_values(found.preview)})


def _examine(options: Options) -> None:
    from llm_installer.ui.console import Console

    console = Console()
    if options.show:
        from llm_installer.data.preview import preview

        with console.progress("Encoding") as progress:
            rows = preview(options, Path.cwd(), progress)
        console.show(rows)
        return
    with console.waiting("Reading the data"):
        from llm_installer.data.inspection import inspect_data

        found = inspect_data(options, Path.cwd())
    console.show(found.overview)
