"""The story of loading a model to talk to: which adapter, and is it really active."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.errors import AdapterError
from llm_installer.core.hints import script
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import import_bitsandbytes, ready
from llm_installer.core.text import short_path
from llm_installer.core.voice import Voice

if TYPE_CHECKING:
    from llm_installer.inference.speakers import Speakers


ALONE = "use the base model alone with --no-lora"
ANOTHER = "name another one with --run or --lora"
"""What to do where an adapter is not there, for commands that have these options."""


@dataclass(frozen=True)
class ChatRequest:
    """What the user wants to talk to, and how."""

    lora: str | None = None
    """Folder of an adapter; None for ./lora."""
    no_lora: bool = False
    """Use the base model alone."""
    quantised: str = ""
    """A name of planning.method.QUANTISED; empty for the base as it is."""
    raw: bool | None = None
    """Continue plain text (True), use the chat template (False), or do as the adapter was trained (None)."""
    prompt: str | None = None
    """One question; None for a conversation."""
    images: tuple[str, ...] = ()
    """Paths of the pictures that `prompt` is about."""
    system: str = ""
    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0


def load(folder: ModelDir, request: ChatRequest, voice: Voice) -> Speakers:
    """The model with the adapter that was asked for, ready to answer.

    Raises AdapterError for an adapter that is not there, damaged, made for another base, or without effect.
    """
    adapter = chosen_lora(folder, request.lora, request.no_lora)
    with voice.waiting("Loading the model"):
        import_bitsandbytes()
        from llm_installer.inference.speakers import Speakers

        speakers = Speakers(folder, adapter, request.quantised, request.raw)
    ready()
    return speakers


def chosen_lora(folder: ModelDir, given: str | None, without: bool, instead: str = ALONE) -> Path | None:
    """The adapter to use: the one that is given, else ./lora, else none.

    Raises AdapterError when it is not there, which says what to do `instead`.
    """
    if without or (given is None and not folder.lora.is_symlink() and not folder.lora.exists()):
        return None
    chosen = Path(given).expanduser() if given else folder.lora
    if not chosen.is_dir():
        raise AdapterError(
            f"There is no adapter at {short_path(chosen)}; train one with {script(folder.root)} --data my.json, "
            f"or {instead}"
        )
    return chosen.resolve()  # if ./lora is switched while it is read, two adapters must not be mixed
