"""Rotary positions in a GGUF file: base and scaling, and what of it llama.cpp does not know."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from llm_installer.export.gguf.facts import Facts, Values

FREQUENCIES = "rope_freqs.weight"
"""The tensor with a divisor for each frequency."""
_KNOWN = ("default", "linear", "yarn", "llama3")


def rope_of(facts: Facts, layers: str = "") -> Facts:
    """The rotary positions of a model, or of one kind of its layers."""
    found = facts.part("rope_parameters")
    return found.part(layers) if layers else found


def kind_of(rope: Facts) -> str:
    """How they are scaled; `default` for not at all."""
    return str(rope.get("rope_type", "default"))


def problems(rope: Facts, known: tuple[str, ...] = _KNOWN) -> Iterator[str]:
    """Why they cannot be written, as the end of a sentence."""
    kind = kind_of(rope)
    if kind not in known:
        yield f"its rotary positions are scaled in the way {kind!r}, which is not written here"
    if kind == "yarn" and (rope.get("mscale") or rope.get("mscale_all_dim") or rope.get("truncate") is False):
        yield "its yarn scaling has settings (mscale, truncate) that are not written here"


def scaling(rope: Facts) -> Values:
    """The keys of the scaling. For llama3 it is a tensor instead, and these are none."""
    kind = kind_of(rope)
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": rope.number("factor")}
    if kind != "yarn":
        return {}
    found: Values = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": rope.number("factor"),
        "rope.scaling.original_context_length": rope.whole("original_max_position_embeddings"),
        "rope.scaling.yarn_beta_fast": rope.number("beta_fast", 32.0),
        "rope.scaling.yarn_beta_slow": rope.number("beta_slow", 1.0),
    }
    if rope.get("attention_factor") is not None:
        # llama.cpp multiplies by 0.1 ln(factor) + 1 itself.
        usual = 0.1 * math.log(rope.number("factor")) + 1
        found["rope.scaling.attn_factor"] = rope.number("attention_factor") / usual
    return found


def frequencies(rope: Facts, head_dim: int) -> Tensor | None:
    """What each frequency is divided by, [head_dim / 2] in float32; None where no such tensor is needed.

    As Llama 3.1 does: long waves are stretched by the factor, short ones are not, those between by a part of it.
    """
    if kind_of(rope) != "llama3":
        return None
    factor, low, high = (rope.number(name) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    context = rope.whole("original_max_position_embeddings")
    power = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    waves = 2 * math.pi * rope.number("rope_theta", 10000.0) ** power
    share = ((context / waves - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - share) / factor + share)).float()
