"""Duplicates, leaks, training and validation: which rows go where, decided by hashes alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_installer.core.arrays import Indices, Keys
from llm_installer.core.errors import UsageError
from llm_installer.core.text import counted


@dataclass(frozen=True)
class Split:
    """Which rows go where. Indices keep the order of the data; a given validation file has its own indices."""

    train: Indices
    validation: Indices
    duplicates: int
    """Rows that are skipped because an identical one comes before them."""
    overlap: int
    """Rows of a given validation file that are skipped because their prompt is trained on."""
    reason: str
    """Why validation is what it is, in words."""


def split(
    prompt_keys: Keys,
    row_keys: Keys,
    *,
    validation_split: float,
    seed: int,
    max_examples: int | None,
    given_validation_keys: Keys | None = None,
) -> Split:
    """Choose the rows for training and for validation; all rows with one prompt stay on one side.

    `prompt_keys` and `row_keys` have shape [rows]. Raises UsageError for a share outside 0 to 1 or a `max_examples`
    below 1.
    """
    if not 0 <= validation_split < 1:
        raise UsageError(
            f"--validation-split {validation_split:g} is not a share of the rows; "
            "give 0 for none, or a number below 1, such as 0.1"
        )
    if max_examples is not None and max_examples < 1:
        raise UsageError(f"--max-examples {max_examples} leaves nothing to train on; give 1 or more")
    rows = np.sort(np.unique(row_keys, return_index=True)[1])
    duplicates = len(row_keys) - len(rows)
    if max_examples is not None and max_examples < len(rows):
        rows = np.sort(rows[_shuffled(row_keys[rows], seed)[:max_examples]])
    if given_validation_keys is not None:
        leaks = np.isin(given_validation_keys, prompt_keys[rows])
        overlap = int(leaks.sum())
        return Split(rows, np.flatnonzero(~leaks), duplicates, overlap, _given_reason(len(leaks), overlap))
    chosen, reason = _validation(prompt_keys[rows], validation_split, seed)
    return Split(rows[~chosen], rows[chosen], duplicates, 0, reason)


def _given_reason(rows: int, overlap: int) -> str:
    if overlap == rows:
        return f"no validation: every prompt of the {counted(rows, 'given validation row')} is also trained on"
    used = counted(rows - overlap, "given validation row")
    return f"{used}, without {overlap:,} whose prompt is also trained on" if overlap else used


def _validation(keys: Keys, share: float, seed: int) -> tuple[npt.NDArray[np.bool_], str]:
    """A mask of the rows for validation, shape [rows], and why they are these."""
    rows = len(keys)
    nothing = np.zeros(rows, dtype=np.bool_)
    if share == 0:
        return nothing, "no validation: --validation-split is 0"
    if rows < 2:
        return nothing, f"no validation: {counted(rows, 'row')} cannot be split into training and validation"
    prompts, group_of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    if len(prompts) == 1:
        return nothing, f"no validation: all {rows:,} rows have the same prompt, so none would be new to the model"
    order = _shuffled(prompts, seed)
    # At most half of the prompts, unless more was asked for: many rows of one prompt must not crowd out all others.
    most = max(1, len(prompts) // 2, int(share * len(prompts)))
    chosen = np.zeros(len(prompts), dtype=np.bool_)
    chosen[order] = _choose(counts[order], max(1, round(share * rows)), most)
    rows_chosen = chosen[group_of]
    number = int(rows_chosen.sum())
    reason = f"{number:,} of {counted(rows, 'row')} ({number / rows:.1%})"
    if abs(number - share * rows) >= 1:
        reason += f", though {share:.1%} was asked for: rows with the same prompt stay together"
    return rows_chosen, reason


def _shuffled(keys: Keys, seed: int) -> Indices:
    """The order of `keys` by a seeded hash (splitmix64): the same keys get the same order wherever they are."""
    mixed = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")


def _choose(sizes: npt.NDArray[np.int64], target: int, most: int) -> npt.NDArray[np.bool_]:
    """Groups whose sizes add up to `target` as closely as possible: at least one, at most `most`, early ones first."""
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    missing, room = target, most
    while missing and room:
        fitting = np.flatnonzero(~chosen & (sizes <= missing))[:room]
        if not len(fitting):
            break
        ends = np.cumsum(sizes[fitting])
        taken = int(np.searchsorted(ends, missing, side="right"))
        chosen[fitting[:taken]] = True
        missing, room = missing - int(ends[taken - 1]), room - taken
    if not chosen.any():
        chosen[np.argmin(sizes)] = True
    elif missing:
        better = _closest_sum(sizes, target, missing)
        if better is not None and better.sum() <= most:
            return better
    return chosen


def _closest_sum(sizes: npt.NDArray[np.int64], target: int, missing: int) -> npt.NDArray[np.bool_] | None:
    """Groups that add up to less than `missing` away from `target`, the closest there are; None if there are none.

    A knapsack over sums, with equal sizes taken in doubling bundles so that a million groups are a few steps.
    """
    values, counts = np.unique(sizes, return_counts=True)
    bundles: list[tuple[int, int]] = []
    for value, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        bundle = 1
        while count:
            bundles.append((value, min(bundle, count)))
            count -= bundles[-1][1]
            bundle *= 2
    last = np.full(target + missing, -1, dtype=np.int64)
    last[0] = len(bundles)
    for index, (value, number) in enumerate(bundles):
        weight = value * number
        if weight < len(last):
            added = (last[: len(last) - weight] >= 0) & (last[weight:] < 0)
            last[weight:][added] = index
    reached = np.flatnonzero(last >= 0)
    total = int(reached[np.argmin(np.abs(reached - target))])
    if abs(total - target) >= missing:
        return None
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    while total:
        value, number = bundles[int(last[total])]
        chosen[np.flatnonzero((sizes == value) & ~chosen)[:number]] = True
        total -= value * number
    return chosen
