"""`llm-installer help`: short texts about what people ask, in help/TOPIC.md, and the help of commands."""

from __future__ import annotations

from importlib.resources import files

import click

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import NAME, program, suggest

TOPICS = {
    "models": "how to install, name, mend and remove them",
    "modes": "how fast and how long to train, and when a run stops",
    "methods": "LoRA, QLoRA, DoRA and the others, and when to use which",
    "memory": "what fits into memory, and what to do if a model does not",
    "data": "what files may look like, and what is skipped",
    "eval": "how to find out whether a run is better, and how sure that is",
    "resuming": "how to continue a run that was interrupted",
    "gpu": "training on one or several GPUs",
    "export": "a model as one file for llama.cpp, Ollama and others",
    "serve": "a model over HTTP, for clients of OpenAI's API",
    "studio": "trainings as jobs over HTTP, and workers for them",
    "sharing": "an adapter on the Hugging Face hub, and in vLLM or Ollama",
    "program": "settings, the Tab key, upgrade and uninstall",
}
"""Every topic, and what it is about."""


def _offer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Topics and commands, and behind a group its own."""
    command, names = ctx.find_root().command, [*TOPICS]
    for word in ctx.params.get("words") or ():
        if word not in (known := _commands(command)):
            return []
        command, names = known[word], []
    return [name for name in dict.fromkeys([*names, *_commands(command)]) if name.startswith(incomplete)]


@click.command(name="help")
@click.argument("words", nargs=-1, metavar="[TOPIC | COMMAND]", shell_complete=_offer)
@click.pass_context
def help_command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain a topic or a command; without either, list the topics."""
    from llm_installer.ui.console import Console
    from llm_installer.ui.topics import Topic, Topics

    console = Console()
    if not words:
        console.show(Topics(TOPICS))
    elif words[0] in TOPICS:
        console.show(Topic(text(words[0])))
        if words[0] in _commands(ctx.find_root().command):
            console.line()
            console.line(f"The command of this name: {program()} {words[0]} --help")
        if program() != NAME:
            console.line()
            console.line(f"Where {NAME} is not on PATH, type: {program()}")
    else:
        click.echo(_help_of(ctx.find_root(), words))


def text(topic: str) -> str:
    """What is written about a topic, as Markdown."""
    file = files("llm_installer.cli") / "help" / f"{topic}.md"
    if not file.is_file():
        raise UsageError(f"There is no text about {topic} in this installation; see {program()} --help")
    return file.read_text(encoding="utf-8")


def _help_of(context: click.Context, words: tuple[str, ...]) -> str:
    """The help of a command, or of a command of a group: `help adapters use`."""
    for number, word in enumerate(words):
        known = _commands(context.command)
        if word not in known:
            near = suggest(word, [*known, *(() if number else TOPICS)])
            raise UsageError(f"There is no topic or command {word!r}{near or f'; see {program()} help'}")
        context = known[word].context_class(known[word], info_name=word, parent=context)
    return context.get_help()


def _commands(command: click.Command) -> dict[str, click.Command]:
    return dict(command.commands) if isinstance(command, click.Group) else {}
