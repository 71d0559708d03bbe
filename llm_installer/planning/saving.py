"""When a run is saved and which checkpoints stay."""

from __future__ import annotations

SAVE_SECONDS = 30.0
"""A kill loses at most this much work, besides the time of one step."""
SAVE_COST = 0.05
"""A checkpoint is written at each evaluation, too, where that takes at most this share of the time."""
KEPT = 2
"""Newest checkpoints that stay, besides the best: if one is damaged, there is another."""
KEEPS = f"the newest {KEPT} and the best are kept; written every {SAVE_SECONDS:.0f} s, more often where that is quick"
