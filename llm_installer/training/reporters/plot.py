"""The plot of a run: training_history.png, drawn once at its end."""

from __future__ import annotations

import math
import os
import textwrap
import warnings
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.core.text import counted, loss_text
from llm_installer.training.reporters.plot_changes import mark_changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES, DPI = (9.0, 5.0), 160
TRAIN, VALIDATION = "#3B75AF", "#D1602E"
INK, QUIET, FAINT, STEPS, GRID = "#2B2B2B", "#7A7A7A", "#A8A8A8", "#DADADA", "#EFEFEF"
EACH_STEP = "train, each step"
"""What the grey line is."""
MARKERS_UP_TO = 30
"""More evaluations than this read better as a bare line."""
WIDTHS = {"train": 2.4, "validation": 1.6}
"""The wider one is drawn first, and stays visible where both lie together."""
STEPS_DRAWN = 4000
SUBTITLE = 105
"""Characters that fit into the width."""
LABEL_GAP = 0.042
"""Between two labels in the margin, as a fraction of the axes' height."""
_UNUSABLE = (ImportError, AttributeError, ValueError, RuntimeError, SyntaxError)
"""What an import raises where something of a package is missing, was built for another numpy, or is damaged."""


@dataclass(frozen=True)
class StepCurve:
    """The loss of every step, in 24 bytes each."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    epochs: array[float] = field(default_factory=lambda: array("d"))
    losses: array[float] = field(default_factory=lambda: array("d"))


class PlotReporter:
    """Remembers the loss of every step and draws at the end."""

    def __init__(self, header: RunHeader) -> None:
        self._header = header
        self._curve = StepCurve()

    def on_start(self, header: RunHeader) -> None:
        """Nothing to draw yet."""

    def on_step(self, report: StepReport) -> None:
        """Remember it."""
        self._curve.steps.append(report.step)
        self._curve.epochs.append(report.epoch)
        self._curve.losses.append(report.loss)

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """The state keeps them."""

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Draw to a temporary file, then rename: a reader always finds a complete picture."""
        if not state.history:
            return
        path = self._header.run.history_png
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        _check_matplotlib()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script the font lacks
                history_figure(self._header, state, result, self._curve).savefig(temporary, format="png")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def on_note(self, text: str) -> None:
        """The plot has no room for notes."""


def _check_matplotlib() -> None:
    """Raise OSError, which turns this reporter off, where matplotlib cannot be imported: no run ends for that."""
    try:
        import matplotlib.figure  # noqa: F401
    except _UNUSABLE as error:
        raise OSError(f"matplotlib cannot be imported ({error})") from None


def history_figure(header: RunHeader, state: RunState, result: Result | None, single: StepCurve) -> Figure:
    """Training and validation loss with the best evaluation, the base model's loss, and each step's loss behind."""
    from matplotlib.figure import Figure

    history = state.history
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.07, 0.15, 0.755, 0.67))
    thin = max(1, math.ceil(len(single.steps) / STEPS_DRAWN))
    axes.plot(single.steps[::thin], single.losses[::thin], color=STEPS, linewidth=0.9, label="steps", zorder=1)
    curves = [("train", TRAIN, [past.train_loss for past in history])]
    if header.validation_rows:
        validation = [math.nan if past.validation_loss is None else past.validation_loss for past in history]
        curves.append(("validation", VALIDATION, validation))
    marker = "o" if len(history) <= MARKERS_UP_TO else ""
    at = [past.step for past in history]
    for name, color, values in curves:
        width = WIDTHS[name]
        (line,) = axes.plot(at, values, color=color, linewidth=width, label=name, zorder=3, clip_on=False)
        line.set(marker=marker, markersize=3.5)
    labels = [(value, f"{name} {loss_text(value)}", color) for name, color, values in curves for value in values[-1:]]
    if state.base_loss is not None and math.isfinite(state.base_loss):
        axes.axhline(state.base_loss, color=QUIET, linewidth=1.1, linestyle=(0, (1, 2.5)), label="base", zorder=2)
        labels.append((state.base_loss, f"base model {loss_text(state.base_loss)}", QUIET))
    axes.set_xlim(0, max([1, *at, *single.steps[-1:]]))
    axes.set_ylim(*_limits([value for _, _, values in curves for value in values], single.losses))
    labels += [(min(max(loss, axes.get_ylim()[0]), axes.get_ylim()[1]), EACH_STEP, FAINT) for loss in _last(single)]
    _label_margin(axes, labels)
    mark_changes(axes, state.adjustments)
    _mark_best(axes, state, *curves[0 if state.memorising else -1][1:])
    _draw_frame(axes)
    _draw_epochs(axes, history, single)
    figure.text(0.07, 0.965, header.model, size=13, weight="bold", color=INK, va="top", parse_math=False)
    figure.text(0.825, 0.96, f"run {header.run.id}", size=9, color=QUIET, va="top", ha="right", parse_math=False)
    figure.text(0.07, 0.905, _subtitle(header, state, result), size=9, color=QUIET, va="top", parse_math=False)
    return figure


def _subtitle(header: RunHeader, state: RunState, result: Result | None) -> str:
    reason = (result.stop_reason if result else state.stop_reason).partition(";")[0]
    ended = f"ended: {reason}" if reason else "" if result else f"ended early, at step {state.step:,}"
    parts = [f"{header.method}, {header.mode}", counted(header.rows, "training row"), ended]
    whole = " | ".join(part for part in parts if part)
    return "\n".join(textwrap.wrap(whole, SUBTITLE, max_lines=2, placeholder=" ..."))


def _last(single: StepCurve) -> list[float]:
    """The last loss of a step that is a number, if there is one."""
    return [loss for loss in single.losses if math.isfinite(loss)][-1:]


def _limits(evaluated: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """Low and high end of the axis: all evaluations, and the steps except for rare spikes."""
    noise = sorted(loss for loss in losses if math.isfinite(loss))
    rare = math.ceil(len(noise) / 50)
    usual = noise[rare : len(noise) - rare]
    values = [value for value in evaluated if math.isfinite(value)] + usual[:1] + usual[-1:]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.07 * (high - low) or max(0.05 * abs(high), 0.01)
    return low - room, high + room


def _label_margin(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Name each line at its end, pushed apart where the ends are close."""
    low, high = axes.get_ylim()
    shown = sorted(((value - low) / (high - low), text, color) for value, text, color in labels if math.isfinite(value))
    heights = [height for height, _, _ in shown]
    for _ in range(20 * len(heights)):  # each round halves the overlap
        for i in range(len(heights) - 1):
            overlap = LABEL_GAP - (heights[i + 1] - heights[i])
            if overlap > 0:
                heights[i] -= overlap / 2
                heights[i + 1] += overlap / 2
    for height, (_, text, color) in zip(heights, shown, strict=True):
        axes.text(1.018, height, text, color=color, size=9, va="center", transform=axes.transAxes)


def _mark_best(axes: Axes, state: RunState, color: str, curve: Sequence[float]) -> None:
    """A ring at the best evaluation, with its label above the part of the curve that the label spans."""
    from matplotlib.patheffects import withStroke

    if state.best_loss is None or not math.isfinite(state.best_loss):
        return
    low, high = axes.get_ylim()
    width = axes.get_xlim()[1]
    part = state.best_step / width
    side = "left" if part < 0.15 else "right" if part > 0.85 else "center"
    left, right = {"left": (0.0, 0.27), "center": (0.135, 0.135), "right": (0.27, 0.0)}[side]
    spanned = [
        loss
        for past, loss in zip(state.history, curve, strict=True)
        if math.isfinite(loss) and part - left <= past.step / width <= part + right
    ]
    top = min(max([state.best_loss, *spanned]), state.best_loss + 0.12 * (high - low))
    (ring,) = axes.plot([state.best_step], [state.best_loss], "o", color="white", label="best", zorder=4, clip_on=False)
    ring.set(markersize=8, markeredgecolor=color, markeredgewidth=1.8)
    word = "best" if state.improved else "lowest"  # the base's loss is lower still
    axes.annotate(
        f"{word} {loss_text(state.best_loss)} at step {state.best_step:,}",
        (state.best_step, top),
        xytext=(0, 11),
        textcoords="offset points",
        size=9,
        weight="bold",
        color=color,
        horizontalalignment=side,
        path_effects=[withStroke(linewidth=3, foreground="white")],
        zorder=5,
    )


def _draw_frame(axes: Axes) -> None:
    """A quiet frame: horizontal lines only, optimizer steps below."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(STEPS)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.tick_params(axis="both", length=0, labelsize=9, colors=QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.text(-0.022, -0.046, "step", color=QUIET, size=9, ha="right", transform=axes.transAxes)
    axes.text(-0.055, 1.03, "loss (nats per token)", color=QUIET, size=9, transform=axes.transAxes)


def _draw_epochs(axes: Axes, history: Sequence[Evaluation], single: StepCurve) -> None:
    """Round numbers of epochs under the steps at which they end: not evenly where the batch size grows during a run."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    known = sorted({(past.step, past.epoch) for past in history} | {*zip(single.steps, single.epochs, strict=True)})
    steps, epochs = zip(*known, strict=True)
    ticks = [tick for tick in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(0, epochs[-1]) if 0 <= tick <= epochs[-1]]
    below = axes.secondary_xaxis(-0.055)
    below.spines["bottom"].set_visible(False)
    below.tick_params(length=0, labelsize=8, colors=FAINT)
    below.set_xticks([float(np.interp(tick, epochs, steps)) for tick in ticks], [f"{tick:,.6g}" for tick in ticks])
    axes.text(-0.022, -0.094, "epoch", color=FAINT, size=8, ha="right", transform=axes.transAxes)
