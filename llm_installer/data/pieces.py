"""A row as pieces of text: each the fewest tokens whose characters are complete, and whether they are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from llm_installer.data.encoding.row import Row

_HALF = "\ufffd"
"""What a decoder writes for a part of a character."""
_LONGEST = 8
"""Tokens of a piece at most: what is no text in the end is shown as it is."""


class Decoder(Protocol):
    """A tokenizer, as far as texts are made of ids."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> object:
        """The text of ids."""


@dataclass(frozen=True)
class Piece:
    """Some tokens of a row that follow each other."""

    ids: tuple[int, ...]
    text: str
    """The characters that they add to what stands before them."""
    learned: bool
    """Whether they are trained on."""


def pieces(row: Row, tokenizer: Decoder) -> Iterator[Piece]:
    """The row from its first to its last token; their texts, one after the other, are the text of the row."""
    ids, learned = row.ids.tolist(), row.supervised.tolist()
    before = start = 0
    for end in range(1, len(ids) + 1):
        # A space that begins a word may belong to its token or not: only the text before it tells.
        known, found = (_text(tokenizer, ids[before:at]) for at in (start, end))
        ends = end == len(ids) or learned[end] != learned[start] or end - start == _LONGEST
        if found.endswith(_HALF) and not ends:
            continue
        yield Piece(tuple(ids[start:end]), found[len(known) :], learned[start])
        before, start = start, end


def _text(tokenizer: Decoder, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False)) if ids else ""
