"""Rows of one batch, each in its own slot: prompts are read in pieces, answers grow by a token a step."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llm_installer.inference.engine.bank import AdapterBank
from llm_installer.inference.engine.kept import KeptPrefixes
from llm_installer.inference.engine.masks import Masks
from llm_installer.inference.engine.planned import plan_of
from llm_installer.inference.engine.rows import Family, Row
from llm_installer.inference.engine.slots import Slots
from llm_installer.inference.engine.trial import steps_alike


@dataclass
class _Reading:
    """Prompts that are being read: several short ones at once, or one in pieces."""

    families: list[Family]
    done: int
    """Positions that are read."""

    @property
    def longest(self) -> int:
        return max(len(family.ids) for family in self.families)


class Together:
    """The batch of a model whose rows can be answered at once."""

    at_once = True
    """Several rows, and several answers to one prompt, can be here at the same time."""

    def __init__(self, model: PreTrainedModel, bank: AdapterBank, masks: Masks, chunk: int) -> None:
        layers = model.config.get_text_config().num_hidden_layers
        self.rows: list[Row] = []
        """Those that answer; each has the slot of its place here."""
        self._model, self._bank, self._masks, self._chunk = model, bank, masks, chunk
        self._keeps_some = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._answers, self._prompts = Slots(layers), Slots(layers)
        self._reading: _Reading | None = None
        plan = plan_of(model, bank)
        self._plan = plan if plan and steps_alike(model, masks, plan) else None

    @property
    def reading(self) -> list[Family]:
        """Those whose prompts are being read."""
        reading = self._reading  # looked at once, since other threads count what is done
        return reading.families if reading else []

    @property
    def bytes(self) -> int:
        """What keys and values take."""
        return self._answers.bytes + self._prompts.bytes

    def fits(self, families: list[Family], another: Family) -> bool:
        """Whether the prompt may be read at once with these: none is longer than a piece, and they fill no more."""
        longest = max(len(family.ids) for family in [*families, another])
        return (len(families) + 1) * longest <= self._chunk

    def begin(self, families: list[Family], kept: KeptPrefixes) -> None:
        """Read these prompts next; what is known of one is not read again."""
        done = 0
        if len(families) == 1:
            (family,) = families
            done, held = kept.find(family.taken.request.model, family.ids)
            family.taken.reused_tokens = done
            self._prompts.reserve(1, len(family.ids), 0)
            if done:
                self._prompts.put(0, held, done)
        self._reading = _Reading(families, done)

    def read(self) -> list[tuple[Family, Tensor]]:
        """Read a piece. Returns the prompts that are read to their end, each with the logits [vocabulary] of what
        follows; join() what goes on before the next begin()."""
        reading = self._reading
        assert reading is not None
        families, start, longest = reading.families, reading.done, reading.longest
        end = min(longest, start + self._chunk)
        padded = [[*family.ids[start:end], *[0] * (end - len(family.ids))] for family in families]
        ids = torch.tensor(padded, device=self._model.device)
        at = torch.arange(start, end, device=ids.device).expand(len(families), -1)
        self._prompts.reserve(len(families), longest, start)
        self._prompts.reading(len(families), start, end)
        self._bank.select([family.taken.request.model for family in families])
        lasts = sorted({min(len(family.ids), end) - 1 - start for family in families})
        logits = self._forward(ids, at, end, self._prompts, lasts)
        reading.done = end
        if end < longest:
            return []
        self._reading = None
        places = [lasts.index(len(family.ids) - 1 - start) for family in families]
        return [(family, logits[row, place]) for row, (family, place) in enumerate(zip(families, places, strict=True))]

    def join(self, families: list[Family]) -> None:
        """The rows of what was read that have not ended yet answer from now on; `families` are those that read() gave,
        in its order."""
        going = [(at, row) for at, family in enumerate(families) for row in family.rows if row.reason is None]
        if not going:
            return
        used = max((self._length(row) for row in self.rows), default=0)
        longest = max(len(row.taken.request.ids) for _, row in going)
        self._answers.reserve(len(self.rows) + len(going), max(used, longest) + 1, used)
        for at, row in going:
            length = len(row.taken.request.ids)
            self._answers.put(len(self.rows), self._prompts.look(at, length), length)
            self.rows.append(row)

    def step(self) -> Tensor:
        """Let each row read its last token. Returns the logits [rows, vocabulary] of the next."""
        at = [self._length(row) for row in self.rows]
        longest = max(at) + 1
        self._answers.reserve(len(at), longest, longest - 1)
        where = torch.tensor(at, device=self._model.device)
        ids = torch.tensor([[row.ids[-1]] for row in self.rows], device=self._model.device)
        self._answers.stepping(where, longest)
        self._bank.select([row.name for row in self.rows])
        if self._plan:
            where = where.unsqueeze(1)
            return self._plan(ids, where, self._masks.of(where, longest), self._answers)[:, 0]
        return self._forward(ids, where.unsqueeze(1), longest, self._answers, [0])[:, 0]

    def leave(self, row: Row, kept: KeptPrefixes | None) -> None:
        """The row goes; what it has read stays in `kept`, where that is given."""
        at, length = self.rows.index(row), self._length(row)
        if kept is not None:
            kept.keep(row.name, row.ids[:length], self._answers.take(at, length))
        last = self.rows.pop()
        if last is not row:
            self._answers.move(len(self.rows), at, self._length(last))
            self.rows[at] = last

    def clear(self) -> None:
        """Everything that is here is gone."""
        self.rows.clear()
        self._reading = None
        self._answers.release()
        self._prompts.release()

    @staticmethod
    def _length(row: Row) -> int:
        """How much of its ids the model has read: all but the last, which the next step reads. A row that has ended has
        taken one that never will be."""
        return len(row.ids) - 1

    def _forward(self, ids: Tensor, at: Tensor, length: int, slots: Slots, places: list[int]) -> Tensor:
        """Logits [rows, places, vocabulary] after the tokens at these places of `ids` [rows, tokens]."""
        some = {"logits_to_keep": torch.tensor(places, device=ids.device)} if self._keeps_some else {}
        logits = self._model(
            input_ids=ids,
            attention_mask=self._masks.of(at, length),
            position_ids=at,
            past_key_values=slots.cache,
            use_cache=True,
            **some,
        ).logits
        return cast(Tensor, logits if some else logits[:, places])
