"""What a training would cost on a rented GPU: prices with where and when they were read, which anyone may correct."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.files import write_json
from llm_installer.core.json_file import read_object
from llm_installer.core.text import span
from llm_installer.studio.foresight import number
from llm_installer.studio.insight import Values

FILE = "prices.json"
"""Of the data folder: prices that somebody corrected."""
SET_UP = (300.0, 1200.0)
"""Least and most seconds that a rented machine is paid for before its first step: it starts, installs, downloads."""
DEAREST = 1000.0
KEPT = 0.05
"""Share of a GPU's memory that is not for training."""


@dataclass(frozen=True)
class Price:
    """What a GPU costs."""

    gpu: str
    """As planning/flops.py calls it."""
    name: str
    gigabytes: int
    low: float
    """US dollars an hour."""
    high: float
    source: str
    read_on: str
    """ISO date."""


PRICES = (
    Price("L4", "L4", 24, 0.44, 0.80, "RunPod, Modal", "2026-05-07"),
    Price("RTX 4090", "RTX 4090", 24, 0.29, 0.60, "OpenRelay, RunPod", "2026-09-20"),
    Price("L40S", "L40S", 48, 0.79, 1.95, "RunPod, Modal", "2026-05-07"),
    Price("A100", "A100", 80, 1.39, 3.43, "RunPod, AWS", "2026-11-09"),
    Price("H100", "H100", 80, 2.69, 6.88, "RunPod, AWS", "2026-11-09"),
)
"""Cheapest and dearest of the public price lists that were read, on demand, for one GPU."""


@dataclass(frozen=True)
class Cost:
    """What a training would take and cost on one of them."""

    price: Price
    time: str
    money: str
    fits: bool


def read_prices(folder: Path) -> list[Price]:
    """The prices, corrected where somebody did; a file that is damaged counts as none."""
    own: dict[str, object] = {}
    with suppress(InstallerError):
        own = read_object(folder / FILE)
    return [_corrected(one, own.get(one.gpu)) for one in PRICES]


def _corrected(price: Price, own: object) -> Price:
    if not isinstance(own, dict):
        return price
    low, high = number(own.get("low")), number(own.get("high"))
    source, read_on = str(own.get("source", ""))[:80], str(own.get("read_on", ""))[:10]
    return replace(price, low=low, high=high, source=source, read_on=read_on) if 0 < low <= high else price


def keep_prices(folder: Path, form: Mapping[str, str], today: date) -> None:
    """Keep what was typed; an empty pair goes back to what was read. Raises UsageError."""
    own: dict[str, object] = {}
    for before, read in zip(read_prices(folder), PRICES, strict=True):
        low, high = (form.get(f"{end}-{before.gpu}", "").strip() for end in ("low", "high"))
        if not low and not high:
            continue
        found = replace(before, low=_dollars(low or high, before), high=_dollars(high or low, before))
        if found.low > found.high:
            raise UsageError(f"{before.name}: the first price must not be above the second one")
        if (found.low, found.high) != (before.low, before.high):
            found = replace(found, source="you", read_on=today.isoformat())
        if found != read:
            own[found.gpu] = asdict(found)
    write_json(folder / FILE, own, 0o600)


def _dollars(text: str, price: Price) -> float:
    with suppress(ValueError):
        found = float(text.replace(",", "."))
        if math.isfinite(found) and 0 < found <= DEAREST:
            return found
    raise UsageError(f"{price.name}: {text[:20]!r} is not a price in dollars an hour, such as 1.39")


def costs(plan: Values, prices: Sequence[Price]) -> list[Cost]:
    """What the training of a plan would cost on each, cheapest first, those on which it does not fit last."""
    times = plan.get("elsewhere")
    memory = plan.get("memory")
    peak = number(memory.get("predicted_bytes")) if isinstance(memory, dict) else 0.0
    known = {str(one.get("gpu")): one for one in times if isinstance(one, dict)} if isinstance(times, list) else {}
    found = [_cost(price, known[price.gpu], peak) for price in prices if price.gpu in known]
    return [cost for _, cost in sorted(found, key=lambda one: (not one[1].fits, one[0]))]


def _cost(price: Price, time: Values, peak: float) -> tuple[float, Cost]:
    least, most = number(time.get("least_seconds")), number(time.get("most_seconds"))
    low, high = price.low * (least + SET_UP[0]) / 3600, price.high * (most + SET_UP[1]) / 3600
    fits = peak <= (1 - KEPT) * price.gigabytes * 1e9
    return low + high, Cost(price, span(max(least, 1), max(most, 2)), money(low, high), fits)


def money(low: float, high: float) -> str:
    """A range of dollars: $0.10 to $0.45."""
    digits = 2 if high < 10 else 0
    first, last = f"{max(low, 0.01):,.{digits}f}", f"{max(high, 0.01):,.{digits}f}"
    return f"${last}" if first == last else f"${first} to ${last}"
