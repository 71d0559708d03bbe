"""How much arithmetic a token costs, and what share of a machine's limit a speed is. Pure.

A frozen weight costs a forward and a backward product but no gradient of its own: 4 operations per weight, not 6.
"""

from __future__ import annotations

from llm_installer.core.handler import ALL_LINEAR
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.memory import adapter_parameters, linears

LIMITS = (
    ("H200", 989e12),
    ("H100 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("GH200", 989e12),
    ("B200", 2250e12),
    ("L40S", 362e12),
    ("L4", 121e12),
    ("A100", 312e12),
    ("A6000", 155e12),
    ("A40", 150e12),
    ("A10", 125e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
)
"""Dense bfloat16 operations per second with float32 sums, by a part of the GPU's name, first match; from NVIDIA's data
sheets (half the figure with sparsity)."""


def flops_per_token(
    info: ModelInfo, *, rank: int, length: float, scored: float = 1.0, targets: tuple[str, ...] = ALL_LINEAR
) -> float:
    """Operations of a LoRA step per real token, nothing computed twice.

    `length` is the mean length of a token's document, `scored` the share of tokens whose prediction is learned.
    """
    dense = sum(n.parameters for n in linears(info))
    head = info.vocab_size * info.hidden_size * scored
    attention = length * info.heads * info.head_dim * info.layers
    return 4 * dense + 4 * head + 7 * attention + 6 * adapter_parameters(info, rank, targets)


def checkpointing_flops(
    info: ModelInfo, *, rank: int, length: float, layers: int, targets: tuple[str, ...] = ALL_LINEAR
) -> float:
    """What `layers` checkpointed layers add per token: one more forward pass of theirs."""
    dense = sum(n.parameters for n in linears(info))
    attention = length * info.heads * info.head_dim * info.layers
    forward = 2 * dense + 2 * attention + 2 * adapter_parameters(info, rank, targets)
    return forward * layers / max(info.layers, 1)


def share_of_limit(tokens_per_second: float, flops: float, limit: float) -> float | None:
    """Share of `limit` operations per second that a speed in real tokens uses; None where the limit is not known."""
    return tokens_per_second * flops / limit if limit else None


def known_limit(gpu: str) -> float:
    """The bfloat16 limit of a GPU by its name; 0 for one that is not in the table."""
    return next((limit for name, limit in LIMITS if name in gpu), 0.0)
