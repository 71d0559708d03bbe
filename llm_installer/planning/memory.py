"""The memory formula: weights, adapters, activations and logits to bytes, and what fits.

Activations per token and layer of a Llama-like block with eager PEFT, in a 2-byte dtype and with attention that saves
no scores, are 2 * (6h + 2dq + 2dkv + 4ff) + about 300 bytes: what autograd saves, counted layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_installer.core.model_info import ModelInfo

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
HEADROOM = 0.8
"""Share of the free memory a plan may fill; the rest is fragmentation, libraries and other programs."""


@dataclass(frozen=True)
class MemoryPlan:
    """Predicted bytes of a run."""

    weights: int
    adapters: int
    per_token: int
    """Activations and logits, per token of a micro-batch."""
    fits_tokens: int
    """Tokens of a micro-batch that fit beside the rest; 0 when not even the weights do."""

    def peak(self, tokens: int) -> int:
        """Predicted peak bytes with `tokens` in the micro-batch."""
        return self.weights + self.adapters + tokens * self.per_token


def plan_memory(info: ModelInfo, *, dtype: str, rank: int, modules: int, free_bytes: int) -> MemoryPlan:
    """Predict the bytes of a LoRA run with the base in `dtype` and `modules` adapted layers per block."""
    size = BYTES[dtype]
    weights = info.parameters * size
    adapter_parameters = rank * 2 * max(info.hidden_size, 1) * modules * info.layers
    adapters = adapter_parameters * 16
    per_token = info.layers * activation_bytes(info, size) + logit_bytes(info)
    room = free_bytes * HEADROOM - weights - adapters
    return MemoryPlan(weights, adapters, per_token, max(0, int(room // max(per_token, 1))))


def activation_bytes(info: ModelInfo, size: int) -> int:
    """Saved activations per token and layer, in bytes, for elements of `size` bytes."""
    query, key_value = info.heads * info.head_dim, info.kv_heads * info.head_dim
    return size * (6 * info.hidden_size + 2 * query + 2 * key_value + 4 * info.intermediate_size) + 300


def logit_bytes(info: ModelInfo) -> int:
    """Logits per supervised token: float32 values, their gradient and a half-precision copy."""
    return 10 * info.vocab_size


def must_part(info: ModelInfo, *, dtype: str, device: str, free_bytes: int, processes: int) -> bool:
    """Whether the base has to be parted over several processes, because no device holds the whole.

    Processes on CPUs share one memory: parting would gain nothing there.
    """
    whole = info.parameters * BYTES[dtype]
    return processes > 1 and device == "cuda" and whole > free_bytes * HEADROOM
