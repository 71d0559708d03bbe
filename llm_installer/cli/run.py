"""Install a model if it is not there yet, then talk to it: from an id to an answer in one command.

Run as: llm-installer run MODEL
"""

from __future__ import annotations

import click

from llm_installer.cli.chat import start, talk_or_serve
from llm_installer.cli.echo import echo
from llm_installer.cli.names import model_argument
from llm_installer.core.errors import ModelError
from llm_installer.core.hints import program, quoted
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir

OF_START = [param for param in start.params if param.name not in ("model", "model_path")]
"""Whatever `start` takes beside the model."""


@click.command(params=OF_START)
@click.option("--revision", metavar="TEXT", help="Branch, tag or commit of a hub model that is not installed yet.")
@model_argument()
def run(model: str, revision: str | None, run_id: str | None, serve: bool, **given: object) -> None:
    """Install MODEL if it is not installed yet, then talk to it as `start` does."""
    talk_or_serve(_found_or_installed(model, revision), run_id, serve, given)


def _found_or_installed(model: str, revision: str | None) -> ModelDir:
    """The model directory of these words. Raises ModelError where another model has its name, and what install does."""
    from llm_installer.install.installed import is_installed
    from llm_installer.install.installer import install
    from llm_installer.install.model_record import read_record
    from llm_installer.install.resolve import resolve

    if is_installed(model) and not revision:
        return ModelDir.find(model)
    source = resolve(model, revision=revision)
    there = ModelDir(models_dir() / source.dirname)
    if not there.info.is_file():
        return install(model, revision=revision, say=_say)
    again, known = f"{program()} install {quoted(model)}", read_record(there.info)
    if known.id != source.id:
        raise ModelError(
            f"{source.dirname} is installed already, from {known.id}; give the other one a name of its own with: "
            f"{again} --name NAME"
        )
    if source.revision not in (None, "main") and not known.revision.startswith(str(source.revision)):
        _say(f"{known.id} is installed already, at {known.revision[:10]}; another revision has room beside it with: "
             f"{again} --name NAME")  # fmt: skip
    return ModelDir.find(there.root)


def _say(text: str) -> None:
    """Answers go to stdout, and so nothing else does."""
    echo(text, err=True)
