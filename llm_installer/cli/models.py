"""Commands about models: install, list, remove, update, check, doctor, handlers."""

from __future__ import annotations

import sys

import click

from llm_installer.cli.echo import echo
from llm_installer.core.errors import UsageError
from llm_installer.core.hints import script
from llm_installer.core.text import short_path, visible


@click.command()
@click.argument("model")
@click.option("--name", help="Name of the model directory.")
@click.option("--force", is_flag=True, help="Replace what is installed under this name; its runs stay.")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@click.option("--link", is_flag=True, help="Use a local folder where it is instead of copying it.")
def install(model: str, name: str | None, force: bool, revision: str | None, link: bool) -> None:
    """Give MODEL (a hub id, a local folder, or `tiny`) a directory of its own."""
    from llm_installer.install.installer import install as install_model

    found = install_model(model, name=name, force=force, revision=revision, link=link, say=echo)
    echo("")
    echo(f"Train it:      {script(found.root)} --data my.json")
    echo(f"Talk to it:    {script(found.root, 'start.sh')}")


@click.command(name="list")
def list_command() -> None:
    """Show the installed models."""
    from llm_installer.install.installed import list_models
    from llm_installer.ui.console import Console
    from llm_installer.ui.models import Models

    Console().show(Models(list_models()))


@click.command()
@click.argument("model")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(model: str, yes: bool) -> None:
    """Delete MODEL's directory with everything trained in it."""
    from llm_installer.install.installed import removable
    from llm_installer.install.installed import remove as remove_model

    removable(model)
    if not yes:
        _confirm(f"Delete {visible(model)} with all its runs and adapters?")
    echo(f"Removed {short_path(remove_model(model))}")


def _confirm(question: str) -> None:
    """Ask; a No ends the command, and so does nobody being there to answer, with the word that is needed then."""
    try:
        agreed = click.confirm(question)
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise
        echo("")
        raise UsageError("Nobody is there to answer; to delete without being asked, add --yes") from None
    if not agreed:
        raise click.Abort


@click.command()
@click.argument("model")
def update(model: str) -> None:
    """Renew MODEL's scripts; weights and runs are not touched."""
    from llm_installer.install.installed import update as update_scripts

    for file in update_scripts(model):
        echo(f"Wrote {short_path(file)}")


@click.command()
@click.argument("model")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
def check(model: str, revision: str | None) -> None:
    """Say whether MODEL runs and trains here, before any of its weights is downloaded."""
    from llm_installer.install.check import check_model
    from llm_installer.ui.console import Console

    found = check_model(model, revision)
    Console().show(found)
    if any(each.ok is False for each in found.checks):
        raise SystemExit(1)


@click.command()
def doctor() -> None:
    """Check this machine and what is installed on it."""
    from llm_installer.install.doctor import check_machine
    from llm_installer.ui.console import Console
    from llm_installer.ui.models import Checks

    found = check_machine()
    Console().show(Checks(found))
    if any(each.ok is False for each in found):
        raise SystemExit(1)


@click.command()
def handlers() -> None:
    """List the known model families and where each comes from."""
    from llm_installer.planning.registry import all_handlers
    from llm_installer.ui.console import Console
    from llm_installer.ui.models import Handlers

    Console().show(Handlers(all_handlers()))


COMMANDS = (install, list_command, remove, update, check, doctor, handlers)
