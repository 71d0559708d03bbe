"""The tensors of a merged model, file by file as those of its base: sums in float32, rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from llm_installer.core.errors import AdapterError, ModelError
from llm_installer.core.safetensors import read_header
from llm_installer.core.text import shortened
from llm_installer.core.weight_files import weight_files
from llm_installer.export.changes import Change, Rows, same
from llm_installer.export.shards import FLOATS, NAMES, Output, Source, first_byte, spans
from llm_installer.models.file_names import Place

RoundTrip: TypeAlias = "Callable[[Tensor], Tensor]"
"""A weight as it is after it was quantised and dequantised."""


@dataclass
class Count:
    """How many weights a change moved in float32, and how many of those the rounding put back."""

    moved: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Base:
    """A base model as its files and its architecture say."""

    folder: Path
    places: Mapping[str, Place]
    tied: tuple[str, str] | None
    """The parameters of embedding and output layer where these are one tensor."""
    quantised: frozenset[str] = frozenset()
    """Parameters that go through `round_trip` first."""
    round_trip: RoundTrip | None = None


@dataclass(frozen=True)
class Plan:
    """What is written: the tensors of each file, by its name."""

    files: Mapping[str, Sequence[Output]]
    untied: int
    """Bytes that an output layer of its own takes; 0 where it is still the embedding, or never was."""
    count: Count = field(default_factory=Count)

    @property
    def bytes(self) -> int:
        return sum(each.bytes for outputs in self.files.values() for each in outputs)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the result: what it is called, what it is made of, what is done to it."""

    name: str
    source: Source
    changes: tuple[Change, ...] = ()
    round_trip: RoundTrip | None = None


def plan_files(base: Base, changes: Mapping[str, Sequence[Change]], dtype: str) -> Plan:
    """Plan the files of the merged model; no weight is read. `dtype` is one of torch's names, or `auto` for that of
    each tensor.

    Raises ModelError for tensors that cannot be changed as they are stored, AdapterError where nothing takes a change.
    """
    files = {file: _sources(file) for file in weight_files(base.folder)}
    head, taken = _head(base, changes, files)
    tensors: dict[str, list[_Tensor]] = {}
    for file, sources in files.items():
        found = tensors.setdefault(file.name, [])
        for name, source in sources.items():
            place = base.places.get(name)
            if place is None:  # a tensor that transformers leaves in the file
                found.append(_Tensor(name, source))
                continue
            taken.add(place.parameter)
            found.append(_changed(base, name, source, place, changes.get(place.parameter, ())))
        if head and head.source.file == file:
            found.append(head)
    left = sorted(set(changes) - taken)
    if left:
        raise AdapterError(f"The adapter changes {shortened(left[0], 150)}, which no tensor of the base's files holds")
    count = Count()
    outputs = {name: [_output(each, dtype, count) for each in found] for name, found in tensors.items()}
    untied = _output(head, dtype, count).bytes if head else 0
    return Plan(outputs, untied, count)


def _sources(file: Path) -> dict[str, Source]:
    start = first_byte(file)
    return {name: Source(file, header, start) for name, header in read_header(file).items()}


def _changed(base: Base, name: str, source: Source, place: Place, changes: Sequence[Change]) -> _Tensor:
    """A tensor of the files with its part of what is done to the parameter."""
    if changes and place.converted:
        raise ModelError(
            f"{shortened(name, 100)} is stored in another form than {shortened(place.parameter, 100)}, which the "
            "adapter changes, and cannot be merged file by file"
        )
    if changes and source.header.dtype not in FLOATS:
        raise ModelError(f"{shortened(name, 100)} is stored as {source.header.dtype}, and no LoRA can be added to that")
    whole = place.expert is None and not place.first and not place.part
    parts = tuple(changes) if whole else tuple(c.part(place.expert, place.first, source.count) for c in changes)
    trip = base.round_trip if place.parameter in base.quantised else None
    return _Tensor(name, source, parts, trip)


def _head(
    base: Base, changes: Mapping[str, Sequence[Change]], files: Mapping[Path, Mapping[str, Source]]
) -> tuple[_Tensor | None, set[str]]:
    """The output layer that a tied model needs from now on, and which changes are settled by its being tied.

    It needs one where its embedding and its output layer are no longer the same, and its files hold only one of them.
    """
    if base.tied is None:
        return None, set()
    one, other = base.tied
    held = {place.parameter: name for name, place in base.places.items() if place.parameter in base.tied}
    if same(changes.get(one, ()), changes.get(other, ())):
        return None, {one, other}
    if len(held) != 1:
        return None, set()
    present, absent = (one, other) if one in held else (other, one)
    source = next(sources[held[present]] for sources in files.values() if held[present] in sources)
    return _Tensor(absent, source, tuple(changes.get(absent, ()))), {absent}


def untied_by(base: Base, changes: Mapping[str, Sequence[Change]]) -> bool:
    """Whether a tied embedding and output layer are two from now on."""
    return base.tied is not None and not same(*(changes.get(each, ()) for each in base.tied))


def _output(tensor: _Tensor, dtype: str, count: Count) -> Output:
    header = tensor.source.header
    columns = math.prod(header.shape[1:])
    if header.dtype not in FLOATS:
        each = (header.end - header.start) // max(1, tensor.source.count)
        return Output(tensor.name, header.dtype, header.shape, _bytes_of(tensor.source), each)
    kind = FLOATS[header.dtype] if dtype == "auto" else getattr(torch, dtype)
    rows = _merged(tensor, kind, count) if tensor.changes or tensor.round_trip else _cast(tensor.source, kind)
    return Output(tensor.name, NAMES[kind], header.shape, rows, columns * kind.itemsize)


def _bytes_of(source: Source) -> Rows:
    return lambda start, stop: torch.frombuffer(source.data(start, stop), dtype=torch.uint8)


def _cast(source: Source, kind: torch.dtype) -> Rows:
    return lambda start, stop: source.rows(start, stop).to(kind)


def _merged(tensor: _Tensor, kind: torch.dtype, count: Count) -> Rows:
    """The rows of a tensor that changes."""
    source, ready = tensor.source, _Ready(tensor)

    def rows(start: int, stop: int) -> Tensor:
        old, changes = ready.old(start, stop), ready.changes()
        new = old
        for change in changes:
            new = change.rows(start, stop, new)
        rounded = new.to(kind)
        moved = new != old
        count.moved += int(moved.sum())
        count.lost += int((moved & (rounded == old.to(kind))).sum())
        if stop >= source.count:
            ready.forget()
        return rounded

    return rows


class _Ready:
    """What a tensor needs from all of its rows before the first is written, kept until the last."""

    def __init__(self, tensor: _Tensor) -> None:
        self._tensor = tensor
        self._changes: list[Change] | None = None
        self._weight: Tensor | None = None

    def old(self, start: int, stop: int) -> Tensor:
        """Rows of the base in float32, dequantised where it was quantised in training."""
        if self._tensor.round_trip is None:
            return self._tensor.source.floats(start, stop)
        if self._weight is None:
            self._weight = self._tensor.round_trip(self._tensor.source.rows(0, self._tensor.source.count))
        return self._weight[start:stop].float()

    def changes(self) -> list[Change]:
        if self._changes is None:
            self._changes = []
            steps = spans(self._tensor.source.count, self._tensor.source.header.shape)
            for change in self._tensor.changes:
                self._changes.append(change.prepared(partial(self._after, tuple(self._changes)), steps))
        return self._changes

    def _after(self, changes: Sequence[Change], start: int, stop: int) -> Tensor:
        rows = self.old(start, stop)
        for change in changes:
            rows = change.rows(start, stop, rows)
        return rows

    def forget(self) -> None:
        self._changes, self._weight = None, None


def named(plan: Plan) -> Iterator[tuple[str, str]]:
    """(tensor, file) of all that is written."""
    return ((each.name, file) for file, outputs in plan.files.items() for each in outputs)
