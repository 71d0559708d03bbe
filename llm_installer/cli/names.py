"""MODEL and RUN on the command line: what is meant where MODEL is left out, and what the shell's Tab key offers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.hints import program, quoted
from llm_installer.core.home import known_names
from llm_installer.core.paths import ModelDir
from llm_installer.planning.bounds import Filled

HERE = "."
ALWAYS = ("last",)
"""What names a run beside its id."""
Command = TypeVar("Command", bound=Callable[..., object])


def model_argument(required: bool = True) -> Callable[[Command], Command]:
    """The argument MODEL, whose Tab key offers what is installed."""
    return click.argument("model", required=required, type=Filled(), shell_complete=offer_models)


def model_or_path(command: Command) -> Command:
    """The argument MODEL and the option --model-path, of which chosen_model takes the one that is given."""
    words = "The model directory; another way to name MODEL."
    option = click.option("--model-path", metavar="DIR", type=Filled(), help=words)
    return model_argument(required=False)(option(command))


def models_or_path(command: Command) -> Command:
    """Any number of arguments MODEL, and the option --model-path, which is another way to name one."""
    words = "The model directory; another way to name MODEL."
    option = click.option("--model-path", metavar="DIR", type=Filled(), help=words)
    return click.argument("models", metavar="[MODEL]...", nargs=-1, type=Filled(), shell_complete=offer_models)(
        option(command)
    )


def in_a_model() -> bool:
    """Whether the current folder is a model directory."""
    return ModelDir(Path(HERE)).info.is_file()


def chosen_model(model: str | None, path: str | None, asks: str, example: str) -> str:
    """MODEL or --model-path, else the model directory that one is in.

    Raises UsageError where both are given, or neither and one is elsewhere; it begins with `asks`, and shows `example`,
    in which {} stands for a model.
    """
    if model and os.path.isfile(model):
        where = f"; train on it with --data {quoted(model)}, and on several files with commas between them"
        raise UsageError(f"{model!r} is a file and not a model{where if '--data' in example else ''}")
    if model and path and not _same(model, path):
        raise UsageError(f"{model!r} is a second model beside {path!r}; give one of them")
    if not model and not path:
        return here_or(asks, example)
    return str(model or path)


def here_or(asks: str, example: str) -> str:
    """The model directory that one is in. Raises UsageError elsewhere, as chosen_model does."""
    if in_a_model():
        return HERE
    names = known_names()
    if not names:
        raise UsageError(f"{asks}; none is installed yet, so begin with: {program()} install tiny")
    shown = f"{program()} {example.format(quoted(names[0]))}"
    raise UsageError(f"{asks}, for example: {shown} (or run this inside a model directory)")


def _same(one: str, other: str) -> bool:
    try:
        return ModelDir.find(one).root.resolve() == ModelDir.find(other).root.resolve()
    except InstallerError:
        return False


def _paths(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]:
    """Lets the shell itself offer paths."""
    return lambda ctx, param, incomplete: [CompletionItem(incomplete, type=kind)]


FILES, FOLDERS = _paths("file"), _paths("dir")


def offer_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The names of installed models that begin so."""
    return [name for name in known_names() if name.startswith(incomplete)]


def offer_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The ids of the runs of the model that was typed before, or that one is in."""
    levels = [ctx, ctx.parent] if ctx.parent else [ctx]
    given = [found for at in levels for key in ("model", "model_path") if (found := at.params.get(key))]
    # Behind an option that lacks its value click has not told arguments apart yet.
    try:
        runs = ModelDir.find(str([*given, *ctx.args, HERE][0])).runs
        ids = sorted(p.name for p in runs.iterdir() if p.is_dir() and not p.name.startswith("."))
    except (InstallerError, OSError):
        return []
    return [name for name in [*ids, *ALWAYS] if name.startswith(incomplete)]


def adapter_options(verb: str) -> Callable[[Command], Command]:
    """--run and --lora: which adapter is meant; `verb` is what is done with it, as `Merge`."""
    run_words = f"{verb} this run's adapter: its id, a part of it, or `last`; by default ./lora."
    lora_words = f"{verb} the adapter in this folder."
    run = click.option("--run", metavar="ID", type=Filled(), shell_complete=offer_runs, help=run_words)
    lora = click.option("--lora", metavar="DIR", type=Filled(), shell_complete=FOLDERS, help=lora_words)
    return lambda command: run(lora(command))
