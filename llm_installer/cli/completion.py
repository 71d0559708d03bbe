"""The script that makes the Tab key of a shell complete commands, options, models and runs.

Run as: llm-installer completion bash
"""

from __future__ import annotations

import os

import click
from click.shell_completion import get_completion_class

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import NAME, program

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LLM_INSTALLER_COMPLETE"
"""What the script sets when it asks this program; click derives it from the program's name."""


@click.command()
@click.argument("shell", required=False, type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print the script for the Tab key of SHELL (bash, zsh or fish; by default your own)."""
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise UsageError(f"Say for which shell, for example: {program()} completion bash (there are also zsh and fish)")
    found = get_completion_class(name)
    assert found, name
    click.echo(found(ctx.find_root().command, {}, NAME, VARIABLE).source())
