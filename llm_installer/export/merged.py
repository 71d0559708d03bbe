"""A tensor with what an adapter does to it, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from llm_installer.export.changes import Change
from llm_installer.export.shards import Source, spans


@dataclass(frozen=True)
class Merged:
    """A tensor of a file, and what is done to it, one after the other."""

    source: Source
    changes: tuple[Change, ...] = ()

    def parts(self) -> Iterator[Tensor]:
        """All of its rows, a few at a time."""
        steps = spans(self.source.count, self.source.header.shape)
        ready: list[Change] = []
        for change in self.changes:
            ready.append(change.prepared(partial(self._rows, tuple(ready)), steps))
        for start, stop in steps:
            yield self._rows(ready, start, stop)

    def whole(self) -> Tensor:
        """All of them at once."""
        found = torch.empty(self.source.header.shape)
        start = 0
        for part in self.parts():
            found[start : start + len(part)] = part
            start += len(part)
        return found

    def _rows(self, changes: Sequence[Change], start: int, stop: int) -> Tensor:
        rows = self.source.floats(start, stop)
        for change in changes:
            rows = change.rows(start, stop, rows)
        return rows
