"""The switches by which a command holds the base in 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def quantised_options(command: Command) -> Command:
    """--use-4bit and --use-8bit, as `quantised`: a name of planning.method.QUANTISED, or empty."""
    words = "Hold the base in 4 bits, as --method qlora trains on."
    four = click.option("--use-4bit", "quantised", flag_value="nf4", default="", help=words)
    eight = click.option("--use-8bit", "quantised", flag_value="int8", help="Hold the base in 8 bits.")
    return four(eight(command))
