"""The script that makes the Tab key of a shell complete commands, options, models and runs.

Run as: llm-installer completion bash
"""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import NAME, program

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LLM_INSTALLER_COMPLETE"
"""What the script sets when it asks this program; click derives it from the program's name."""


class _Bash(BashComplete):
    """Bash breaks words at =, so that --mode=f comes in three pieces."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """(the words before, the one to complete)."""
        args, incomplete = super().get_completion_args()
        words: list[str] = []
        for word in args:
            if words and words[-1].startswith("--") and (word == "=" or words[-1].endswith("=")):
                words[-1] += word
            else:
                words.append(word)
        if words and words[-1].startswith("--") and words[-1].endswith("="):  # what is completed is its value
            words[-1] = words[-1].removesuffix("=")
        return words, incomplete


class _Zsh(ZshComplete):
    """Zsh puts what is offered in the place of the complete word."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """What can stand there, with the option before it."""
        return _complete_words(super().get_completions(args, incomplete), incomplete)


class _Fish(FishComplete):
    """Fish, too."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """What can stand there, with the option before it."""
        return _complete_words(super().get_completions(args, incomplete), incomplete)


def _complete_words(offered: list[CompletionItem[str]], incomplete: str) -> list[CompletionItem[str]]:
    """--mode=fast for fast, where --mode=f was typed; paths are completed by the shell itself."""
    option, equals, _ = incomplete.partition("=")
    before = option + equals if equals and option.startswith("-") else ""
    return [CompletionItem(before + item.value, help=item.help) if item.type == "plain" else item for item in offered]


for _shell in (_Bash, _Zsh, _Fish):
    add_completion_class(_shell)


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
