"""The command that examines a dataset without training on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from llm_installer.cli.names import FILES, offer_models
from llm_installer.cli.options import some_options
from llm_installer.core.errors import UsageError
from llm_installer.core.text import visible
from llm_installer.planning.bounds import Filled, Whole
from llm_installer.planning.options import Options
from llm_installer.planning.settings import built


@dataclass(frozen=True)
class Wanted:
    """What to do with the data, beside what training would do."""

    as_object: bool
    out: str | None


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=Filled(), shell_complete=FILES)
@click.option(
    "--model",
    metavar="DIR",
    type=Filled(),
    shell_complete=offer_models,
    help="Count tokens, too, with this model's tokenizer.",
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
    _examine(built(Options, {"data": ",".join(paths), "model_path": model, **given}), Wanted(as_object, out))


def _examine(options: Options, wanted: Wanted) -> None:
    from llm_installer.ui.console import Console

    base, console = Path.cwd(), Console()
    if wanted.out:
        from llm_installer.data.fix import fix
        from llm_installer.data.prepare import request

        with console.waiting("Cleaning the data"):
            fixed = fix(request(options, base), Path(wanted.out))
        console.show(fixed)
        return
    if options.show:
        from llm_installer.data.preview import preview

        if not options.model_path:
            raise UsageError("--show needs a tokenizer; say whose, for example: --model tiny")
        with console.progress("Encoding") as progress:
            found = preview(options, base, progress)
        console.show(found)
        return
    with console.waiting("Reading the data"):
        from llm_installer.data.inspection import inspect_data
        from llm_installer.data.overview import as_json

        overview = inspect_data(options, base)
    if wanted.as_object:
        click.echo(visible(as_json(overview), lines=True))
    else:
        console.show(overview)
