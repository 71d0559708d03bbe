"""Which parameter of a model each tensor of its files becomes.

transformers renames some when it loads them, and fuses the experts of a layer that are stored one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from llm_installer.core.safetensors import TensorHeader


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor of the files lies in the model."""

    parameter: str
    """The model's own name of the tensor, or of the block that it becomes a part of."""
    expert: int | None = None
    """Its number in the first dimension of that block; None for what is no expert."""
    first: int = 0
    """The row of the block, or of the expert in it, that its own first row becomes."""
    converted: bool = False
    """Whether it becomes something else than rows of the parameter: turned, interleaved, split."""
    part: int = 0
    """Which of the tensors that are put together it is, in their order."""


def places(model: PreTrainedModel, headers: Mapping[str, TensorHeader]) -> dict[str, Place]:
    """The place of each tensor of the files in `model`, whose weights may be on the meta device; those that the model
    does not take are left out."""
    mapping = get_model_conversion_mapping(model)
    renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
    converters = [each for each in mapping if isinstance(each, WeightConverter)]
    by_pattern = {pattern: each for each in converters for pattern in each.source_patterns}
    own, prefix = model.state_dict(), model.base_model_prefix
    found: dict[str, Place] = {}
    seen: dict[tuple[str, str], int] = {}
    for name in sorted(headers, key=dot_natural_key):  # as transformers sorts them
        target, pattern = rename_source_key(name, renamings, converters, prefix, own)
        if target not in own and name in own:
            target, pattern = rename_source_key(name, [], [], prefix, own)
        if target not in own:
            continue
        if pattern is None:
            found[name] = Place(target)
            continue
        number = seen[target, pattern] = seen.get((target, pattern), -1) + 1
        found[name] = _part(target, by_pattern[pattern], pattern, number)
    return _with_rows(found, headers)


def _part(target: str, converter: WeightConverter, pattern: str, number: int) -> Place:
    """A tensor that is put together with others, the `number`th of its pattern."""
    kinds = [(type(each), getattr(each, "dim", None)) for each in converter.operations]
    part = converter.source_patterns.index(pattern)
    one_target = len(converter.target_patterns) == 1
    if one_target and kinds in ([(MergeModulelist, 0)], [(MergeModulelist, 0), (Concatenate, 1)]):
        return Place(target, expert=number, part=part)
    if one_target and kinds == [(Concatenate, 0)] and number == 0:
        return Place(target, part=part)
    return Place(target, converted=True)


def _with_rows(found: Mapping[str, Place], headers: Mapping[str, TensorHeader]) -> dict[str, Place]:
    """The same with the first row of each: the parts of a block lie one below the other."""
    blocks: dict[tuple[str, int | None], list[str]] = {}
    for name, place in found.items():
        blocks.setdefault((place.parameter, place.expert), []).append(name)
    rows = (each for names in blocks.values() for each in _rows(names, found, headers))
    return {name: replace(found[name], first=first) for name, first in rows}


def _rows(
    names: Sequence[str], found: Mapping[str, Place], headers: Mapping[str, TensorHeader]
) -> list[tuple[str, int]]:
    first, rows = 0, []
    for name in sorted(names, key=lambda each: found[each].part):
        rows.append((name, first))
        first += headers[name].shape[0] if headers[name].shape else 0
    return rows


def tied_weights(model: PreTrainedModel) -> tuple[str, str] | None:
    """The names of embedding and output layer where both are one tensor; None where they are two."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if output is None or getattr(output, "weight", None) is not getattr(embedding, "weight", embedding):
        return None
    names = {id(module): name for name, module in model.named_modules()}
    return f"{names[id(embedding)]}.weight", f"{names[id(output)]}.weight"
