"""An adapter as a GGUF file, as llama.cpp puts it on the GGUF file of its base.

llama.cpp multiplies each product by alpha / rank, with one alpha for all: what an adapter scales otherwise is in B.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor

from llm_installer.core.hints import program, typed
from llm_installer.core.model_info import ModelInfo
from llm_installer.export.gguf.facts import Facts, Values
from llm_installer.export.gguf.file import read_model, refuse_family
from llm_installer.export.gguf.layout import Layout, turned
from llm_installer.export.gguf.tensors import TYPES, Planned, layout_of, names_of
from llm_installer.export.gguf.write import write_gguf
from llm_installer.export.pairs.forms import Form
from llm_installer.export.pairs.pairs import Pair
from llm_installer.export.subject import Subject

_ALPHA = "adapter.lora.alpha"
_HALVES = (".lora_a", ".lora_b")


def write(info: ModelInfo, pairs: Mapping[str, Pair], target: Path, kind: str) -> None:
    """Write the file. Raises DiskError, and ModelError for a weight that llama.cpp has no place for."""
    model = read_model(info)
    names, alpha = names_of(model), float(max(pair.rank for pair in pairs.values()))
    tensors: list[Planned] = []
    for parameter, pair in sorted(pairs.items()):
        name = names(parameter)
        b = _rows(pair.b * (pair.rank / alpha), layout_of(model, name), model.facts)
        tensors += [_planned(f"{name}{half}", each, kind) for half, each in zip(_HALVES, (pair.a, b), strict=True)]
    values: Values = {"general.type": "adapter", "general.name": info.name, "adapter.type": "lora", _ALPHA: alpha}
    write_gguf(target, model.family.arch, values, tensors, kind)


def read(info: ModelInfo, file: Path) -> dict[str, Pair]:
    """The pairs in a file, by the parameters of the model; what belongs to none of them has its own name."""
    model, reader = read_model(info), GGUFReader(file)
    names = names_of(model)
    known = {names(name): name for name, weight in model.bare.named_parameters() if weight.ndim == 2}
    stored = {t.name: torch.from_numpy(np.array(dequantize(t.data, t.tensor_type))) for t in reader.tensors}
    alpha = float(reader.fields[_ALPHA].contents())
    found: dict[str, Pair] = {}
    for name in {name.removesuffix(half) for name in stored for half in _HALVES if name.endswith(half)}:
        a, b = (stored[f"{name}{half}"] for half in _HALVES)
        scale = alpha / b.shape[1] if alpha else 1.0
        layout = layout_of(model, name)
        # Which row of the weight each row in the file is.
        order = _rows(torch.arange(b.shape[0])[:, None], layout, model.facts)[:, 0]
        own = torch.empty_like(b)
        own[order] = b * scale
        found[known.get(name, name)] = Pair(a, own)
    return found


def _rows(b: Tensor, layout: Layout | None, facts: Facts) -> Tensor:
    """B with its rows where those of the weight are in the file. One for a weight that is stored [in, out] is already
    as the turned weight is."""
    return b if layout is None or layout is turned else layout(b, facts).contiguous()


def _planned(name: str, content: Tensor, kind: str) -> Planned:
    return Planned(name, tuple(content.shape), TYPES[kind], lambda: [content.contiguous()])


def _commands(subject: Subject, file: Path) -> tuple[str, ...]:
    base = f"{program()} export {subject.folder.typed} --to gguf --no-lora --out base.gguf"
    return base, f"llama-cli -m base.gguf --lora {typed(file)}"


FORM = Form("a LoRA in GGUF", "lora.gguf", refuse_family, write, read, _commands)
