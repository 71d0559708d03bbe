"""An adapter as mlx-lm loads it: both matrices turned, one rank and one scale for all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from llm_installer.core.config import read_config
from llm_installer.core.errors import AdapterError, ModelError
from llm_installer.core.files import write_json
from llm_installer.core.hints import quoted, typed
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.text import shortened
from llm_installer.export.pairs.forms import Form
from llm_installer.export.pairs.pairs import DORA, Pair, padded
from llm_installer.export.place import empty_folder
from llm_installer.export.shards import Output, write_file
from llm_installer.export.subject import Subject

FAMILIES = ("gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3")
"""Those whose layers have the same names in mlx-lm."""
WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
_LAYER = "model.layers."
_HEAD = "lm_head"


def refuse(info: ModelInfo) -> None:
    """Raise ModelError for a family whose layers have other names there."""
    if info.model_type not in FAMILIES:
        raise ModelError(
            f"{info.name} is of the family {info.model_type or 'unknown'}, and only for these mlx-lm has the same "
            f"names of layers: {', '.join(FAMILIES)}"
        )


def write(info: ModelInfo, pairs: Mapping[str, Pair], target: Path, kind: str) -> None:
    """Make the folder. Raises DiskError, and AdapterError for a weight outside of the layers."""
    rank = max(pair.rank for pair in pairs.values())
    tensors: dict[str, Tensor] = {}
    keys = set()
    for parameter, pair in sorted(pairs.items()):
        name = parameter.removesuffix(".weight")
        keys.add(_key(name))
        whole = padded(pair, rank)
        tensors |= {f"{name}.lora_a": whole.a.T, f"{name}.lora_b": whole.b.T}
        if whole.lengths is not None:
            tensors[f"{name}.m"] = whole.lengths
    dora = any(pair.lengths is not None for pair in pairs.values())
    config = {
        "fine_tune_type": "dora" if dora else "lora",
        "num_layers": read_config(info.path)["num_hidden_layers"],
        "lora_parameters": {"rank": rank, "scale": 1.0, "dropout": 0.0, "keys": sorted(keys)},
    }
    empty_folder(target)
    write_file(target / WEIGHTS, [_output(name, tensor.contiguous()) for name, tensor in tensors.items()])
    write_json(target / CONFIG, config)


def _key(name: str) -> str:
    """The name of a weight in its layer."""
    if name == _HEAD:
        return name
    if not name.startswith(_LAYER):
        raise AdapterError(f"The adapter changes {shortened(name, 100)}, which mlx-lm does not adapt; merge it first")
    return name.removeprefix(_LAYER).partition(".")[2]


def _output(name: str, tensor: Tensor) -> Output:
    each = 4 * (tensor.shape[1] if tensor.ndim > 1 else 1)
    return Output(name, "F32", tuple(tensor.shape), lambda start, stop: tensor[start:stop], each)


def read(info: ModelInfo, folder: Path) -> dict[str, Pair]:
    """The pairs in a folder by the names of the weights, as mlx-lm computes with them: scale * (x @ a) @ b."""
    stored = load_file(folder / WEIGHTS)
    scale = float(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["lora_parameters"]["scale"])
    names = {name.rpartition(".")[0] for name in stored}
    return {f"{name}.weight": _pair(stored, name, scale) for name in names}


def _pair(stored: Mapping[str, Tensor], name: str, scale: float) -> Pair:
    a, b = stored[f"{name}.lora_a"], stored[f"{name}.lora_b"]
    return Pair(a.T.to(torch.float32), scale * b.T.to(torch.float32), stored.get(f"{name}.m"))


def _commands(subject: Subject, folder: Path) -> tuple[str, ...]:
    model = quoted(str(subject.info.path))
    return (f"mlx_lm.generate --model {model} --adapter-path {typed(folder)} --prompt 'Hello!'",)


FORM = Form("an adapter of mlx-lm", "mlx", refuse, write, read, _commands, (DORA,))
