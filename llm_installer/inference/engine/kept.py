"""Keys and values of earlier conversations, so that a chat that goes on is not read again from its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_installer.inference.engine.slots import Kept, size_of

LEAST = 8
"""Fewer tokens are read again sooner than they are looked up."""


@dataclass(frozen=True)
class _Entry:
    name: str
    ids: npt.NDArray[np.int64]
    held: Kept
    bytes: int


class KeptPrefixes:
    """The last conversations of each model, the least recently used first to go."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: list[_Entry] = []
        """The most recently used last."""

    @property
    def bytes(self) -> int:
        """What they take."""
        return sum(entry.bytes for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, name: str, ids: Sequence[int], held: Kept) -> None:
        """Remember what model `name` computed for `ids`; what they continue is not needed any more."""
        new = _Entry(name, np.array(ids), held, size_of(held))
        self._entries = [old for old in self._entries if old.name != name or _common(old.ids, new.ids) < len(old.ids)]
        self._entries.append(new)
        self.shrink(self._most)

    def find(self, name: str, ids: Sequence[int]) -> tuple[int, Kept]:
        """(how many of the first ids are known, what was computed for at least those); 0 where it is not worth it. The
        last id is never known, since what follows it is asked for."""
        wanted = np.array(ids[:-1])
        mine = [(_common(entry.ids, wanted), at) for at, entry in enumerate(self._entries) if entry.name == name]
        count, at = max(mine, default=(0, 0))
        if count < LEAST:
            return 0, []
        entry = self._entries.pop(at)
        self._entries.append(entry)
        return count, entry.held

    def shrink(self, most: int) -> None:
        """Keep no more than `most`."""
        del self._entries[: max(0, len(self._entries) - most)]

    def forget(self, name: str) -> None:
        """Model `name` is not what it was."""
        self._entries = [entry for entry in self._entries if entry.name != name]


def _common(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> int:
    """How many of the first ids are equal."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length
