"""Numbers that an option takes: within bounds, and neither nan nor infinite."""

from __future__ import annotations

import math
from typing import cast

import click

MOST = 10**9
"""The largest number that a setting takes which has no maximum of its own: more is a slip of the finger."""


class Whole(click.IntRange):
    """A whole number within bounds, at most MOST unless more is allowed."""

    def __init__(self, low: float, high: float | None = None) -> None:
        super().__init__(int(low), MOST if high is None else int(high))

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, float) and not value.is_integer():
            self.fail(f"{value:g} is not a whole number", param, ctx)
        return int(super().convert(cast(int, value), param, ctx))  # click converts what it is given


class Number(click.FloatRange):
    """A number within bounds, at most MOST unless more is allowed; neither nan nor infinite."""

    def __init__(self, low: float, high: float | None = None, low_open: bool = False) -> None:
        super().__init__(low, MOST if high is None else high, min_open=low_open)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            finite = math.isfinite(float(str(value)))
        except ValueError:  # no number at all, which click says
            finite = True
        if not finite:
            self.fail(
                f"{value} is not a number" if str(value).lower().endswith("nan") else f"{value} is infinite", param, ctx
            )
        return float(super().convert(cast(float, value), param, ctx))
