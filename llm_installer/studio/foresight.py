"""What was predicted of trainings on this machine beside what happened, and what that says about the next one."""

from __future__ import annotations

from statistics import median, quantiles

from llm_installer.core.text import duration, size, span
from llm_installer.studio.context import Studio
from llm_installer.studio.insight import Values
from llm_installer.studio.states import COMPLETED
from llm_installer.studio.store import jobs
from llm_installer.studio.store.jobs import Wanted

ENOUGH = 3
"""Trainings from which on their history corrects a prediction."""
LOOKED_AT = 50
WIDEST = 4.0
"""Most that a prediction is corrected by."""


def predicted(plan: Values, time: Values | None) -> Values:
    """What a job keeps of a plan: numbers that can be compared with what happened."""
    memory, adapter = plan.get("memory"), plan.get("adapter")
    found: Values = {}
    if isinstance(memory, dict):
        found["peak_bytes"] = memory["predicted_bytes"]
    if isinstance(adapter, dict):
        found["adapter_bytes"] = adapter["bytes"]
    if time:
        found |= {name: time[name] for name in ("seconds", "least_seconds", "most_seconds", "words") if name in time}
    return found


def corrected(studio: Studio, time: Values) -> Values:
    """A prediction of time, widened or moved by what the last trainings of this machine took."""
    ratios = _ratios(studio)
    seconds = number(time.get("seconds"))
    if len(ratios) < ENOUGH or not seconds or time.get("endless"):
        return time
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    middle = median(ratios)
    least = seconds * min(low, middle / 1.2)
    most = seconds * max(high, middle * 1.2)
    words = f"{'at most' if time.get('early') else 'about'} {span(least, most)}"
    note = f"Corrected by the last {len(ratios)} trainings of this machine."
    return time | {"least_seconds": least, "most_seconds": most, "words": words, "note": note}


def _ratios(studio: Studio) -> list[float]:
    """What completed trainings took, over what was predicted."""
    with studio.store.reading() as session:
        found = jobs.listed(session, Wanted(states=(COMPLETED,), most=LOOKED_AT))
    ratios = []
    for job in found:
        before, after = number(job.predicted.get("seconds")), number(job.measured.get("seconds"))
        if before and after:
            ratios.append(min(WIDEST, max(1 / WIDEST, after / before)))
    return ratios


def said(before: Values, after: Values) -> str:
    """What was predicted, and what happened, as a sentence; empty where nothing was predicted."""
    parts = []
    if words := before.get("words"):
        took = number(after.get("seconds"))
        parts.append(f"{words}{f' (it took {duration(took)})' if took else ''}")
    for name, what in (("peak_bytes", "of memory"), ("adapter_bytes", "of result")):
        if expected := number(before.get(name)):
            real = number(after.get(name))
            parts.append(f"{size(expected)} {what}{f' (it was {size(real)})' if real else ''}")
    return f"Expected: {', '.join(parts)}." if parts else ""


def number(value: object) -> float:
    """A number, or 0 for what is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
