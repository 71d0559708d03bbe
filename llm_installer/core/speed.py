"""How fast a run was and where its time went: tokens, the share of the machine's limit, memory, seconds by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

PHASES = ("encode", "load", "rehearse", "train", "evaluate", "save")
"""In the order in which they come. None lies in another; what is in none (imports, prompts) is not counted."""
_GIB = 1024**3


@contextmanager
def timed(phases: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that this lasts to one phase."""
    assert name in PHASES, name
    began = time.monotonic()
    try:
        yield
    finally:
        phases[name] = phases.get(name, 0.0) + time.monotonic() - began


@dataclass(frozen=True)
class Speed:
    """What a run has to say about its own speed."""

    tokens_per_second: float
    """Real tokens, padding not counted, over the time spent in steps."""
    share_of_limit: float | None
    """Arithmetic a step needs (nothing computed twice) over what the machine could do; None where that is unknown."""
    limit: str
    """Whose limit: "this CPU's bfloat16 limit"."""
    peak_bytes: int
    predicted_bytes: int
    phases: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """For adapter_info.json."""
        return asdict(self)

    def scalars(self) -> dict[str, float]:
        """Names and numbers for curves: one point each, at the end of the run."""
        share = {} if self.share_of_limit is None else {"speed/share_of_limit": self.share_of_limit}
        seconds = {f"phase_seconds/{name}": self.phases[name] for name in PHASES if name in self.phases}
        return {"speed/tokens_per_second": self.tokens_per_second, **share, **seconds}

    def said(self) -> str:
        """One line for the end of a run."""
        share = "" if self.share_of_limit is None else f", {self.share_of_limit:.0%} of {self.limit}"
        planned = f" of {self.predicted_bytes / _GIB:.1f} planned" if self.predicted_bytes else ""
        spent = ", ".join(f"{name} {self.phases[name]:.0f}" for name in PHASES if self.phases.get(name, 0) >= 0.5)
        times = f"; seconds: {spent}" if spent else ""
        return (
            f"{self.tokens_per_second:,.0f} tokens/s{share}; {self.peak_bytes / _GIB:.1f} GiB at most{planned}{times}."
        )
