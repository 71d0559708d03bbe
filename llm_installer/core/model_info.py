"""ModelInfo: what config.json and the headers of the weight files say about a model, before a weight is read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.config import read_config
from llm_installer.core.dequantised import UNSHAPED, dequantised
from llm_installer.core.errors import ModelError
from llm_installer.core.handler import EXPERTS
from llm_installer.core.json_file import AGAIN, read_object
from llm_installer.core.quantisation import UNQUANTISED, Stored, stored_as
from llm_installer.core.safetensors import TensorHeader
from llm_installer.core.text import counted, short_path
from llm_installer.core.weight_files import read_headers, weight_files

_SAMPLE = 1 << 16


@dataclass(frozen=True)
class Linear:
    """The linear layers of one name and shape, over all blocks of the decoder."""

    name: str
    """The last part of their name: q_proj."""
    inputs: int
    outputs: int
    count: int

    @property
    def parameters(self) -> int:
        """Weights of all of them, without biases."""
        return self.inputs * self.outputs * self.count


@dataclass(frozen=True)
class ModelInfo:
    """What a model folder says about itself. Sizes are counts, `weight_bytes` is bytes on the disk."""

    path: Path
    name: str
    model_type: str
    architecture: str
    parameters: int
    dtype: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    chat_template: bool
    vision: bool
    weight_bytes: int
    linears: tuple[Linear, ...] = ()
    """What a LoRA can be put on, as the headers say; empty where the weights have no headers (.bin)."""
    experts: tuple[Linear, ...] = ()
    """Routed experts, which get a LoRA only where they are asked for."""
    stored: Stored = UNQUANTISED
    """How the weights are quantised in the files; sizes and parameters are those of the unquantised model."""

    @property
    def size(self) -> str:
        """Parameters in the unit people use: 260K, 135M, 8.0B."""
        for unit, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
            if self.parameters >= scale:
                value = self.parameters / scale
                return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"
        return str(self.parameters)


def read_model_info(folder: Path, name: str = "") -> ModelInfo:
    """Read config.json and the safetensors headers of `folder`.

    Raises ModelError when either is missing, damaged or cannot be true, or the weights are quantised in a way that
    cannot be trained.
    """
    config = read_config(folder)
    shown = name or short_path(folder)
    stored = stored_as(config, shown)
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) and nested else config
    architectures = config.get("architectures")
    heads = _first(text, "num_attention_heads", "n_head", "n_heads", default=1)
    hidden = _first(text, "hidden_size", "n_embd", "d_model", default=0)
    files, headers = weight_files(folder), read_headers(folder)
    layers = _first(text, "num_hidden_layers", "n_layer", "n_layers", default=1)
    if headers and layers > len(headers):
        raise ModelError(
            f"{short_path(folder / 'config.json')} says that there are {counted(layers, 'layer')}, and the weight "
            f"files hold only {counted(len(headers), 'tensor')}; {AGAIN}"
        )
    headers = dequantised(folder, headers, stored, shown)
    parameters, dtype = _count(files, headers, str(config.get("dtype") or config.get("torch_dtype") or "float32"))
    if stored.words:
        parameters, dtype = parameters if headers else int(_bytes(files) / stored.bytes_each), stored.words
    return ModelInfo(
        path=folder,
        name=name or folder.name,
        model_type=str(config.get("model_type", "")),
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else "",
        parameters=parameters,
        dtype=dtype,
        vocab_size=_first(text, "vocab_size", default=0),
        hidden_size=hidden,
        intermediate_size=_first(
            text, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", default=4 * hidden
        ),
        layers=layers,
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        head_dim=_first(text, "head_dim", default=hidden // max(heads, 1)),
        max_positions=_first(text, "max_position_embeddings", "n_positions", "n_ctx", default=0),
        chat_template=_has_chat_template(folder),
        vision="vision_config" in config,
        weight_bytes=_bytes(files),
        linears=_linears(headers, transposed=config.get("model_type") in _TRANSPOSED),
        experts=_experts(headers),
        stored=stored,
    )


def fingerprint(folder: Path) -> str:
    """A hash that tells base models apart: every header, and samples of every weight file; independent of its path."""
    digest = hashlib.sha256()
    for file in weight_files(folder):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as data:
            for offset in sorted({0, size // 3, size // 2, max(0, size - _SAMPLE)}):
                data.seek(offset)
                digest.update(data.read(_SAMPLE))
    return digest.hexdigest()


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "U8": "uint8", "I8": "int8"}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


def _bytes(files: list[Path]) -> int:
    return sum(f.stat().st_size for f in files)


def _count(files: list[Path], headers: Mapping[str, TensorHeader], config_dtype: str) -> tuple[int, str]:
    """Parameters and the dtype most of them have. Without headers (.bin): file size over the config's dtype."""
    if not headers:
        return _bytes(files) // _BYTES.get(config_dtype, 4), config_dtype
    counts: dict[str, int] = {}
    for tensor in headers.values():
        dtype = _DTYPES.get(tensor.dtype, tensor.dtype)
        counts[dtype] = counts.get(dtype, 0) + math.prod(tensor.shape)
    return sum(counts.values()), max(counts, key=lambda d: counts[d], default=config_dtype)


_TRANSPOSED = ("gpt2", "openai-gpt")
"""Families whose layers are Conv1D: weights stored (in, out)."""
_TOWERS = ("vision", "visual", "audio", "image")
"""Parts of the names of weights that text does not pass through."""
_ROUTED = ".experts."
"""Part of the names of weights of which a token passes through a few, often fused into one block a layer."""


def _linears(headers: Mapping[str, TensorHeader], transposed: bool) -> tuple[Linear, ...]:
    """Matrices inside numbered blocks, by name and shape: embeddings and the output layer lie outside of those."""
    counts: dict[tuple[str, int, int], int] = {}
    for key, tensor in headers.items():
        *block, name, kind = ("", "", *key.split("."))
        inside = any(part.isdigit() for part in block) and not any(part in key for part in (*_TOWERS, _ROUTED))
        if kind == "weight" and inside and len(tensor.shape) == 1 and tensor.dtype == UNSHAPED:
            return ()
        if kind == "weight" and inside and len(tensor.shape) == 2:
            outputs, inputs = reversed(tensor.shape) if transposed else tensor.shape
            counts[name, inputs, outputs] = counts.get((name, inputs, outputs), 0) + 1
    return tuple(Linear(*shape, count) for shape, count in counts.items())


def _experts(headers: Mapping[str, TensorHeader]) -> tuple[Linear, ...]:
    """Routed experts: matrices with a number each, or all of a layer in one block."""
    counts: dict[tuple[int, int], int] = {}
    for key, tensor in headers.items():
        if _ROUTED in key and len(tensor.shape) in (2, 3) and "bias" not in key and not any(t in key for t in _TOWERS):
            *blocks, outputs, inputs = tensor.shape
            counts[inputs, outputs] = counts.get((inputs, outputs), 0) + math.prod(blocks)
    return tuple(Linear(EXPERTS, *shape, count) for shape, count in counts.items())


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(read_object(config).get("chat_template"))


def _kv_heads(config: dict[str, object], heads: int) -> int:
    """One for all under multi_query (Falcon 7B), whatever num_kv_heads says; not in Falcon's newer layout."""
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    return _first(config, "num_key_value_heads", "num_kv_heads", default=heads)


def _first(config: dict[str, object], *names: str, default: int) -> int:
    """The first of `names` that the config gives: families spell the same size differently."""
    for name in names:
        if isinstance(value := config.get(name), int):
            return value
    return default
