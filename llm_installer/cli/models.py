"""Commands about models: install, list, remove, update, check, doctor, handlers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from llm_installer.cli.as_json import errors_as_json, print_json
from llm_installer.cli.echo import complain, echo
from llm_installer.cli.names import FOLDERS, model_argument
from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.hints import program, script
from llm_installer.core.home import model_names, models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import counted, short_path, size, visible
from llm_installer.planning.bounds import Filled


@click.command()
@click.argument("model", type=Filled(), shell_complete=FOLDERS)
@click.option("--name", type=Filled(), help="Name of the model directory.")
@click.option("--force", is_flag=True, help="Replace what is installed under this name; its runs stay.")
@click.option("--revision", type=Filled(), help="Branch, tag or commit of a hub model.")
@click.option("--link", is_flag=True, help="Use a local folder where it is instead of copying it.")
def install(model: str, name: str | None, force: bool, revision: str | None, link: bool) -> None:
    """Give MODEL (a hub id or its address, a local folder, or `tiny`) a directory of its own."""
    from llm_installer.ui.console import Console

    console = Console()
    with console.waiting(f"Installing {visible(model)}"):
        from llm_installer.install.installer import install as install_model

        found = install_model(model, name=name, force=force, revision=revision, link=link, say=console.line)
    echo("")
    echo(f"Train it:      {script(found.root)} --data my.json")
    echo(f"Talk to it:    {script(found.root, 'start.sh')}")


@click.command(name="list")
@click.option("--json", "as_array", is_flag=True, help="Print one JSON array for other programs.")
def list_command(as_array: bool) -> None:
    """Show the installed models."""
    from llm_installer.install.installed import list_models
    from llm_installer.ui.console import Console
    from llm_installer.ui.models import Models

    if as_array:
        from llm_installer.install.as_json import as_json

        return click.echo(visible(as_json(list_models()), lines=True))
    Console().show(Models(list_models()))


@click.command()
@model_argument()
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(model: str, yes: bool) -> None:
    """Delete MODEL's directory with everything trained in it, after saying what that is."""
    from llm_installer.install.installed import removable
    from llm_installer.install.installed import remove as remove_model

    root = removable(model)
    if not yes:
        confirm(_question(root))
    echo(f"Removed {short_path(remove_model(model))}")


def _question(root: Path) -> str:
    """What would be lost."""
    from llm_installer.core.run.record import FINISHED
    from llm_installer.install.disk import size_on_disk
    from llm_installer.runs.listing import list_runs

    folder, taken = ModelDir(root), size(size_on_disk(root))
    if not folder.info.exists():
        return f"Delete {visible(short_path(root))}, which was left half-way ({taken})?"
    rows = list_runs(folder)
    parts = [counted(len(rows), "run") if rows else "no runs"]
    parts += [f"{open} of them not finished"] if (open := sum(row.status != FINISHED for row in rows)) else []
    parts += [f"./lora is {row.run.id}" for row in rows if row.current]
    parts += ["the folder that it links to stays"] if folder.weights.is_symlink() else []
    return f"Delete {visible(root.name)} with everything in it ({', '.join([*parts, taken])})?"


def confirm(question: str) -> None:
    """Ask; a No ends the command, and so does nobody being there to answer, with the word that is needed then."""
    complain(question)
    try:
        agreed = click.confirm("Delete it?", err=True)
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise
        echo("")
        raise UsageError("Nobody is there to answer; to delete without being asked, add --yes") from None
    if not agreed:
        raise click.Abort


@click.command()
@model_argument(required=False)
@click.option("--all", "every", is_flag=True, help="Of all models that are installed.")
def update(model: str | None, every: bool) -> None:
    """Renew MODEL's scripts; weights and runs are not touched."""
    from llm_installer.install.installed import update as update_scripts

    if bool(model) == every:
        wrong = f"{model} and --all contradict each other" if model else "Say which model's scripts to write again"
        raise UsageError(f"{wrong}, for example: {program()} update tiny, or for all: {program()} update --all")
    names, failed = model_names() if every else [str(model)], False
    for name in names:
        try:
            written = update_scripts(name)
        except InstallerError as error:
            if not every:
                raise
            echo(f"{name}: {error}", err=True)
            failed = True
        else:
            for file in written:
                echo(f"Wrote {short_path(file)}")
    if not names:
        echo(f"No model is installed in {short_path(models_dir())}")
    if failed:
        raise SystemExit(1)


@click.command()
@model_argument()
@click.option("--revision", type=Filled(), help="Branch, tag or commit of a hub model.")
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object for other programs.")
def check(model: str, revision: str | None, as_object: bool) -> None:
    """Say whether MODEL runs and trains here, before any of its weights is downloaded."""
    from llm_installer.ui.console import Console

    console = Console(stderr=as_object)
    with errors_as_json(as_object), console.waiting(f"Checking {visible(model)}"):
        from llm_installer.install.check import check_model

        found = check_model(model, revision)
    if as_object:
        checks = [{"name": one.name, "ok": one.ok, "found": one.detail, "hint": one.fix} for one in found.checks]
        ways = [{"setting": setting, "peak": peak, "verdict": verdict} for setting, peak, verdict in found.memory]
        print_json({"checks": checks, "memory": ways})
    else:
        console.show(found)
    if any(each.ok is False for each in found.checks):
        raise SystemExit(1)


@click.command()
def doctor() -> None:
    """Check this machine and what is installed on it."""
    from llm_installer.ui.console import Console
    from llm_installer.ui.models import Checks

    console = Console()
    with console.waiting("Checking this machine"):
        from llm_installer.install.doctor import check_machine

        found = check_machine()
    console.show(Checks(found))
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
