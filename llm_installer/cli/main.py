"""The command line: the group of all commands, and the guard that makes one sentence of an error.

Stories are imported inside commands, so that --help never waits for torch.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from llm_installer.cli.chat import start
from llm_installer.cli.commands import Commands
from llm_installer.cli.completion import completion
from llm_installer.cli.config import config
from llm_installer.cli.data import data
from llm_installer.cli.echo import complain, echo
from llm_installer.cli.evals import evaluate_command
from llm_installer.cli.export import export
from llm_installer.cli.fix import fix
from llm_installer.cli.merge import merge
from llm_installer.cli.models import COMMANDS
from llm_installer.cli.push import check_for, push
from llm_installer.cli.run import run
from llm_installer.cli.runs import adapters
from llm_installer.cli.serve import serve
from llm_installer.cli.studio import studio, worker
from llm_installer.cli.topics import help_command
from llm_installer.cli.train import train
from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.files import FULL
from llm_installer.core.startup import LIBRARIES, begin, no_telemetry, ready
from llm_installer.core.text import short_path
from llm_installer.core.version import __version__

QUIET = {
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "BITSANDBYTES_NOWELCOME": "1",
}
"""Only our own output on the terminal. What the user has set stays."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llm-installer")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Give a model a folder, train a LoRA on your data, keep what it learned."""


@cli.command()
def quickstart() -> None:
    """Install the built-in model, train it, and show before and after: about a minute."""
    from llm_installer.cli.quickstart import run as tell

    tell()


_MORE = (
    fix, config, data, adapters, train, evaluate_command, start, run, serve, studio, worker, merge, export, check_for,
    push, completion, help_command,
)  # fmt: skip
for _command in (*COMMANDS, *_MORE):
    cli.add_command(_command)


def main() -> None:
    """Run a command. An error of ours is one sentence on stderr and its exit code; --debug shows where it came from."""
    begin()
    _whatever_the_locale()
    no_telemetry()
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if not debug:
        _one_voice()
    try:
        _guarded(
            lambda: cli(
                args=[a for a in arguments if a != "--debug"], prog_name="llm-installer", standalone_mode=False
            ),
            debug,
        )
    finally:
        ready()  # Python looks for garbage once more when it ends, and would take seconds for all that was imported


def _whatever_the_locale() -> None:
    """What the encoding of a terminal lacks, such as another script in a plain C locale, is printed as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # one that can be read, too, cannot be changed
                stream.reconfigure(errors="backslashreplace")


def _one_voice() -> None:
    warnings.simplefilter("ignore")
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)


def _refuse_a_removed_folder() -> None:
    """Libraries are not found, and torch ends the process, where the current folder was removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError("The current folder was removed; change to another one, for example with: cd ~") from None


def _outside(error: OSError) -> str:
    """What is wrong around this program, as a sentence; empty where the mistake may be its own."""
    if error.errno == errno.EACCES and error.filename:
        where = short_path(os.fsdecode(error.filename))
        return f"{where} cannot be used ({error.strerror}); change its rights or those of its folder, and start again"
    if error.errno not in (*FULL, errno.EIO, errno.EROFS):
        return ""
    where = short_path(os.fsdecode(error.filename)) if error.filename else "What this command prints"
    return f"{where} cannot be written ({error.strerror}); free some space, or write to another place"


def _show(error: click.ClickException) -> None:
    """What click says about a command line, with its usage, in a sentence that is wrapped as all are."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # no error, but a whole help
        return click.echo(error.format_message(), err=True)
    usage = error.ctx if isinstance(error, click.UsageError) else None
    if usage:
        known = usage.command.get_help_option_names(usage)
        hint = f"Try '{usage.command_path.replace(' [MODEL]', '')} {max(known, key=len)}' for help.\n" if known else ""
        click.echo(f"{usage.get_usage()}\n{hint}", err=True)
    said = " ".join(line.strip() for line in error.format_message().split("\n"))  # click lists choices line by line
    complain(f"Error: {said}")


def _give_up_output() -> None:
    """What stdout still holds has no place; Python would try once more when it ends, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _guarded(command: Callable[[], object], debug: bool) -> NoReturn:
    try:
        _refuse_a_removed_folder()
        code = command()
        sys.stdout.flush()
    except click.Abort:
        echo("Stopped.", err=True)
        raise SystemExit(130) from None
    except click.ClickException as error:
        _show(error)
        raise SystemExit(error.exit_code) from None
    except InstallerError as error:
        if debug:
            raise
        complain(error.said)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        echo("Stopped.", err=True)
        raise SystemExit(130) from None
    except OSError as error:
        if debug or not (said := _outside(error)):
            raise
        _give_up_output()
        complain(f"Error: {said}")
        raise SystemExit(1) from None
    raise SystemExit(code if isinstance(code, int) else 0)
