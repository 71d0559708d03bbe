"""Packing: whole documents one after the other in one row, so that nothing is computed for padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llm_installer.data.batches import Batch
from llm_installer.data.encoding.encode import Row


def pack(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tokens: int, most_rows: int
) -> list[npt.NDArray[np.int64]]:
    """Which of `rows` lie together: best fit, longest first, at most `tokens` tokens and `most_rows` rows each.

    No row is cut: one longer than `tokens` lies alone. The same rows give the same parts.
    """
    parts: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, part), the fullest first
    for row in rows[np.argsort(-lengths[rows], kind="stable")]:
        length = int(lengths[row])
        place = bisect_left(room, (length, -1))
        if place < len(room):
            left, part = room.pop(place)
        else:
            left, part = tokens, len(parts)
            parts.append([])
        parts[part].append(int(row))
        if len(parts[part]) < most_rows and left > length:
            insort(room, (left - length, part))
    return [np.array(part, dtype=np.int64) for part in parts]


def collate_packed(rows: Sequence[Row]) -> Batch:
    """Rows as one row without padding: positions begin anew with each, and none is scored on another's first token."""
    ids = np.concatenate([np.asarray(row.ids, dtype=np.int64) for row in rows])
    scored = np.zeros(len(ids), dtype=np.bool_)
    lengths = tuple(len(row.ids) for row in rows)
    start = 0
    for row, length in zip(rows, lengths, strict=True):
        scored[start : start + length - 1] = row.learned[1:]
        start += length
    positions = np.flatnonzero(scored)
    places = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
    extra = {"position_ids": places[np.newaxis]}
    return Batch(ids[np.newaxis], positions, ids[positions + 1], len(ids), extra, lengths)
