"""Attention over several documents in one row, none of which sees another: which kind a model can take, and how.

The two kinds for CUDA follow the installed torch and transformers by their source. Whatever is chosen is tried on two
short documents before it is used (packed_rows.py).
Delete when transformers' own attention takes the bounds of documents without a dense mask and without flash-attn, on
CUDA and on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from llm_installer.training.fast.context import Attention
from llm_installer.training.fast.cpu.native.attention import attention, usable
from llm_installer.training.fast.cuda.to_device import pinned_to_device

NAME, KERNEL, FLEX = "packed_documents", "packed_kernel", "flex_attention"
"""As transformers knows them: varlen or a document at a time, by the kernels in C, and flex."""
_STATEFUL = (
    "mamba", "rwkv", "jamba", "zamba", "bamba", "xlstm", "recurrent", "lfm2", "hybrid", "nemotron_h", "falcon_h1",
)  # fmt: skip
_BIASED = ("bloom", "mpt")
Device: TypeAlias = "torch.device | str"
_PACKED: ContextVar[bool] = ContextVar("packed", default=False)


@dataclass(frozen=True)
class Documents:
    """Where the documents of a packed row begin and end."""

    lengths: tuple[int, ...]
    bounds: Tensor
    """Cumulative lengths from 0, int32, on the device."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: Device) -> Documents:
        """Made on the CPU, so that no kernel has to wait for a count."""
        bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        return cls(tuple(lengths), pinned_to_device(bounds, device))


@dataclass(frozen=True)
class Machine:
    """What the choice depends on beside the model."""

    device: str
    dtype: str
    capability: tuple[int, int] = (0, 0)
    varlen: bool = False
    """torch.nn.attention.varlen is there."""
    triton: bool = False
    kernels: bool = False
    """There are kernels in C."""

    @classmethod
    def here(cls, device: str, dtype: str, kernels: bool = True) -> Machine:
        """This machine; `kernels` is whether any may be compiled."""
        capability = torch.cuda.get_device_capability() if device == "cuda" else (0, 0)
        varlen = find_spec("torch.nn.attention.varlen") is not None
        in_c = kernels and device == "cpu" and dtype == "bfloat16" and usable()
        return cls(device, dtype, capability, varlen, find_spec("triton") is not None, in_c)


def refusal(config: PreTrainedConfig, noise: bool = False) -> str:
    """Why documents cannot be packed for this model; empty where nothing speaks against it."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    windowed = getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True)
    stateful = kinds - {"full_attention", "sliding_attention", "chunked_attention"}
    if hasattr(config, "vision_config"):
        return "not packed: this model sees images, which belong to padded rows"
    if stateful or any(word in text.model_type for word in _STATEFUL):
        return "not packed: this model carries a state from token to token, past the end of a document"
    if kinds & {"sliding_attention", "chunked_attention"} or (windowed and not kinds):
        return "not packed: this model's attention looks through a window"
    if text.model_type in _BIASED or getattr(text, "alibi", False):
        return "not packed: this model counts distances along the row, not within a document"
    if getattr(text, "attn_logit_softcapping", None):
        return "not packed: this model caps its attention scores"
    if noise:
        return "not packed: the noise of NEFTune depends on the length of a row"
    return ""


def choose_kind(machine: Machine, head_dim: int) -> tuple[str, str]:
    """(attention implementation, a sentence): the first of varlen, flex and one document at a time that can be had."""
    if machine.device == "cuda":
        if machine.varlen and machine.capability >= (8, 0) and machine.dtype != "float32" and head_dim <= 256:
            return NAME, "packed rows: torch's attention for documents of various lengths"
        if machine.triton:
            return FLEX, "packed rows: flex attention"
    if machine.kernels and head_dim % 2 == 0:
        return KERNEL, "packed rows: C kernels for attention"
    return NAME, "packed rows: attention one document at a time"


@contextmanager
def packed_forward(documents: Documents | None) -> Iterator[dict[str, Documents]]:
    """What the model's forward is given beside the ids, while no mask is made for packed documents."""
    token = _PACKED.set(documents is not None)
    try:
        yield {"packed": documents} if documents else {}
    finally:
        _PACKED.reset(token)


@dataclass(frozen=True)
class _Call:
    """What attention is computed of: query [1, heads, tokens, size], key and value [1, key heads, tokens, size]."""

    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float | None
    dropout: float


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: object
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: the result is [1, tokens, heads, size]. `packed` are the documents of the
    row; without them it is the usual attention."""
    packed = more.pop("packed", None)
    if packed is None:
        return cast(Attention, sdpa_attention_forward)(module, query, key, value, attention_mask, **more)
    return _by_documents(_call(query, key, value, more), cast(Documents, packed)), None


def attend_by_kernel(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: object
) -> tuple[Tensor, None]:
    """The same by the kernels in C, for documents in bfloat16 on a CPU; anything else as `attend` does it."""
    packed = cast("Documents | None", more.get("packed"))
    alike = query.dtype == key.dtype == value.dtype == torch.bfloat16 and query.shape[-1] == value.shape[-1]
    if packed is None or more.get("dropout") or not alike:
        return attend(module, query, key, value, attention_mask, **more)
    scale = _call(query, key, value, more).scaling or query.shape[-1] ** -0.5
    return attention(query, key, value, packed.bounds, scale), None


def _call(query: Tensor, key: Tensor, value: Tensor, more: dict[str, object]) -> _Call:
    scaling, dropout = cast("float | None", more.get("scaling")), cast(float, more.get("dropout") or 0.0)
    return _Call(query, key, value, scaling, dropout)


def _by_documents(call: _Call, packed: Documents) -> Tensor:
    """Torch's own kernel for documents of various lengths, or one product after the other."""
    query, key, value = call.query, call.key, call.value
    if query.is_cuda and query.dtype != torch.float32 and not call.dropout and _varlen_fits(query, value):
        return _varlen(call, packed)
    grouped = query.shape[1] != key.shape[1]
    bounds = [sum(packed.lengths[:i]) for i in range(len(packed.lengths) + 1)]
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, a:b], key[:, :, a:b], value[:, :, a:b],
            is_causal=True, scale=call.scaling, dropout_p=call.dropout, enable_gqa=grouped,
        )
        for a, b in pairwise(bounds)
    ]  # fmt: skip
    return torch.cat(parts, 2).transpose(1, 2).contiguous()


def _varlen_fits(query: Tensor, value: Tensor) -> bool:
    machine = _this_machine(str(query.dtype))
    same = query.shape[-1] == value.shape[-1] and query.shape[-1] <= 256
    return same and machine.varlen and machine.capability >= (8, 0)


@lru_cache(maxsize=4)
def _this_machine(dtype: str) -> Machine:
    """Asked by every layer of every pass."""
    return Machine.here("cuda", dtype)


def _varlen(call: _Call, packed: Documents) -> Tensor:
    """torch's own kernel: [tokens, heads, size] in and out; a window of (-1, 0) is causal."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (t[0].transpose(0, 1).contiguous() for t in (call.query, call.key, call.value))
    longest = max(packed.lengths)
    out = varlen_attn(
        q, k, v, packed.bounds, packed.bounds, longest, longest,
        scale=call.scaling, window_size=(-1, 0), enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    assert isinstance(out, Tensor), "only the output was asked for"
    return out.unsqueeze(0)


def _mask(*args: object, **more: object) -> Tensor | None:
    """No mask for packed documents; else the usual one, for example when answers are generated."""
    return None if _PACKED.get() else sdpa_mask(*args, **more)  # type: ignore[arg-type]


for name, way in ((NAME, attend), (KERNEL, attend_by_kernel)):
    AttentionInterface.register(name, way)
    AttentionMaskInterface.register(name, _mask)
