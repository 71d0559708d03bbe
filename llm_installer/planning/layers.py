"""The linear layers of a model: which there are, which get a LoRA, and how many different inputs they read."""

from __future__ import annotations

from collections.abc import Iterable

from llm_installer.core.handler import EXPERTS
from llm_installer.core.model_info import Linear, ModelInfo

_SHARED = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value", "Wqkv"), "attention"),
    **dict.fromkeys(("gate_proj", "up_proj", "gate_up_proj", "w1", "w3"), "mlp"),
    **dict.fromkeys(("o_proj", "out_proj", "wo"), "attention output"),
}
"""Layers that read the same input; the attention output is kept by the attention itself."""
FLOAT8_MULTIPLE = 16
"""What both widths of a layer must be multiples of for a product in float8 (torch's _scaled_mm)."""
_GATED = ("gate_proj", "gate_up_proj", "w3")


def linears(info: ModelInfo) -> tuple[Linear, ...]:
    """The linear layers of the decoder: what the headers say, or a Llama of the config's sizes."""
    if info.linears:
        return info.linears
    hidden, inner = info.hidden_size, info.intermediate_size
    query, key_value = info.heads * info.head_dim, info.kv_heads * info.head_dim
    shapes = {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key_value),
        "v_proj": (hidden, key_value),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    return tuple(Linear(name, *shape, info.layers) for name, shape in shapes.items())


def float8_linears(info: ModelInfo) -> tuple[Linear, ...]:
    """Those of them that a base in float8 holds in it."""
    return tuple(n for n in linears(info) if n.inputs % FLOAT8_MULTIPLE == n.outputs % FLOAT8_MULTIPLE == 0)


def adapted(info: ModelInfo, targets: tuple[str, ...]) -> tuple[Linear, ...]:
    """The linear layers that get a LoRA; all of them where the names of the targets are not known."""
    every, experts = linears(info), info.experts if EXPERTS in targets else ()
    leaves = {target.rpartition(".")[2] for target in targets}
    named = tuple(n for n in every if n.name in leaves)
    return (named or (() if targets == (EXPERTS,) else every)) + experts


def adapter_parameters(info: ModelInfo, rank: int, targets: tuple[str, ...]) -> int:
    """Numbers that a LoRA of `rank` on `targets` trains: rank x (inputs + outputs) of each layer (Hu et al., 2021,
    arXiv 2106.09685)."""
    return sum(rank * (n.inputs + n.outputs) * n.count for n in adapted(info, targets))


def is_gated(info: ModelInfo) -> bool:
    """Whether the MLP has a gate beside its up projection."""
    return not info.linears or any(n.name in _GATED for n in info.linears)


def distinct_inputs(chosen: Iterable[Linear], share: float) -> float:
    """Elements of different inputs of `chosen` per token and layer: layers that read the same one keep it once.

    `share` is one over the number of layers.
    """
    widths: dict[str, float] = {}
    for n in chosen:
        group = _SHARED.get(n.name, n.name)
        if group != "attention output":
            key = group if group in _SHARED.values() else f"{group} {n.inputs}"
            widths[key] = max(widths.get(key, 0.0), n.inputs * min(1.0, n.count * share))
    return sum(widths.values())
