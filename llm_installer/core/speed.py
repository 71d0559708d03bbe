"""How fast a run was and where its time went: tokens, model FLOPs utilisation (MFU), memory, seconds of each phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llm_installer.core.seconds import PHASES, turn
from llm_installer.core.text import size


@contextmanager
def timed(phases: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that this lasts to one phase, here and in the ledger of the command. Phases do not overlap."""
    assert name in PHASES, name
    before, began = turn(name), time.monotonic()
    try:
        yield
    finally:
        turn(before)
        phases[name] = phases.get(name, 0.0) + time.monotonic() - began


@dataclass(frozen=True)
class Speed:
    """How fast a run was."""

    tokens_per_second: float
    """Tokens without padding, over the time spent in steps."""
    mfu: float | None
    """The FLOP/s that the model needs (nothing counted twice) over what the machine could do (Chowdhery et al., 2022,
    arXiv 2204.02311, appendix B); None where that is unknown."""
    mfu_of: str
    """What 100% is: "this CPU's measured bfloat16 peak"."""
    peak_bytes: int
    """Peak memory; 0 where it is unknown."""
    predicted_bytes: int
    """Peak memory by the plan; 0 where it has none."""
    phases: dict[str, float]
    """Seconds by the keys of PHASES."""

    def to_json(self) -> dict[str, object]:
        """For adapter_info.json, with the keys that every version has written."""
        return {
            "tokens_per_second": self.tokens_per_second,
            "share_of_limit": self.mfu,
            "limit": self.mfu_of,
            "peak_bytes": self.peak_bytes,
            "predicted_bytes": self.predicted_bytes,
            "phases": dict(self.phases),
        }

    def scalars(self) -> dict[str, float]:
        """Names and numbers for curves: one point each, at the end of the run."""
        mfu = {} if self.mfu is None else {"speed/mfu": self.mfu}
        seconds = {
            f"phase_seconds/{name.replace(' ', '_')}": self.phases[key]
            for key, name in PHASES.items()
            if key in self.phases
        }
        return {"speed/tokens_per_second": self.tokens_per_second, **mfu, **seconds}

    def said(self) -> str:
        """One line for the end of a run."""
        parts = [f"{self.tokens_per_second:,.0f} tokens/s"]
        if self.mfu is not None:
            parts.append(f"MFU {self.mfu:.0%} (of {self.mfu_of})")
        if self.peak_bytes:
            predicted = f" ({size(self.predicted_bytes)} predicted)" if self.predicted_bytes else ""
            parts.append(f"peak memory {size(self.peak_bytes)}{predicted}")
        return f"Speed: {', '.join(parts)}."
