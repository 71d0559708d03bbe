"""What was predicted of trainings on this machine beside what happened."""

from __future__ import annotations

import math
import sys

from llm_installer.core.text import duration, size
from llm_installer.studio.insight import Values


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
    """A finite number, or 0 for what is none."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) > sys.float_info.max:
        return 0.0
    return 0.0 if math.isnan(value) else float(value)
