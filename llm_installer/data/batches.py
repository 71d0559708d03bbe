"""Which rows go together: steps of so many rows, each split into micro-batches of so many tokens, padded or packed."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llm_installer.core.arrays import Indices, NamedArrays
from llm_installer.data.encoding.row import Row

Inputs: TypeAlias = "Callable[[npt.NDArray[np.int64], Sequence[Sequence[str]]], NamedArrays]"
"""From padded ids [rows, length] and the images of each row to the other inputs of the model (Encoder.inputs)."""

_WINDOW_STEPS = 8
"""Steps whose rows are sorted by length together: enough to save padding, few enough to stay random."""


ALIKE = 0.03
"""Padding, as a share, up to which rows that could be packed stay rows on a GPU: attention over complete rows is the
faster one there (17.3k against 16.0k tokens/s, 8 billion parameters, 4096 tokens at once)."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch, right-padded. Padding needs no mask: in a causal model no real token looks right at it."""

    ids: npt.NDArray[np.int64]
    """Shape [rows, length]."""
    positions: npt.NDArray[np.int64]
    """Flat indices into rows x length: the position before each supervised token, whose output is compared with it."""
    targets: npt.NDArray[np.int64]
    """The supervised token that follows each position; same shape as `positions`."""
    tokens: int
    """Tokens without the padding."""
    extra: NamedArrays = field(default_factory=dict)
    """Other inputs of the model, by name: pixels and the like, where it sees images."""
    documents: tuple[int, ...] = ()
    """Lengths of the rows in a packed sequence, one after the other; empty where rows are padded."""


def epoch_steps(
    lengths: Indices,
    rows_per_step: int,
    seed: int,
    epoch: int,
    *,
    rows: Indices | None = None,
    order: str = "random",
) -> list[Indices]:
    """The steps of one epoch: arrays of row indices, every row exactly once, the last step possibly short.

    The order depends on seed and epoch alone; `order` is a name of planning.modes.ORDERS. `rows` are the rows to go
    through, where that is not each once.
    """
    random = np.random.default_rng((seed, epoch))
    shuffled = random.permutation(len(lengths) if rows is None else len(rows))
    shuffled = shuffled if rows is None else rows[shuffled]
    return _ORDERS[order][min(epoch, 1)](lengths, shuffled, rows_per_step, random)


def _windows(lengths: Indices, rows: Indices, rows_per_step: int, random: np.random.Generator) -> list[Indices]:
    """Rows of similar length share a step where that costs no randomness beyond a window of a few steps."""
    window = rows_per_step * _WINDOW_STEPS
    steps: list[Indices] = []
    for start in range(0, len(rows), window):
        steps += _rising(lengths, rows[start : start + window], rows_per_step, random)
    return [steps[i] for i in random.permutation(len(steps))]


def _rising(lengths: Indices, rows: Indices, rows_per_step: int, random: np.random.Generator) -> list[Indices]:
    """Short rows first."""
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    return [rows[i : i + rows_per_step] for i in range(0, len(rows), rows_per_step)]


def _shuffled(lengths: Indices, rows: Indices, rows_per_step: int, random: np.random.Generator) -> list[Indices]:
    """Rows at random, whatever their length: steps then have about one size."""
    return [rows[i : i + rows_per_step] for i in range(0, len(rows), rows_per_step)]


def _as_given(lengths: Indices, rows: Indices, rows_per_step: int, random: np.random.Generator) -> list[Indices]:
    """As the rows stand in the data."""
    rows = np.sort(rows)
    return [rows[i : i + rows_per_step] for i in range(0, len(rows), rows_per_step)]


_ORDERS = {
    "random": (_windows, _windows),
    "shuffled": (_shuffled, _shuffled),
    "short-first": (_rising, _windows),
    "given": (_as_given, _windows),
}
"""How steps are made in the first epoch, and in later ones."""


def micro_batches(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tokens: int, most_rows: int
) -> list[npt.NDArray[np.int64]]:
    """Split the rows of a step so that each part, padded to its longest row, holds at most `tokens` tokens and
    `most_rows` rows; a longer row is alone."""
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    parts: list[npt.NDArray[np.int64]] = []
    start = 0
    while start < len(ordered):
        fit = max(1, min(most_rows, tokens // max(1, int(lengths[ordered[start]]))))
        parts.append(ordered[start : start + fit])
        start += fit
    return parts


def alike(lengths: npt.NDArray[np.int64], parts: Sequence[npt.NDArray[np.int64]]) -> bool:
    """Whether rows in these parts have so nearly one length that to pad them costs nothing."""
    padded = sum(int(lengths[part].max()) * len(part) for part in parts)
    return (1 - ALIKE) * padded <= sum(int(lengths[part].sum()) for part in parts)


def collate(rows: Sequence[Row], pad: int, inputs: Inputs | None = None) -> Batch:
    """Right-pad rows to the longest. Lengths and masks say what is supervised, not token ids: `pad` may be eos.

    `inputs` makes what the model needs beside the ids.
    """
    longest = max(len(r.ids) for r in rows)
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    supervised = np.zeros((len(rows), longest), dtype=np.bool_)
    for i, row in enumerate(rows):
        n = len(row.ids)
        ids[i, :n] = row.ids
        supervised[i, : n - 1] = row.supervised[1:]
    positions = np.flatnonzero(supervised)
    extra = inputs(ids, [r.images for r in rows]) if inputs else {}
    return Batch(ids, positions, ids.reshape(-1)[positions + 1], sum(len(r.ids) for r in rows), extra)


def pack(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tokens: int, most_rows: int
) -> list[npt.NDArray[np.int64]]:
    """Which of `rows` are packed together: best fit, longest first, at most `tokens` tokens and `most_rows` rows each.

    No row is truncated: one longer than `tokens` is alone. The same rows give the same parts.
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
    """Rows packed into one sequence: positions start again at 0 in each, and none predicts the first token of the next.

    Nothing is computed for padding. The ids have shape [1, tokens].
    """
    ids = np.concatenate([np.asarray(row.ids, dtype=np.int64) for row in rows])
    supervised = np.zeros(len(ids), dtype=np.bool_)
    lengths = tuple(len(row.ids) for row in rows)
    start = 0
    for row, length in zip(rows, lengths, strict=True):
        supervised[start : start + length - 1] = row.supervised[1:]
        start += length
    positions = np.flatnonzero(supervised)
    places = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
    extra = {"position_ids": places[np.newaxis]}
    return Batch(ids[np.newaxis], positions, ids[positions + 1], len(ids), extra, lengths)


def sample(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """At most `count` rows, chosen at random by `seed`, in their order."""
    if len(rows) <= count:
        return list(rows)
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), size=count, replace=False))
    return [rows[i] for i in chosen]
