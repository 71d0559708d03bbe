"""Attention over several documents in one row, none of which sees another: which kinds a model may take, and how.

The kinds for CUDA follow the installed torch and transformers by their source. Whatever is chosen is tried on two short
documents before it is used (packed_rows.py).
Delete when transformers' own attention takes the bounds of documents without a dense mask and without flash-attn, on
CUDA and on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
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
from llm_installer.training.fast.cuda import varlen
from llm_installer.training.fast.cuda.to_device import pinned_to_device

NAME, KERNEL, FLEX = "packed_documents", "packed_kernel", "flex_attention"
"""As transformers knows them: a document at a time, by the kernels in C, and flex."""
FLASH, VARLEN = "packed_flash", "packed_varlen"
"""Torch's operator for documents of various lengths, and its public face."""
_STATEFUL = (
    "mamba", "rwkv", "jamba", "zamba", "bamba", "xlstm", "recurrent", "lfm2", "hybrid", "nemotron_h", "falcon_h1",
)  # fmt: skip
_BIASED = ("bloom", "mpt")
Device: TypeAlias = "torch.device | str"
_PACKED: ContextVar[bool] = ContextVar("packed", default=False)


@dataclass(frozen=True)
class Documents:
    """Where the documents of a packed row begin and end."""

    bounds: Tensor
    """Cumulative lengths from 0, int32, on the device."""
    longest: int
    """Tokens that none of them exceeds."""
    lengths: tuple[int, ...] = ()
    """Tokens of each; empty where the device alone knows them."""
    mask: Tensor | None = None
    """Which tokens each token sees, [tokens, tokens], where attention is computed in one go from a mask."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: Device) -> Documents:
        """Made on the CPU, so that no kernel has to wait for a count."""
        bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        return cls(pinned_to_device(bounds, device), max(lengths), tuple(lengths))


@dataclass(frozen=True)
class Machine:
    """What the choice depends on beside the model."""

    device: str
    dtype: str
    capability: tuple[int, int] = (0, 0)
    flash: bool = False
    """Torch's operator for documents of various lengths is there."""
    varlen: bool = False
    """Its public face, torch.nn.attention.varlen, is there."""
    triton: bool = False
    kernels: bool = False
    """There are kernels in C."""

    @classmethod
    def here(cls, device: str, dtype: str, kernels: bool = True) -> Machine:
        """This machine; `kernels` is whether any may be compiled."""
        capability = torch.cuda.get_device_capability() if device == "cuda" else (0, 0)
        ways = varlen.has_flash(), varlen.has_varlen(), find_spec("triton") is not None
        in_c = kernels and device == "cpu" and dtype == "bfloat16" and usable()
        return cls(device, dtype, capability, *ways, in_c)


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


def kinds(machine: Machine, head_dim: int) -> list[tuple[str, str]]:
    """(attention implementation, a sentence) of each kind to try for heads of this size, the fastest first."""
    cuda = machine.device == "cuda"
    fits = cuda and varlen.fits(machine.capability, machine.dtype, head_dim)
    rows = (
        (fits and machine.flash, FLASH, "packed rows: torch's attention for documents of various lengths"),
        (fits and machine.varlen, VARLEN, "packed rows: torch's varlen_attn"),
        (cuda and machine.triton, FLEX, "packed rows: flex attention"),
        (machine.kernels and head_dim % 2 == 0, KERNEL, "packed rows: C kernels for attention"),
        (not (cuda and machine.triton), NAME, "packed rows: attention one document at a time"),
    )
    return [(kind, note) for can, kind, note in rows if can]


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


def _by_operator(ragged: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, None]]:
    """The same by one operation on [tokens, heads, size]; where it drops, or sizes differ, as `attend` does it."""

    def attend_ragged(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: object
    ) -> tuple[Tensor, None]:
        packed = cast("Documents | None", more.get("packed"))
        if packed is None or more.get("dropout") or query.shape[-1] != value.shape[-1]:
            return attend(module, query, key, value, attention_mask, **more)
        q, k, v = (t.squeeze(0).transpose(0, 1) for t in (query, key, value))
        scaling = _call(query, key, value, more).scaling
        return ragged(q, k, v, packed.bounds, packed.longest, scaling).unsqueeze(0), None

    return attend_ragged


def _call(query: Tensor, key: Tensor, value: Tensor, more: dict[str, object]) -> _Call:
    scaling, dropout = cast("float | None", more.get("scaling")), cast(float, more.get("dropout") or 0.0)
    return _Call(query, key, value, scaling, dropout)


def _by_documents(call: _Call, packed: Documents) -> Tensor:
    """One product after the other; or one for all documents, where a mask says what each token sees."""
    query, key, value = call.query, call.key, call.value
    grouped = query.shape[1] != key.shape[1]
    product = partial(
        F.scaled_dot_product_attention, scale=call.scaling, dropout_p=call.dropout, enable_gqa=grouped
    )  # fmt: skip
    if packed.mask is not None:
        return product(query, key, value, packed.mask).transpose(1, 2).contiguous()
    assert packed.lengths, "without a mask the lengths are known"
    bounds = [sum(packed.lengths[:i]) for i in range(len(packed.lengths) + 1)]
    parts = [
        product(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], is_causal=True) for a, b in pairwise(bounds)
    ]  # fmt: skip
    return torch.cat(parts, 2).transpose(1, 2).contiguous()


def _mask(*args: object, **more: object) -> Tensor | None:
    """No mask for packed documents; else the usual one, for example when answers are generated."""
    return None if _PACKED.get() else sdpa_mask(*args, **more)  # type: ignore[arg-type]


WAYS = {
    NAME: attend,
    KERNEL: attend_by_kernel,
    FLASH: _by_operator(varlen.flash),
    VARLEN: _by_operator(varlen.varlen),
}
for name, way in WAYS.items():
    AttentionInterface.register(name, way)
    AttentionMaskInterface.register(name, _mask)
