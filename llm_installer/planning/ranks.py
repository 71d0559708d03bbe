"""A rank that grows over the run: --lora-r 4,8,16 trains a third of it with rank 4, a third with 8, the rest with 16.

The adapter has the highest rank from the beginning. The rows of A and columns of B above the present rank get no
gradient, and those of B are zero until then, so that the model computes what one of the lower rank would, and exactly
the same before and after the rank has grown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import click

from llm_installer.planning.bounds import Whole

METAVAR = "N[,N...]"


class Ranks(Whole):
    """A rank, or several ascending ones with commas, which stay a text."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for it in a help."""
        return METAVAR

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:  # type: ignore[override]
        words = value.split(",") if isinstance(value, str) else [value]
        found = [super(Ranks, self).convert(word, param, ctx) for word in words]
        if found != sorted(set(found)):
            self.fail(f"{value} does not grow; give ranks from low to high, such as 4,8,16", param, ctx)
        return found[0] if len(found) == 1 else ",".join(map(str, found))


def ranks(asked: int | str | None) -> tuple[int, ...]:
    """The ranks that were asked for, ascending; none where it is left to the plan."""
    return () if asked is None else tuple(int(word) for word in str(asked).split(","))


def stage(steps: Sequence[int], done: int, total: int) -> tuple[int, int]:
    """(the rank of planned step `done`, counted from 1; how many steps have begun with it) of a run of `total` steps,
    which the ranks `steps` share equally."""
    count = len(steps)
    number = min(count - 1, (max(done, 1) - 1) * count // total)
    return steps[number], max(done, 1) - math.ceil(number * total / count)


def words(steps: Sequence[int]) -> str:
    """Why the rank is what it is, where it grows."""
    return f"you set it: it grows, 1/{len(steps)} of the run with each; the adapter has {steps[-1]} in the end"
