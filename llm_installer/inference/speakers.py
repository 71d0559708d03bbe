"""Who speaks: a base in memory with one adapter on it, or none, in whose place another comes without a new load."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from llm_installer.core.paths import ModelDir
from llm_installer.inference.load import Assistant, load_base_of


class Speakers:
    """The assistants of one model directory, one at a time."""

    def __init__(self, folder: ModelDir, lora: Path | None, quantised: str = "", raw: bool | None = None) -> None:
        """Load the base, and let the adapter in `lora` speak. `raw` continues plain text or uses the chat template
        whatever an adapter was trained for. Raises what load_assistant does."""
        self.folder, self.first = folder, lora
        self._raw = raw
        self._base = load_base_of(folder, quantised)
        self._on = ExitStack()
        self.lora = lora
        """The adapter that speaks now; None for the base."""
        self.assistant = self._put_on(lora)

    def use(self, lora: Path | None) -> Assistant:
        """Let another adapter speak, or the base. Raises AdapterError where it cannot, and the one before goes on."""
        if lora == self.lora:
            return self.assistant
        self._on.close()
        ready = False
        try:
            self.assistant, self.lora, ready = self._put_on(lora), lora, True
        finally:
            if not ready:
                self.assistant = self._put_on(self.lora)
        return self.assistant

    def _put_on(self, lora: Path | None) -> Assistant:
        assistant = self._on.enter_context(self._base.with_adapter(lora))
        return assistant if self._raw is None else replace(assistant, style="text" if self._raw else "chat")
