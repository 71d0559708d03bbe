"""Handler: what is special about a model family. One declarative file per family fills one in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ALL_LINEAR = ("all-linear",)
EXPERTS = "experts"
"""The word that stands for routed experts among the names of target modules."""


@dataclass(frozen=True)
class Handler:
    """What is known about a family. Only `name` and `model_types` are required."""

    name: str
    """Short name shown to the user."""
    model_types: tuple[str, ...]
    """The `model_type` values of config.json that this handler serves, matched exactly."""
    target_modules: tuple[str, ...] = ALL_LINEAR
    """Leaf module names that get a LoRA; `("all-linear",)` is every linear layer but output and routers."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """The family's own precision; the plan raises float16 to bfloat16 where the hardware has it."""
    max_length: int = 2048
    """Maximum length of a training row in tokens, if the model's own limit is not lower."""
    fan_in_fan_out: bool = False
    """True where the layers are Conv1D (GPT-2): weights stored (in, out)."""
    vision: bool = False
    """True where the family reads images through a processor."""
    packing: bool = True
    """False where state leaks between documents in one row (linear attention, absolute positions without reset)."""
    example: str = ""
    """A hub id people know."""
    source: str = "built-in"
    """Where this handler came from: built-in, a user's file, or an entry point. Filled in by the registry."""
