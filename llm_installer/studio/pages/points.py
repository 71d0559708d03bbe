"""The numbers of a run as curves, and how the plans of several differ: from the files of their folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from llm_installer.core.paths import Run
from llm_installer.core.text import shortened
from llm_installer.studio.foresight import number
from llm_installer.studio.plain import Json

MOST_POINTS = 2000
"""Of a curve."""


def lines_of(file: Path) -> Iterable[Json]:
    """The objects of a file of JSON lines; the last one may be half written."""
    with suppress(OSError), file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, RecursionError):
                if isinstance(found := json.loads(line), dict):
                    yield found


def plan_values(run: Run) -> Json:
    with suppress(OSError, ValueError):
        found = json.loads(run.plan.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            course = found.get("course")
            return found | (course if isinstance(course, dict) else {})
    return {}


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Values of their plans that are not the same for all."""
    plans = [plan_values(run) for run in runs]
    names = list(dict.fromkeys(name for plan in plans for name in plan))
    left_out = ("why", "course", "limits", "predicted_peak_bytes", "adapted", "cut")
    found = []
    for name in names:
        values = [plan.get(name) for plan in plans]
        if name not in left_out and any(value != values[0] for value in values):
            found.append((name.replace("_", " "), [shortened(_typed(value), 60) for value in values]))
    return found


def _typed(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)


def points_of(lines: Iterable[Json]) -> list[Json]:
    """The points of a curve: one a step, the later of two, at most MOST_POINTS of those that only train."""
    found: dict[int, Json] = {}
    for line in lines:
        step = int(number(line.get("step")))
        names = ("loss", "train_loss", "validation_loss", "learning_rate", "tokens_per_second")
        values = {name: line[name] for name in names if number(line.get(name)) or line.get(name) == 0}
        if line.get("kind") == "evaluation":  # its speed is that of evaluating
            values.pop("tokens_per_second", None)
        found[step] = {**found.get(step, {}), **values, "step": step}
    ordered = [found[step] for step in sorted(found)]
    return ordered if len(ordered) <= MOST_POINTS else thinned(ordered)


def thinned(points: list[Json]) -> list[Json]:
    """The least and the greatest loss of each bucket, and every evaluation."""
    count = -(-2 * len(points) // MOST_POINTS)
    kept: dict[int, Json] = {}
    for start in range(0, len(points), count):
        bucket = points[start : start + count]
        ends = (
            min(bucket, key=lambda one: number(one.get("loss"))),
            max(bucket, key=lambda one: number(one.get("loss"))),
        )
        for one in (*ends, *(one for one in bucket if "validation_loss" in one)):
            kept[int(number(one["step"]))] = one
    return [kept[step] for step in sorted(kept)]


def metrics(run: Run) -> list[Json]:
    """The points of a run's own file."""
    return points_of(lines_of(run.metrics))
