"""What trainings on this machine took, beside what was predicted of them: it corrects what is said of the next one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

from llm_installer.core.errors import DiskError
from llm_installer.core.files import append_line
from llm_installer.core.home import llm_home

SURE = 1.2
"""Without a history, what is said reaches from the prediction divided by this to the prediction times this."""
ENOUGH = 3
"""Trainings from which on they correct."""
LATEST = 20
ALIKE = 8.0
"""Factor between the predictions of two trainings that tell something of each other; a short one is mostly start-up."""
WIDEST = 4.0
"""Most that a prediction is corrected by."""


@dataclass(frozen=True)
class Past:
    """A training that did all its steps."""

    device: str
    predicted: float
    """Seconds."""
    took: float


def ratios(seconds: float, device: str, past: Iterable[Past]) -> tuple[float, ...]:
    """Time taken over time predicted, of the latest trainings on this device about as long as `seconds`; each is
    limited, so that one that was suspended for a night says no more than another."""
    alike = [
        min(WIDEST, max(1 / WIDEST, one.took / one.predicted))
        for one in past
        if one.device == device and seconds and 1 / ALIKE <= one.predicted / seconds <= ALIKE
    ]
    return tuple(alike[-LATEST:])


def bounds(seconds: float, found: Sequence[float]) -> tuple[float, float]:
    """(least, most) seconds to expect: around the prediction, moved and widened by `ratios` where those are enough."""
    if len(found) < ENOUGH:
        return seconds / SURE, seconds * SURE
    low, _, high = quantiles(found, n=4, method="inclusive")
    middle = median(found)
    return seconds * min(low, middle / SURE), seconds * max(high, middle * SURE)


def history_file() -> Path:
    """One line for each training; safe to delete."""
    return llm_home() / "history.jsonl"


def read_history() -> list[Past]:
    """All of it, oldest first; nothing where it cannot be read, and without lines that are damaged."""
    found = list[Past]()
    with suppress(OSError, UnicodeDecodeError):
        for line in history_file().read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, TypeError, KeyError):
                value = json.loads(line)
                one = Past(str(value["device"]), float(value["predicted"]), float(value["took"]))
                if one.predicted > 0 and one.took > 0:
                    found.append(one)
    return found


def remember(one: Past) -> None:
    """Add a training. Where that cannot be written, nothing is lost but a better guess."""
    with suppress(DiskError):
        append_line(history_file(), json.dumps(asdict(one)).encode() + b"\n")
