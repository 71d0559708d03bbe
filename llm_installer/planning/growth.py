"""How the batch grows from cycle to cycle, as pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable

DEFAULT_GROWTH = 1.0
"""The multiplier that means: double from cycle to cycle up to GROWN, then stay."""
GROWN = 16
STEPS = 4
"""Steps that a cycle keeps at least: a small set would hardly be learned in one or two of them."""


def cycle_batch(first: int, multiplier: float, cycle: int, most: int) -> int:
    """Rows per step in the 0-based `cycle`, at most `most` (all rows of the data).

    Below 2 the multiplier is added for each cycle, from 2 on the batch is multiplied by it; 1 doubles up to what
    `grown` says and stays. A growing batch at a constant learning rate anneals as a falling rate does (Smith et al.,
    2018, arXiv 1711.00489).
    """
    if multiplier == DEFAULT_GROWTH:
        wished: float = max(first, min(grown(most), first * 2 ** min(cycle, 10)))
    elif multiplier < 2:
        wished = first + multiplier * cycle
    else:
        wished = first * min(multiplier ** min(cycle, 64), 1e9)
    return max(1, min(most, math.floor(wished + 0.5)))  # a half goes up; round() would take the even


def grown(rows: int) -> int:
    """Rows per step up to which a batch doubles, where a cycle has so many rows."""
    return min(GROWN, max(1, rows // STEPS))


def steps_of_cycles(rows: int, cycles: float, batch_of: Callable[[int], int]) -> int:
    """Steps of all cycles together; 0 when there is no end. `batch_of` gives the batch size of a 0-based cycle."""
    if math.isinf(cycles):
        return 0
    last = batch_of(int(cycles))
    whole = cycle = 0
    while cycle < int(cycles) and (batch := batch_of(cycle)) != last:  # a batch that has stopped growing stays
        whole, cycle = whole + math.ceil(rows / batch), cycle + 1
    whole += (int(cycles) - cycle) * math.ceil(rows / last)
    return max(1, math.ceil(whole + (cycles - int(cycles)) * math.ceil(rows / last)))
