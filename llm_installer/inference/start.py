"""The story of using a model: which adapter, is it really active, then answer.

Run as: llm-installer start --model-path DIR   (or DIR/start.sh)
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from llm_installer.core.errors import AdapterError
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import import_bitsandbytes, ready
from llm_installer.ui.console import Console


def run(
    folder: ModelDir, *, lora: str | None, no_lora: bool, prompt: str | None, raw: bool | None,
    system: str, max_new_tokens: int, temperature: float, top_p: float, images: tuple[str, ...] = (),
    quantised: str = "",
) -> None:  # fmt: skip
    """Answer `prompt`, about `images`, once, or chat until the input ends. What is active is said on stderr, answers go
    to stdout."""
    console = Console(stderr=True)
    adapter = chosen_lora(folder, lora, no_lora)
    with console.waiting("Loading the model"):
        import_bitsandbytes()
        from llm_installer.inference.chat import Conversation, chat
        from llm_installer.inference.generate import Sampling
        from llm_installer.inference.load import load_assistant

        assistant = load_assistant(folder, adapter, quantised)
    ready()
    if raw is not None:
        assistant = replace(assistant, style="text" if raw else "chat")
    console.line(
        f"{folder.root.name}: " + (f"adapter {assistant.adapter}" if assistant.adapter else "base model, no adapter")
    )
    conversation = Conversation(assistant, Sampling(max_new_tokens, temperature, top_p), system)
    if prompt is None:
        chat(conversation, console.line)
        return
    conversation.ask(prompt, lambda piece: print(piece, end="", flush=True), images)
    print(file=sys.stdout, flush=True)


def chosen_lora(folder: ModelDir, given: str | None, without: bool) -> Path | None:
    """Which adapter wins: the one given by hand, else ./lora, else none. Raises AdapterError when it is not there."""
    if without or (given is None and not folder.lora.is_symlink() and not folder.lora.exists()):
        return None
    chosen = Path(given).expanduser() if given else folder.lora
    if not chosen.is_dir():
        raise AdapterError(f"There is no adapter at {chosen}; train one, or answer without: --no-lora")
    return chosen.resolve()  # whoever switches ./lora while it is read does not mix two adapters
