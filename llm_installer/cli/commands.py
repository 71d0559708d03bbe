"""A group of commands: lists them in their order, and leads from words that people try to those that there are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import ClassVar

import click

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import nearest, program, quoted
from llm_installer.core.home import known_names

WHOLE = 200
"""Characters of a command's first sentence in the list: enough that none is cut."""
_TRIED = {
    "adapters MODEL": "adapter lora loras runs experiments",
    "adapters MODEL compare ONE OTHER": "compare diff",
    "adapters MODEL use RUN": "use switch activate rollback",
    "check MODEL": "info describe verify fits",
    "completion": "completions autocomplete",
    "config": "configure configuration settings preferences env",
    "config set NAME VALUE": "set",
    "config set hub-token": "login auth token hf",
    "data FILE": "dataset datasets inspect validate preview clean convert",
    "eval MODEL --data FILE": "evaluate evaluation benchmark score test-model metrics perplexity accuracy",
    "doctor": "diagnose health test debug",
    "fix": "repair mend heal",
    "fix --recreate-venv": "setup set-up",
    "handlers": "families architectures",
    "install MODEL": "add get download pull fetch clone",
    "export MODEL --to gguf": "gguf quantize quantise llama.cpp llamacpp",
    "export MODEL --to mlx": "mlx mlx-lm",
    "export MODEL --to ollama": "ollama modelfile",
    "check-for vllm MODEL": "vllm sglang",
    "push MODEL --repo OWNER/NAME": "upload publish share push-to-hub hub-push",
    "merge MODEL": "fuse bake combine unload",
    "list": "ls models installed show ps",
    "quickstart": "demo tour init hello begin",
    "remove MODEL": "delete rm del uninstall erase purge",
    "run MODEL": "exec",
    "start MODEL": "chat talk infer inference interact",
    "start MODEL --prompt TEXT": "ask generate complete predict prompt",
    "train MODEL --data FILE": "finetune fine-tune tune sft lora-sft fit learn",
    "train MODEL --resume": "resume continue",
    "train MODEL --save-now": "save checkpoint",
    "train MODEL --show --data FILE": "tokenize",
    "train MODEL --status": "status progress watch monitor",
    "train MODEL --stop-now": "stop kill cancel abort",
    "train MODEL --tensorboard-only": "tensorboard board plot logs",
    "update MODEL": "upgrade refresh",
    "--version": "version",
}
"""What to type, and the words that people try for it."""


def synonyms(table: Mapping[str, str]) -> dict[str, str]:
    """What to type for each word that is tried."""
    return {word: typed for typed, words in table.items() for word in words.split()}


class Commands(click.Group):
    """A group that leads from a word that is no command to the command that it means."""

    tried: ClassVar[Mapping[str, str]] = synonyms(_TRIED)
    """What to type for words that are no commands."""
    called: ClassVar[str] = ""
    """The words between the program and a command of this group."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click; but a word that is no command is told which one it could mean."""
        if args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise UsageError(self._no_command(args[0]))
        return super().resolve_command(ctx, args)

    def _no_command(self, word: str) -> str:
        start = " ".join(filter(None, (program(), self.called)))
        if meant := next(self._meant(word), ""):
            return f"There is no command {word!r}; did you mean: {start} {meant}"
        return f"There is no command {word!r}; see those there are with: {start} --help"

    def _meant(self, word: str) -> Iterator[str]:
        lower = word.lower().replace("_", "-")
        if lower in self.commands or lower in self.tried:
            yield self.tried.get(lower, lower)
        if not self.called:
            yield from self._of_the_word(word)
        if close := nearest(lower, self.commands):
            yield close

    def _of_the_word(self, word: str) -> Iterator[str]:
        """What to do with a model, a file of data, or a hub id that was typed in the place of a command."""
        if word in known_names():
            yield f"start {quoted(word)}"
        if os.path.isfile(word):
            yield f"data {quoted(word)}"
        if "/" in word:
            yield f"install {quoted(word)}"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their definition."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its whole first sentence."""
        rows = [(name, command.get_short_help_str(limit=WHOLE)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
