"""What an adapter does to one tensor of the base, computed in float32 a few rows at a time.

A tensor of n dimensions is seen as shape[0] rows, so that no more than a few of them are in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = "Callable[[int, int], Tensor]"
"""The rows from start to stop of a tensor, in float32."""


class Change(Protocol):
    """One thing that is done to a tensor."""

    def rows(self, start: int, stop: int, old: Tensor) -> Tensor:
        """The rows from start to stop as they become; `old` is what they are, in float32, and stays as it is."""

    def part(self, expert: int | None, first: int, count: int) -> Change:
        """The same for `count` rows from `first`, of one expert where the tensor holds several."""

    def prepared(self, old: Rows, spans: Iterable[tuple[int, int]]) -> Change:
        """The same once it has seen all that it must see of a tensor before its first row."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """scale * left @ right is added: LoRA, rsLoRA; of several experts one such product each."""

    left: Tensor
    """[rows, rank], or [experts, rows, rank]."""
    right: Tensor
    """[rank, columns], or [experts, rank, columns]."""
    scale: float

    def delta(self, start: int, stop: int) -> Tensor:
        """What is added to these rows, in float32."""
        right = self.right[start:stop] if self.right.ndim == 3 else self.right
        product: Tensor = torch.matmul(self.left[start:stop].float(), right.float()) * self.scale
        return product

    def rows(self, start: int, stop: int, old: Tensor) -> Tensor:
        return old + self.delta(start, stop)

    def part(self, expert: int | None, first: int, count: int) -> LowRank:
        left = self.left if expert is None else self.left[expert]
        right = self.right if expert is None else self.right[expert]
        return replace(self, left=left[first : first + count], right=right)

    def prepared(self, old: Rows, spans: Iterable[tuple[int, int]]) -> LowRank:
        return self


@dataclass(frozen=True, eq=False)
class Dora:
    """The sum with a low-rank product, each of its outputs scaled to a learned length (Liu et al., 2024)."""

    low: LowRank
    magnitude: Tensor
    """The length of each output."""
    by_row: bool
    """Whether a row is an output, as in a linear layer; in GPT-2's layers and in embeddings a column is."""
    lengths: Tensor | None = None
    """Of the columns of the sum, once they are known."""

    def rows(self, start: int, stop: int, old: Tensor) -> Tensor:
        new = self.low.rows(start, stop, old)
        if self.by_row:
            factors: Tensor = self.magnitude[start:stop].float() / torch.linalg.norm(new, dim=1)
            return new * factors[:, None]
        assert self.lengths is not None, "prepared() comes first"
        return new * (self.magnitude.float() / self.lengths)

    def part(self, expert: int | None, first: int, count: int) -> Dora:
        return replace(self, low=self.low.part(expert, first, count), magnitude=self.magnitude[first : first + count])

    def prepared(self, old: Rows, spans: Iterable[tuple[int, int]]) -> Dora:
        if self.by_row:
            return self
        squares = torch.zeros(self.magnitude.shape[0], dtype=torch.float64)
        for start, stop in spans:
            squares += self.low.rows(start, stop, old(start, stop)).double().square().sum(0)
        return replace(self, lengths=squares.sqrt().float())


@dataclass(frozen=True, eq=False)
class Replaced:
    """Another tensor in its place: modules_to_save, and biases that were trained."""

    value: Tensor

    def rows(self, start: int, stop: int, old: Tensor) -> Tensor:
        return self.value.reshape(old.shape).float() if not self.value.ndim else self.value[start:stop].float()

    def part(self, expert: int | None, first: int, count: int) -> Replaced:
        value = self.value if expert is None else self.value[expert]
        return Replaced(value[first : first + count])

    def prepared(self, old: Rows, spans: Iterable[tuple[int, int]]) -> Replaced:
        return self


@dataclass(frozen=True, eq=False)
class SomeRows:
    """Some rows in the place of others: trained tokens."""

    numbers: Tensor
    values: Tensor
    """[rows, columns], one for each of the numbers."""

    def rows(self, start: int, stop: int, old: Tensor) -> Tensor:
        new = old.clone()
        inside = (self.numbers >= start) & (self.numbers < stop)
        new[self.numbers[inside] - start] = self.values[inside].float()
        return new

    def part(self, expert: int | None, first: int, count: int) -> SomeRows:
        return replace(self, numbers=self.numbers - first)

    def prepared(self, old: Rows, spans: Iterable[tuple[int, int]]) -> SomeRows:
        return self


@dataclass(frozen=True, eq=False)
class Added:
    """scale * value is added: the bias of a LoRA."""

    value: Tensor
    scale: float

    def rows(self, start: int, stop: int, old: Tensor) -> Tensor:
        return old + self.value[start:stop].float() * self.scale

    def part(self, expert: int | None, first: int, count: int) -> Added:
        return replace(self, value=self.value[first : first + count])

    def prepared(self, old: Rows, spans: Iterable[tuple[int, int]]) -> Added:
        return self


def same(ones: Iterable[Change], others: Iterable[Change]) -> bool:
    """Whether two lists of changes do the same to the same tensor."""
    mine, yours = list(ones), list(others)
    return len(mine) == len(yours) and all(map(_equal, mine, yours))


def _equal(one: object, other: object) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, (LowRank, Dora, Replaced, SomeRows, Added)):
        return all(_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return one == other
