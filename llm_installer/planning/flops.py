"""How much arithmetic a token costs, and what share of a machine's peak a speed is. Pure.

A frozen weight costs a forward and a backward product but no gradient of its own: 4 FLOPs per weight, not 6.
"""

from __future__ import annotations

from llm_installer.core.handler import ALL_LINEAR
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.layers import adapter_parameters, linears

PEAK_FLOPS = (
    ("B200", 2250e12),
    ("H200", 989e12),
    ("H100 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("RTX A6000", 155e12),
    ("A40", 150e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
)
"""Dense bfloat16 FLOPs per second with float32 sums, by a part of the GPU's name, first match: from NVIDIA's data
sheets, half of what they say with sparsity. Real products reach about four fifths of it."""


def flops_per_token(
    info: ModelInfo, *, rank: int, length: float, scored: float = 1.0, targets: tuple[str, ...] = ALL_LINEAR
) -> float:
    """FLOPs of a LoRA step per real token, nothing recomputed.

    `length` is the mean length of a token's document, `scored` the share of supervised tokens. Forward and backward of
    a frozen weight are 2 + 2 FLOPs, of a trained one 2 + 4 (Kaplan et al., 2020, arXiv 2001.08361, section 2.1).
    """
    dense = sum(n.parameters for n in linears(info))
    head = info.vocab_size * info.hidden_size * scored
    attention = length * info.heads * info.head_dim * info.layers
    return 4 * dense + 4 * head + 7 * attention + 6 * adapter_parameters(info, rank, targets)


def mfu(tokens_per_second: float, flops: float, peak: float) -> float | None:
    """Model FLOPs utilisation: `flops` per token at a speed in real tokens, as a share of `peak` FLOPs per second
    (Chowdhery et al., 2022, arXiv 2204.02311, appendix B). None where the peak is not known, that is 0."""
    return tokens_per_second * flops / peak if peak else None


def known_peak_flops(gpu: str) -> float:
    """The bfloat16 peak of a GPU by its name, in FLOPs per second; 0 for one that is not in the table."""
    return next((peak for name, peak in PEAK_FLOPS if name in gpu), 0.0)
