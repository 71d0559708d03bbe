"""The picture of an evaluation: each system's numbers with their 95% intervals, one panel for each metric."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.text import shortened
from llm_installer.evals.metrics import METRICS
from llm_installer.evals.result import EvalResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = ("loss", "exact", "f1", "rougeL", "acc", "acc_norm")
MOST = 3
"""Panels."""
INK, QUIET, FAINT, BASE, TUNED = "#2B2B2B", "#7A7A7A", "#EFEFEF", "#7A7A7A", "#3B75AF"
WIDTH, ROW, DPI = 9.0, 0.34, 160


def draw(found: EvalResult, file: Path) -> bool:
    """Draw to a temporary file, then rename. False, and nothing is drawn, where there is nothing to draw or matplotlib
    cannot be imported."""
    names = [name for name in SHOWN if name in found.metrics][:MOST]
    if not names:
        return False
    try:
        from matplotlib.figure import Figure
    except (ImportError, AttributeError, ValueError):
        return False
    height = 1.5 + ROW * len(found.columns)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    left, width = 0.24, 0.72 / len(names)
    for number, name in enumerate(names):
        axes = figure.add_axes((left + number * width, 0.62 / height, width * 0.84, 1 - 1.42 / height))
        _panel(axes, found, name, first=number == 0)
    title = f"{found.model}: {found.rows:,} rows"
    figure.text(0.02, 1 - 0.2 / height, title, size=12, weight="bold", color=INK, va="top", parse_math=False)
    said = "lines: 95% intervals" + ("; less loss is better" if "loss" in names else "")
    figure.text(0.98, 1 - 0.24 / height, said, size=8, color=QUIET, va="top", ha="right")
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure.savefig(temporary, format="png")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _panel(axes: Axes, found: EvalResult, name: str, first: bool) -> None:
    metric = METRICS[name]
    for row, one in enumerate(found.columns):
        if name not in one.scores:
            continue
        colour = TUNED if one.adapter else BASE
        if interval := one.intervals.get(name):
            ends = [interval.low * metric.scale, interval.high * metric.scale]
            axes.plot(ends, [row, row], color=colour, linewidth=2, alpha=0.45, solid_capstyle="round", clip_on=False)
        axes.plot([one.scores[name] * metric.scale], [row], marker="o", markersize=6, color=colour, clip_on=False)
    axes.set_xlim(*limits(*axes.get_xlim(), share=metric.scale == 100.0))
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylim(len(found.columns) - 0.5, -0.5)
    labels = [shortened(one.name, 30) for one in found.columns] if first else []
    axes.set_yticks(range(len(found.columns)), labels or [""] * len(found.columns))
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.tick_params(length=0, labelsize=8, colors=QUIET)
    axes.grid(axis="x", color=FAINT)
    axes.set_axisbelow(True)
    axes.set_title(metric.title, size=9, color=INK, loc="left")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def limits(low: float, high: float, share: bool) -> tuple[float, float]:
    """The ends of an axis: shares lie between 0 and 100, and where all are the same they have some room beside them."""
    if not share:
        return low, high
    room = 5.0 if high - low < 1.0 else 0.0
    return max(low - room, 0.0), min(high + room, 100.0)
