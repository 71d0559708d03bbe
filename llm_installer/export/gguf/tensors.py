"""The tensors of a GGUF file: which there are, what they are called, how they are laid out and in which type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path

import torch
from gguf import GGML_QUANT_SIZES, MODEL_ARCH, MODEL_ARCH_NAMES, GGMLQuantizationType, get_tensor_name_map
from torch import Tensor
from transformers import PreTrainedModel

from llm_installer.core.errors import AdapterError, ModelError
from llm_installer.core.safetensors import read_header
from llm_installer.core.text import shortened
from llm_installer.core.weight_files import read_headers, weight_files
from llm_installer.export.changes import Change, same
from llm_installer.export.gguf.facts import Facts
from llm_installer.export.gguf.families import Family
from llm_installer.export.gguf.layout import Layout, turned
from llm_installer.export.gguf.rope import FREQUENCIES, frequencies, rope_of
from llm_installer.export.merged import Merged
from llm_installer.export.shards import FLOATS, Source, first_byte
from llm_installer.models.file_names import places, tied_weights

TYPES = {
    "f32": GGMLQuantizationType.F32,
    "f16": GGMLQuantizationType.F16,
    "bf16": GGMLQuantizationType.BF16,
    "q8_0": GGMLQuantizationType.Q8_0,
}
"""What the weights of matrices can be stored in."""
_ALWAYS_F32 = ("position_embd.weight",)
"""Beside all that has one dimension."""


@dataclass(frozen=True)
class Planned:
    """A tensor to be written."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    read: Callable[[], Iterable[Tensor]]
    """Its content as it is laid out, in float32, a few rows at a time."""
    indivisible: bool = False
    """Whether it is f16 because its rows cannot be cut into blocks."""

    @property
    def bytes(self) -> int:
        block, each = GGML_QUANT_SIZES[self.kind]
        return prod(self.shape) // block * each


@dataclass(frozen=True)
class Read:
    """A model to be written, as its files and its architecture say."""

    folder: Path
    bare: PreTrainedModel
    """Without its weights."""
    family: Family
    changes: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    """What an adapter does to each parameter."""

    @property
    def facts(self) -> Facts:
        return Facts(self.bare.config.to_dict())


def plan_tensors(model: Read, kind: str) -> list[Planned]:
    """Plan the file; no weight is read. `kind` is one of TYPES.

    Raises ModelError for tensors that cannot be written, and for a model that lacks some.
    """
    tied, changes = tied_weights(model.bare), model.changes
    untied = tied is not None and not same(*(changes.get(each, ()) for each in tied))
    if model.family.output == "tied" and (untied or not tied):
        raise ModelError(
            "The model has an output layer of its own, and llama.cpp computes with the embedding instead for this "
            "architecture; train without lm_head in --modules-to-save to have one that can be written"
        )
    sources = _by_parameter(model)
    left = sorted(set(changes) - {*sources, *(tied or ())})
    if left:
        raise AdapterError(f"The adapter changes {shortened(left[0], 150)}, which no tensor of the base's files holds")
    if tied and (untied or model.family.output == "own"):
        sources.setdefault(tied[1], sources[tied[0]])
    elif tied:
        sources.pop(tied[1], None)
    found = sorted(_planned(model, sources, kind), key=_order)
    doubled = {each.name for each in found if [other.name for other in found].count(each.name) > 1}
    if doubled:
        raise ModelError(f"Two tensors of the model would both be called {min(doubled)}, so it cannot be written")
    return found


def _by_parameter(model: Read) -> dict[str, Source]:
    """The tensor in the files for each parameter. Raises ModelError where one is missing, or not stored as it is."""
    headers = read_headers(model.folder)
    where = places(model.bare, headers)
    sources: dict[str, Source] = {}
    for file in weight_files(model.folder):
        start = first_byte(file)
        for name, header in read_header(file).items():
            place = where.get(name)
            if place is None:  # buffers of older files
                continue
            if place.converted or place.expert is not None or header.dtype not in FLOATS:
                raise ModelError(f"{shortened(name, 100)} is stored in a form that cannot be written as GGUF")
            sources[place.parameter] = Source(file, header, start)
    tied = tied_weights(model.bare) or ()
    lost = [name for name, _ in model.bare.named_parameters() if name not in sources and name not in tied]
    if tied and tied[0] not in sources and tied[1] in sources:
        sources[tied[0]] = sources[tied[1]]
    if lost or (tied and tied[0] not in sources):
        raise ModelError(f"The model lacks the tensor {shortened((lost or list(tied))[0], 100)}; install it again")
    return sources


def _planned(model: Read, sources: Mapping[str, Source], kind: str) -> Iterator[Planned]:
    names = names_of(model)
    for parameter, source in sources.items():
        name = names(parameter)
        layout = layout_of(model, name)
        shape = source.header.shape
        merged = Merged(source, tuple(model.changes.get(parameter, ())))
        laid = tuple(reversed(shape)) if layout is turned else shape
        chosen, indivisible = _kind(name, laid, kind)
        yield Planned(name, laid, chosen, partial(_content, merged, layout, model.facts), indivisible)
    divisors = frequencies(rope_of(model.facts), model.facts.head_dim)
    if divisors is not None:
        content = divisors
        yield Planned(FREQUENCIES, tuple(content.shape), GGMLQuantizationType.F32, lambda: [content])


def _content(merged: Merged, layout: Layout | None, facts: Facts) -> Iterator[Tensor]:
    """A few rows at a time where they stay where they are, else all at once."""
    if layout is None:
        yield from merged.parts()
    else:
        yield layout(merged.whole(), facts).contiguous()


def names_of(model: Read) -> Callable[[str], str]:
    """What parameters are called in the file; it raises ModelError for those that llama.cpp has no place for."""
    arch = next(each for each, name in MODEL_ARCH_NAMES.items() if name == model.family.arch)
    names = get_tensor_name_map(MODEL_ARCH(arch), model.facts.layers)

    def name_of(parameter: str) -> str:
        name = names.get_name(parameter, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ModelError(f"llama.cpp has no place for {shortened(parameter, 100)}, so the model cannot be written")
        return str(name)

    return name_of


def layout_of(model: Read, name: str) -> Layout | None:
    """How the tensor of that name is laid out; None for as it is."""
    return next((each for pattern, each in model.family.layouts if pattern in f".{name}"), None)


def _kind(name: str, shape: tuple[int, ...], kind: str) -> tuple[GGMLQuantizationType, bool]:
    """The type of a tensor, and whether it is f16 because its rows do not divide into blocks."""
    if len(shape) < 2 or name in _ALWAYS_F32:
        return GGMLQuantizationType.F32, False
    if shape[-1] % GGML_QUANT_SIZES[TYPES[kind]][0]:
        return GGMLQuantizationType.F16, True
    return TYPES[kind], False


def _order(planned: Planned) -> tuple[int, str]:
    """Embedding first, then block by block, then what follows them."""
    parts = planned.name.split(".")
    block = int(parts[1]) if parts[0] == "blk" else -1 if parts[0].startswith(("token", "position")) else 1 << 20
    return block, planned.name


def float16_safe(weight: Tensor) -> bool:
    """Whether float16 can hold it."""
    return bool(weight.abs().max() <= torch.finfo(torch.float16).max) if weight.numel() else True
