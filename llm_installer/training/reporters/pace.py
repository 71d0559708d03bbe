"""How fast a run goes and how long it will still take, from the steps so far."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import StepReport

RECENT = 20
"""Steps over which the speed is averaged, so that it can be read."""


class Pace:
    """Progress of a run; the caller supplies the clock."""

    def __init__(self, header: RunHeader, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._before = header.before.seconds
        self._first: tuple[int, float] | None = None
        self._latest = self._began
        self._recent: deque[StepReport] = deque(maxlen=RECENT)
        self._forecast = header.forecast
        self.total = header.total_steps
        self.step = header.start_step
        self.loss = math.nan

    def add(self, report: StepReport) -> None:
        """One more step is done."""
        self._latest = self._now()
        self._first = self._first or (report.step, self._latest)
        self._recent.append(report)
        self.step, self.loss = report.step, report.loss

    @property
    def percent(self) -> int:
        """How much of the total is done, at most 100."""
        return min(100, 100 * self.step // self.total) if self.total else 0

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, over all sessions, as evaluations count them."""
        return self._before + self._now() - self._began

    @property
    def remaining(self) -> float | None:
        """Seconds to the last step: as forecast, corrected by the steps of this session. Without a forecast it is
        unknown until the second of them, because the first one is a warm-up."""
        if not self.total:
            return None
        left = max(0, self.total - self.step)
        step, first = self._first or (self.step, self._latest)
        if self._forecast:
            return self._forecast.remaining(left, self.step - step, self._latest - first)
        return left * (self._latest - first) / (self.step - step) if self.step > step else None

    @property
    def tokens_per_second(self) -> float | None:
        """Over the last few steps; unknown before the first."""
        seconds = sum(report.seconds for report in self._recent)
        return sum(report.tokens for report in self._recent) / seconds if seconds > 0 else None
