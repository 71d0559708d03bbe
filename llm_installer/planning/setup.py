"""What memory and time of a run depend on, in one value: the model, the machine, and how the first is adapted there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.method import Method


@dataclass(frozen=True)
class Adapters:
    """The LoRA on each target module."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    """Names of linear layers; ("all-linear",) for every one."""


@dataclass(frozen=True)
class Setup:
    """A model on a machine, and how it is adapted."""

    model: ModelInfo
    hardware: Hardware
    """Its `compiler` says whether kernels are compiled in this run."""
    precision: str
    """Of the frozen base, where it is not quantised: float32, bfloat16 or float16."""
    adapters: Adapters
    method: Method
    packing: bool
    longest: int
    """Maximum sequence length, in tokens."""
    fast: bool = True
    """Whether faster paths with the same result may replace those of PEFT and transformers."""

    def quantised_as(self, quantised: str) -> Setup:
        """The same with the base quantised as named: "" for not at all, int8 or nf4."""
        return replace(self, method=replace(self.method, quantised=quantised))
