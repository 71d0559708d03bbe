"""What an option takes: numbers within bounds, neither nan nor infinite, and texts that are not empty."""

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

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for it in a help."""
        return "N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            found = int(str(value)) if isinstance(value, str) else int(cast(int, value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a whole number", param, ctx)
        if found != value and not isinstance(value, str):
            self.fail(f"{value} is not a whole number", param, ctx)
        if wrong := outside(self, found):
            self.fail(wrong, param, ctx)
        return found

    def _describe_range(self) -> str:
        return within(self)


class Number(click.FloatRange):
    """A number within bounds, at most MOST unless more is allowed; neither nan nor infinite."""

    def __init__(self, low: float, high: float | None = None, low_open: bool = False) -> None:
        super().__init__(low, MOST if high is None else high, min_open=low_open)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for it in a help."""
        return "X"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is {'not a number' if math.isnan(found) else 'infinite'}", param, ctx)
        if wrong := outside(self, found):
            self.fail(wrong, param, ctx)
        return found

    def _describe_range(self) -> str:
        return within(self)


class Filled(click.types.StringParamType):
    """A text that is not empty: an empty one is a shell variable that is not set, and means nothing."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = str(super().convert(value, param, ctx))
        if not found.strip():
            self.fail("it is empty; give a value, or leave the option out", param, ctx)
        return found


def outside(bounds: Whole | Number, value: float) -> str:
    """What is wrong with a number outside of the bounds, and what to give; empty for one within."""
    low, high = cast(float, bounds.min), cast(float, bounds.max)
    if value < low or (bounds.min_open and value == low):
        return f"{_digits(value)} is too small; give {within(bounds)}"
    return f"{_digits(value)} is too large; give {within(bounds, all_of_it=True)}" if value > high else ""


def within(bounds: Whole | Number, all_of_it: bool = False) -> str:
    """The bounds in words; MOST is worth a word only where `all_of_it` is asked for."""
    low, high = cast(float, bounds.min), cast(float, bounds.max)
    if high == MOST and not all_of_it:
        return f"more than {low:g}" if bounds.min_open else f"at least {low:g}"
    most = _digits(high)
    return f"more than {low:g} and at most {most}" if bounds.min_open else f"{low:g} to {most}"


def _digits(value: float) -> str:
    return f"{int(value)}" if value == int(value) and abs(value) < 1e16 else f"{value:g}"
