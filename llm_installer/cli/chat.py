"""Talk to a model in the terminal: one answer, or a conversation until the input ends.

Run as: llm-installer start MODEL   (or DIR/start.sh)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import click

from llm_installer.cli.conversation import chat, spoken
from llm_installer.cli.line_editor import line_editor
from llm_installer.cli.names import FILES, FOLDERS, chosen_model, model_or_path, offer_runs
from llm_installer.cli.options import held_in_bits
from llm_installer.core.errors import UsageError
from llm_installer.planning.bounds import Filled, Number, Whole
from llm_installer.planning.settings import built

if TYPE_CHECKING:
    from llm_installer.core.paths import ModelDir
    from llm_installer.inference.start import ChatRequest


@click.command()
@model_or_path
@click.option(
    "--lora", metavar="DIR", type=Filled(), shell_complete=FOLDERS, help="Use this adapter instead of ./lora."
)
@click.option(
    "--run",
    "run_id",
    metavar="ID",
    type=Filled(),
    shell_complete=offer_runs,
    help="Use this run's adapter: its id, a part of it, or `last`.",
)
@click.option("--no-lora", is_flag=True, help="Use the base model alone.")
@click.option("--prompt", metavar="TEXT", help="Answer once and end.")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="PATH",
    type=Filled(),
    shell_complete=FILES,
    help="Ask about this picture; needs --prompt.",
)
@click.option("--system", default="", metavar="TEXT", help="Instructions for the model.")
@click.option("--max-new-tokens", default=512, show_default=True, type=Whole(1), help="Longest answer.")
@click.option(
    "--temperature",
    default=0.0,
    show_default=True,
    type=Number(0),
    help="0 always gives the likeliest answer.",
)
@click.option("--top-p", default=1.0, show_default=True, type=Number(0, 1, low_open=True), help="Nucleus size.")
@held_in_bits
@click.option("--raw/--chat", default=None, help="Continue plain text, or use the chat template; default as trained.")
@click.option("--serve", is_flag=True, help="Serve the model and its runs over HTTP instead, as the command `serve`.")
def start(model: str | None, model_path: str | None, run_id: str | None, serve: bool, **given: object) -> None:
    """Talk to MODEL; ./lora is loaded by itself."""
    from llm_installer.core.paths import ModelDir

    which = ("Say which model to serve", "serve {}") if serve else ("Say which model to talk to", "start {}")
    talk_or_serve(ModelDir.find(chosen_model(model, model_path, *which)), run_id, serve, given)


def talk_or_serve(folder: ModelDir, run_id: str | None, serve: bool, given: Mapping[str, object]) -> None:
    """What the options of `start` say."""
    if serve:
        _serve(folder, {**given, "run": run_id})
    else:
        talk(folder, run_id, given)


def _serve(folder: ModelDir, given: Mapping[str, object]) -> None:
    """Serve with the options that mean the same there. Raises UsageError for those of a chat."""
    from llm_installer.cli.serve import KEY, serve_folders
    from llm_installer.inference.start import ChatRequest
    from llm_installer.server.request import ServeRequest, check

    usual = {"run": None} | {one.name: one.default for one in fields(ChatRequest)}
    other = next((name for name, value in given.items() if name != "quantised" and value != usual[name]), None)
    if other:
        raise UsageError(
            f"--serve serves the base and all runs, and {_flag(other, given[other])} is for a chat; leave it out"
        )
    request = ServeRequest(api_key=os.environ.get(KEY, ""), quantised=str(given["quantised"]))
    check(request)
    serve_folders([folder], request)


def _flag(name: str, value: object) -> str:
    """What was typed for a field of ChatRequest."""
    return {"images": "--image", "raw": "--raw" if value else "--chat"}.get(name, f"--{name.replace('_', '-')}")


def talk(folder: ModelDir, run_id: str | None, given: Mapping[str, object]) -> None:
    """Answer once or chat, as the options of `start` say."""
    from llm_installer.inference.start import ChatRequest
    from llm_installer.runs.listing import find_run

    request = built(ChatRequest, given)
    if bool(request.lora) + bool(run_id) + request.no_lora > 1:
        raise UsageError("--lora, --run and --no-lora contradict each other; give one of them")
    if request.prompt is not None and not request.prompt.strip() and not request.images:
        raise UsageError("--prompt is empty; say what to answer, or leave it out to chat")
    if request.images and request.prompt is None:
        raise UsageError("--image needs a question about it, for example: --prompt 'What is this?'")
    answer(folder, replace(request, lora=str(find_run(folder, run_id).adapter)) if run_id else request)


def answer(folder: ModelDir, request: ChatRequest) -> None:
    """Answer the prompt, or chat until the input ends. What is active is said on stderr, answers go to stdout."""
    from llm_installer.inference.start import load
    from llm_installer.ui.console import Console

    console = Console(stderr=True)
    speakers = load(folder, request, console)
    assistant = speakers.assistant
    from llm_installer.inference.chat import Conversation
    from llm_installer.inference.generate import Sampling

    base = assistant.merged or "base model, no adapter"
    adapter = f"adapter {assistant.adapter}" if assistant.adapter else base
    console.line(f"{folder.root.name}: {adapter}")
    sampling = Sampling(request.max_new_tokens, request.temperature, request.top_p)
    conversation = Conversation(assistant, sampling, request.system)
    if request.prompt is None:
        with line_editor(folder) as ask:
            chat(conversation, console, ask, speakers)
    else:
        with spoken(console) as on_text:
            conversation.ask(request.prompt, on_text, request.images)
        print(flush=True)
