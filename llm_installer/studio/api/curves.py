"""Curves with few enough points to draw: of each stretch the lowest and the highest stay, so that no peak is lost."""

from __future__ import annotations

from collections.abc import Sequence

from llm_installer.studio.plain import Json

MOST = 2000
"""Points of a curve."""


def thinned(metrics: Sequence[Json], most: int = MOST) -> list[Json]:
    """Lines of metrics.jsonl: all evaluations, and at most `most` steps."""
    steps = [one for one in metrics if one.get("kind") == "step"]
    if len(steps) <= most:
        return list(metrics)
    width = -(-len(steps) * 2 // most)
    kept = {id(steps[0]), id(steps[-1])}
    for start in range(0, len(steps), width):
        stretch = sorted(steps[start : start + width], key=_loss)
        kept |= {id(stretch[0]), id(stretch[-1])}
    return [one for one in metrics if one.get("kind") != "step" or id(one) in kept]


def _loss(one: Json) -> float:
    loss = one.get("loss")
    return float(loss) if isinstance(loss, (int, float)) else 0.0
