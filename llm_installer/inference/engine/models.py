"""The base and its adapters in memory: loaded, checked, and given to the batch."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel

from llm_installer.core.paths import ModelDir
from llm_installer.core.text import short_path
from llm_installer.inference.chat import DEFAULT_POSITIONS
from llm_installer.inference.engine.alone import Alone
from llm_installer.inference.engine.bank import AdapterBank
from llm_installer.inference.engine.parts import parts_of
from llm_installer.inference.engine.request import BASE, Limits
from llm_installer.inference.engine.rows import Served
from llm_installer.inference.engine.together import Together
from llm_installer.inference.engine.trial import tried
from llm_installer.inference.load import load_base_of


class Models:
    """A base on which any number of adapters are at once."""

    def __init__(self, folder: ModelDir, quantised: str = "") -> None:
        """Load the base, quantised as its files are or as `quantised` names. Raises what inference.load does."""
        self._loaded = load_base_of(folder, quantised)
        with self._loaded.with_adapter(None) as base:
            self.served: dict[str, Served] = {BASE: Served(BASE, base.encoder, base.style, base.merged)}
        model = self._loaded.model
        self._bank = AdapterBank(model)
        self.tried = tried(model)
        text = model.config.get_text_config()
        self.positions = int(getattr(text, "max_position_embeddings", 0) or DEFAULT_POSITIONS)

    def batch(self, limits: Limits) -> Together | Alone:
        """What answers with them."""
        model = self._loaded.model
        if self.tried.masks is None:
            return Alone(model, self._bank, self.served[BASE].encoder)
        return Together(model, self._bank, self.tried.masks, limits.chunk)

    def add(self, name: str, lora: Path) -> None:
        """Take an adapter in. Raises AdapterError for one that is damaged, made for another base, without effect, or of
        a kind that cannot share a base."""
        self._bank.select([])
        with self._loaded.with_adapter(lora) as assistant:
            assert isinstance(assistant.model, PeftModel)
            parts = parts_of(assistant.model, f"The adapter {short_path(lora)}")
            self.served[name] = Served(name, assistant.encoder, assistant.style, assistant.adapter, lora)
        self._bank.add(name, parts)

    def remove(self, name: str) -> None:
        """Let an adapter go."""
        self.served.pop(name, None)
        self._bank.remove(name)
