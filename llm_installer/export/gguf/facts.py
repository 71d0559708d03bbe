"""What a model's config says, with the type that is expected of each value, and what is written of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from llm_installer.core.errors import ModelError

Value: TypeAlias = "int | float | bool | str | list[int] | list[float] | list[str]"
Values: TypeAlias = "dict[str, Value]"
"""Metadata of a GGUF file: whole numbers become uint32, others float32."""


@dataclass(frozen=True)
class Facts:
    """The config of a model, as transformers completes it."""

    values: Mapping[str, object]

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number. Raises ModelError where it is none."""
        found = self.values.get(name)
        value = default if found is None else found
        if type(value) is not int:
            raise ModelError(f"config.json says {name} = {found!r}, which is not a whole number")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number. Raises ModelError where it is none."""
        found = self.values.get(name)
        value = default if found is None else found
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelError(f"config.json says {name} = {found!r}, which is not a number")
        return float(value)

    def get(self, name: str, default: object = None) -> object:
        """Any value; the default where it is null, too."""
        found = self.values.get(name)
        return default if found is None else found

    def part(self, name: str) -> Facts:
        """An object in it; empty where there is none."""
        found = self.values.get(name)
        return Facts(found if isinstance(found, dict) else {})

    @property
    def heads(self) -> int:
        return self.whole("n_head" if "n_head" in self.values else "num_attention_heads")

    @property
    def kv_heads(self) -> int:
        return self.whole("num_key_value_heads", self.heads)

    @property
    def width(self) -> int:
        """The size of the hidden state."""
        return self.whole("n_embd" if "n_embd" in self.values else "hidden_size")

    @property
    def head_dim(self) -> int:
        return self.whole("head_dim", self.width // max(1, self.heads))

    @property
    def layers(self) -> int:
        return self.whole("n_layer" if "n_layer" in self.values else "num_hidden_layers")
