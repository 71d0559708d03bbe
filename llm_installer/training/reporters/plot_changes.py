"""The changes that mode adaptive made in a run, as the plot marks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_installer.core.state import Adjustment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANGE = "#6B4C9A"


def mark_changes(axes: Axes, changes: Sequence[Adjustment]) -> None:
    """A line where a controller changed something, and what it changed."""
    from matplotlib.patheffects import withStroke

    for number, change in enumerate(changes):
        batch = changes[number - 1].batch_scale if number else 1
        axes.axvline(change.step, color=CHANGE, linewidth=0.9, linestyle=(0, (4, 3)), label="change", zorder=2)
        axes.annotate(
            _change(change, batch),
            (change.step, 0.985),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 0),
            textcoords="offset points",
            size=7.5,
            color=CHANGE,
            rotation=90,
            ha="right",
            va="top",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=5,
        )


def _change(change: Adjustment, batch: int) -> str:
    """What a controller changed, in a few words; `batch` was the multiple of the batch before."""
    parts = [f"learning rate x {change.rate_scale:.3g}"]
    parts += [f"batch x {change.batch_scale}"] if change.batch_scale != batch else []
    return ", ".join([*parts, *(["back to the best"] if change.restore_best else [])])
