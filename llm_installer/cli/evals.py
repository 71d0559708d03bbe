"""The command that evaluates: base and runs side by side on the same rows.

Run as: llm-installer eval MODEL --data test.jsonl --run last
"""

from __future__ import annotations

from pathlib import Path

import click

from llm_installer.cli.names import FILES, FOLDERS, chosen_model, model_or_path, offer_runs
from llm_installer.cli.options import held_in_bits, some_options
from llm_installer.planning.bounds import Filled, Whole


@click.command(name="eval")
@model_or_path
@click.option(
    "--data",
    multiple=True,
    metavar="PATH",
    type=Filled(),
    shell_complete=FILES,
    help="Rows to evaluate on: a file, a folder, a glob or a hub dataset; may be given several times.",
)
@click.option(
    "--run",
    multiple=True,
    metavar="ID",
    type=Filled(),
    shell_complete=offer_runs,
    help="Evaluate this run: its id, a part of it, or `last`; may be given several times. Default: ./lora.",
)
@click.option(
    "--lora",
    multiple=True,
    metavar="DIR",
    type=Filled(),
    shell_complete=FOLDERS,
    help="Evaluate this adapter; may be given several times.",
)
@click.option("--base/--no-base", default=True, help="Evaluate the base model alone, too; default on.")
@held_in_bits
@click.option(
    "--task",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "answers", "choices", "text"]),
    help="Answer the rows, rank their choices, or only compute losses; auto does what each row is for.",
)
@click.option(
    "--tasks",
    multiple=True,
    metavar="NAME",
    type=Filled(),
    help="A task of lm-eval, or a YAML file of one; may be given several times.",
)
@click.option("--max-new-tokens", type=Whole(1), help="Longest answer; default twice the longest reference.")
@click.option("--max-examples", type=Whole(1), help="So many rows, chosen at random by the seed.")
@some_options("dataset_format", "columns", "answers_as", "seed")
def evaluate_command(
    model: str | None, model_path: str | None, data: tuple[str, ...], tasks: tuple[str, ...], **given: object
) -> None:
    """Evaluate MODEL and its runs on the same rows, and say which is better and whether that is sure."""
    from llm_installer.core.paths import ModelDir
    from llm_installer.evals.request import EvalRequest
    from llm_installer.planning.settings import built
    from llm_installer.ui.console import Console

    folder = ModelDir.find(chosen_model(model, model_path, "Say which model to evaluate", "eval {} --data test.jsonl"))
    request = built(EvalRequest, {"data": data, "tasks": tasks, **given})
    from llm_installer.evals.story import evaluate

    console = Console()
    console.show(evaluate(folder, request, Path.cwd(), console))
