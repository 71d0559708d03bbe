"""The optimizers by name: one row each, as plain text and numbers. training/optimizer.py builds them."""

from __future__ import annotations

from dataclasses import dataclass

BITSANDBYTES = "bitsandbytes"


@dataclass(frozen=True)
class Optimizer:
    """What an optimizer is, what it keeps per trained number, and how its learning rate relates to AdamW's."""

    path: str
    """Where its class is, as module:name."""
    settings: tuple[tuple[str, bool | float | None], ...]
    """Keywords of the class beside learning rate and weight decay."""
    state_bytes: float
    """Bytes of state per trained parameter."""
    rate_scale: float
    """Its learning rate as a multiple of the one that suits AdamW."""
    why: str
    cuda: bool = False
    """Whether it needs an NVIDIA GPU."""
    elementwise: bool = False
    """Whether each number moves by its own gradients alone, so that all adapters may be one tensor for it."""

    @property
    def library(self) -> str:
        """The package it comes from."""
        return self.path.partition(".")[0].partition(":")[0]


OPTIMIZERS: dict[str, Optimizer] = {
    "adamw_torch": Optimizer("torch.optim:AdamW", (), 8, 1.0, "the usual optimizer", elementwise=True),
    "adamw_torch_fused": Optimizer(
        "torch.optim:AdamW", (("fused", True),), 8, 1.0, "AdamW in one fused kernel for all adapters", elementwise=True
    ),
    "adamw_bnb_8bit": Optimizer(
        "bitsandbytes.optim:AdamW8bit", (), 2.1, 1.0, "AdamW with its averages in 8 bits (those of small layers in 32)"
    ),
    "paged_adamw_8bit": Optimizer(
        "bitsandbytes.optim:PagedAdamW8bit", (), 2.1, 1.0,
        "8-bit AdamW whose averages move to main memory when the GPU is full", cuda=True,
    ),
    "adafactor": Optimizer(
        "transformers.optimization:Adafactor", (("scale_parameter", False), ("relative_step", False)), 0.5, 1.0,
        "one average per row and column instead of two per number",
    ),
    "sgd": Optimizer(
        "torch.optim:SGD", (("momentum", 0.9),), 4, 20.0, "one average; steps as large as the gradient",
        elementwise=True,
    ),
    "lion": Optimizer(
        "bitsandbytes.optim:Lion", (), 4, 0.3, "one average; every number moves by the learning rate itself"
    ),
}  # fmt: skip
"""The learning rates: Lion's authors advise 3 to 10 times less than AdamW's (Chen et al., 2023, arXiv 2302.06675,
section 5). SGD's steps are as long as the gradient, which is cut to norm 1 over all adapters, where AdamW moves every
number by about its rate: 10 to 50 did about equally well on a small model, see docs/guides/methods.md."""

FUSED_ON = ("cuda", "cpu")
"""Devices on which one kernel is faster than many: 0.7 against 2.2 ms on one core for 64 adapters
(docs/guides/methods.md)."""

SYNONYMS = {"adamw": "adamw_torch", "adamw_8bit": "adamw_bnb_8bit", "lion_32bit": "lion"}
"""Names that transformers' trainer knows too."""


def default_optimizer(device: str) -> tuple[str, str]:
    """The optimizer for a device where the user names none, and why."""
    if device in FUSED_ON:
        return "adamw_torch_fused", "AdamW in one fused kernel; adapters are small, so its state costs little"
    return "adamw_torch", "AdamW; adapters are small, so its state costs little"
