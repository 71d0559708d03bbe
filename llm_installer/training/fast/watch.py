"""What is asked once before each pass, so that no layer has to ask: whether adapters are still what was planned with.

A captured graph runs no hooks, so nothing that training itself does may rely on this: it is for others who write
weights, switch adapters off or merge them. Delete with flat.py and lora.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from llm_installer.training.fast.flat import FlatAdapters


class Watch:
    """Before each pass of a model: are copies fresh, are adapters on, and do weights lie where they did."""

    def __init__(self, model: nn.Module, flat: FlatAdapters, layers: Sequence[LoraLayer]) -> None:
        self.flat, self.layers = flat, list(layers)
        self.names = [next(iter(layer.lora_A)) for layer in layers]
        self._scales = [layer.scaling[name] for layer, name in zip(self.layers, self.names, strict=True)]
        self._places: list[tuple[Tensor, int]] = []
        self._device = flat.weights.device.type
        self._seen = -1
        for part in flat.parts.values():
            self.keeps(part.parameter)
        self.on = True
        """Whether layers may now compute base plus their one adapter by what was planned."""
        inner = cast(nn.Module, getattr(model, "get_base_model", lambda: model)())
        inner.register_forward_pre_hook(self._look)
        self._look()

    def keeps(self, weight: Tensor) -> None:
        """Plans rely on the place of this weight from here on."""
        self._places.append((weight, weight.data_ptr()))

    def _look(self, *_args: object) -> None:
        written = sum(parameter._version for parameter in self.flat.written)
        if written != self._seen:
            self.flat.refresh()
            self._seen = written
        self.flat.collect()
        self.on = self._plain()

    def _plain(self) -> bool:
        for layer, name, scale in zip(self.layers, self.names, self._scales, strict=True):
            if (
                layer.disable_adapters
                or layer.merged
                or layer.active_adapters != [name]
                or layer.scaling[name] != scale
            ):
                return False
        moved = any(weight.data_ptr() != place for weight, place in self._places)
        return not moved and not torch.is_autocast_enabled(self._device)
