"""The rows that are cut to the sequence length: what each of them loses, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llm_installer.core.arrays import Numbers
from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.encoding.cutting import Losses, losses, pieces_of
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.planning.cuts import CutFacts, Room, longer, lost_of_row

ANSWER_LOST = "nothing of its answer fits into the sequence length"


@dataclass(frozen=True)
class CutRow:
    """A row that is cut, and what it loses in words."""

    origin: Origin
    loses: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.loses}"


@dataclass(frozen=True)
class TextPieces:
    """Plain texts that are longer than the sequence length: they are cut into pieces, and nothing of them is lost."""

    texts: int = 0
    """Texts that are cut."""
    pieces: int = 0
    """Rows that they become."""


NO_PIECES = TextPieces()


@dataclass(frozen=True, eq=False)
class Side:
    """The rows of training or of validation before they are cut, and what cutting takes from them."""

    examples: Sequence[Example]
    rows: EncodedSet
    limit: int
    """In tokens."""

    @cached_property
    def losses(self) -> Losses:
        """What the rows lose that are longer."""
        return losses(self.rows, self.limit)

    @property
    def kept(self) -> Numbers:
        """Which of the cut rows, as indices of `losses`, have something left to train on."""
        return np.flatnonzero(self.losses.answer < self.rows.counts[self.losses.rows])

    @property
    def pieces(self) -> TextPieces:
        """What becomes of the plain texts that are longer."""
        lengths = self.rows.lengths[self.rows.text & (self.rows.lengths > self.limit)]
        return TextPieces(len(lengths), int(pieces_of(lengths, self.limit).sum()))

    @property
    def dropped(self) -> list[Dropped]:
        """The examples of which nothing is left to train on."""
        left = self.rows.counts.copy()
        left[self.losses.rows] -= self.losses.answer
        gone = np.setdiff1d(self.rows.source, self.rows.source[left > 0])
        return [Dropped(self.examples[i].origin, ANSWER_LOST) for i in gone]

    def __iter__(self) -> Iterator[CutRow]:
        lost = self.losses
        for i in self.kept:
            row = int(lost.rows[i])
            length, total = int(self.rows.lengths[row]), int(self.rows.counts[row])
            answer = (int(lost.answer[i]), total)
            loses = lost_of_row(length, self.limit, int(lost.question[i]), answer, bool(lost.end[i]))
            yield CutRow(self.examples[self.rows.source[row]].origin, loses)


def cut_facts(sides: Sequence[Side]) -> CutFacts:
    """What the cut rows of all sides lose together."""
    total = sum(int(side.rows.counts[~side.rows.text].sum()) for side in sides)
    lost = sum(int(side.losses.answer.sum()) for side in sides)
    lengths = [int(side.rows.lengths[side.losses.rows].max(initial=0)) for side in sides]
    return CutFacts(
        rows=sum(len(side.kept) for side in sides),
        of=sum(len(side.rows) for side in sides),
        question=sum(int((side.losses.question[side.kept] > 0).sum()) for side in sides),
        answer=sum(int((side.losses.answer[side.kept] > 0).sum()) for side in sides),
        end=sum(int(side.losses.end[side.kept].sum()) for side in sides),
        lost=lost / total if total else 0.0,
        longest=max(lengths, default=0),
    )


def refuse_cut(sides: Sequence[Side], room: Room) -> None:
    """Raise DataError for the first row that is cut: --strict allows none."""
    if first := next((row for side in sides for row in side), None):
        raise DataError(f"{first}; {longer(room)}, or run without --strict")
