"""What holds for all models: `llm-installer config`, and `set` and `unset` after it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from llm_installer.cli.commands import Commands, synonyms
from llm_installer.cli.echo import echo
from llm_installer.core.errors import UsageError
from llm_installer.core.hints import program
from llm_installer.core.text import short_path
from llm_installer.core.user_config import HOME, TOKEN, WHOLE, read_user_config, user_config_file, write_user_config
from llm_installer.install.disk import nearest_existing
from llm_installer.planning.options import Options
from llm_installer.planning.preferences import (
    DEFAULT,
    LOGIN,
    PREFERENCES,
    Found,
    Preference,
    check_known,
    find,
    preference,
)
from llm_installer.planning.settings import described


class OfConfig(Commands):
    """Its commands, and what people try instead of them."""

    called = "config"
    tried = synonyms({"show": "get list ls", "set NAME VALUE": "add change", "unset NAME": "remove rm delete reset"})


def _offer_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [one.name for one in PREFERENCES if one.name.startswith(incomplete)]


def _offer_values(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str | CompletionItem[str]]:
    """What the setting that was named before may be: one of some words, or a folder."""
    try:
        one = preference(str(ctx.params.get("name")))
    except UsageError:
        return []
    if one.name == HOME:
        return [CompletionItem(incomplete, type="dir")]
    return [value for value in _values(one) if value.startswith(incomplete)]


def _values(one: Preference) -> tuple[str, ...]:
    """The words among which a setting is one; empty where there are no such."""
    return next((each.setting.choices for each in described(Options) if each.name == one.field), ())


def _named(name: str | None, command: str) -> str:
    """The name that was given. Raises UsageError where none was, and names all that there are."""
    if name:
        return name
    names = ", ".join(one.name for one in PREFERENCES)
    raise UsageError(f"Say which setting: {program()} config {command} NAME; there are {names}")


@click.group(cls=OfConfig, invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show what holds for all models, and where each value comes from; set it, or take it back."""
    if ctx.invoked_subcommand is None:
        _show()


@config.command(name="show")
def show_command() -> None:
    """The same as `config` alone."""
    _show()


def _show() -> None:
    from llm_installer.ui.console import Console
    from llm_installer.ui.preferences import Preferences

    Console().show(Preferences(_found()))


def _found() -> list[Found]:
    stored = read_user_config()
    check_known(stored)
    return [_with_login(find(one, os.environ, stored)) for one in PREFERENCES]


def _with_login(found: Found) -> Found:
    """A token that the hub's own client keeps counts where none is set here."""
    if found.preference.name != TOKEN or found.source != DEFAULT:
        return found
    from huggingface_hub import get_token

    token = get_token()
    return replace(found, value=token, source=LOGIN) if token else found


@config.command(name="set")
@click.argument("name", required=False, shell_complete=_offer_names)
@click.argument("value", required=False, shell_complete=_offer_values)
def set_command(name: str | None, value: str | None) -> None:
    """Set NAME to VALUE; without VALUE it is asked for, so that a token is in no history of a shell."""
    one, stored = preference(_named(name, "set")), read_user_config()
    given = _asked(one) if value is None else value
    if not given.strip():
        raise UsageError(
            f"Say what {one.name} shall be: {program()} config set {one.name} VALUE; for the default type: {program()} "
            f"config unset {one.name}"
        )
    kept = one.check(given.strip())
    if one.name == HOME:
        _refuse_no_folder(kept)
    write_user_config({**stored, one.name: kept})
    now = find(one, os.environ, {one.name: kept})
    shown = Found(one, kept, now.source).shown
    echo(f"{one.name} is now {shown}, in {short_path(user_config_file())}")
    if now.value != kept:
        echo(f"For now {one.variable} in the environment still says {now.shown}, and wins.")
    if one.name == HOME:
        echo("Models that are installed already stay where they are; move their folders to find them by name.")


def _refuse_no_folder(home: str) -> None:
    """Raise UsageError where no folder is, and none can be made: a file is in the way."""
    found = nearest_existing(Path(home).expanduser())
    if not found.is_dir():
        raise UsageError(f"{HOME}={home!r}: {short_path(found)} is not a folder; {WHOLE}")


def _asked(one: Preference) -> str:
    """What is typed on a terminal, unseen where it is secret, or else the first line of the input."""
    if sys.stdin is not None and sys.stdin.isatty():
        among = f" ({', '.join(choices)})" if (choices := _values(one)) else ""
        return str(click.prompt(f"{one.name}{among}", hide_input=one.secret, err=True))
    return sys.stdin.readline() if sys.stdin is not None else ""


@config.command(name="unset")
@click.argument("name", required=False, shell_complete=_offer_names)
def unset_command(name: str | None) -> None:
    """Go back to the default of NAME."""
    name, stored = _named(name, "unset"), read_user_config()
    key = name if name in stored else preference(name).name  # a name that is wrong in the file can be taken out, too
    if key not in stored:
        echo(f"{key} was not set")
        return
    write_user_config({other: value for other, value in stored.items() if other != key})
    echo(f"{key} is no longer set")
