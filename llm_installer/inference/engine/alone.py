"""One row at a time, for models that keep more than keys and values by position, and for those that see."""

from __future__ import annotations

import inspect
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from llm_installer.core.arrays import NamedArrays
from llm_installer.data.encoding.encode import Encoder
from llm_installer.inference.engine.bank import AdapterBank
from llm_installer.inference.engine.kept import KeptPrefixes
from llm_installer.inference.engine.rows import Family, Row
from llm_installer.models.base import model_inputs


class Alone:
    """The batch of a model whose rows must be answered one after the other: its own cache, by its own rules."""

    at_once = False

    def __init__(self, model: PreTrainedModel, bank: AdapterBank, encoder: Encoder) -> None:
        self.rows: list[Row] = []
        self.reading: list[Family] = []
        self._model, self._bank, self._encoder = model, bank, encoder
        self._cache: object = None
        parameters = inspect.signature(model.forward).parameters
        self._cache_name = "cache_params" if "cache_params" in parameters else "past_key_values"

    @property
    def bytes(self) -> int:
        """What its cache takes; unknown to us."""
        return 0

    def fits(self, families: list[Family], another: Family) -> bool:
        """Never: one at a time."""
        return not families

    def begin(self, families: list[Family], kept: KeptPrefixes) -> None:
        """Read this prompt next, from its start."""
        self.reading = families

    def read(self) -> list[tuple[Family, Tensor]]:
        """Read the prompt, its pictures too. Returns it with the logits [vocabulary] of what follows."""
        (family,) = self.reading
        ids = np.array([family.ids], dtype=np.int64)
        pictures = self._encoder.inputs(ids, [family.taken.request.images])
        self._cache = None
        logits = self._forward(family.taken.request.model, torch.from_numpy(ids), pictures)
        self.reading = []
        return [(family, logits[0])]

    def join(self, families: list[Family]) -> None:
        """The row answers from now on, if it has not ended yet."""
        self.rows = [row for family in families for row in family.rows if row.reason is None]

    def step(self) -> Tensor:
        """Let the row read its last token. Returns the logits [1, vocabulary] of the next."""
        (row,) = self.rows
        return self._forward(row.name, torch.tensor([row.ids[-1:]]), {})

    def leave(self, row: Row, kept: KeptPrefixes | None) -> None:
        """The row goes, and what the model knew of it."""
        self.rows.remove(row)
        self._cache = None

    def clear(self) -> None:
        """Everything that is here is gone."""
        self.rows, self.reading, self._cache = [], [], None

    def _forward(self, name: str, ids: Tensor, pictures: NamedArrays) -> Tensor:
        self._bank.select([name])
        model = self._model
        given: dict[str, object] = {**model_inputs(pictures, model.device, model.dtype), self._cache_name: self._cache}
        result = model(input_ids=ids.to(model.device), use_cache=True, **given)
        self._cache = getattr(result, self._cache_name)
        return cast(Tensor, result.logits[:, -1])
