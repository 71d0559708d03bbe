"""From characters to tokens: which tokens of a text a span of it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Encoding


@dataclass(frozen=True)
class Listed:
    """Tokens that no fast tokenizer can be asked about singly, such as those of a text with images in it."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    """From which to which character each token reaches."""


Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Known:
    """Tokens of which somebody found out already which are learned."""

    ids: list[int]
    learned: list[Span]


Tokens: TypeAlias = "Encoding | Listed | Known"
"""The ids of a text, and from which to which character each of them reaches."""


def token_spans(tokens: Tokens, spans: Sequence[Span]) -> list[Span] | None:
    """From which to which token the learned spans reach; None when a token straddles the edge of one."""
    if isinstance(tokens, Known):
        return tokens.learned
    if isinstance(tokens, Listed):
        return _listed(tokens.offsets, spans)
    learned = [_span(tokens, *span) for span in spans]
    # To ask for single tokens costs less than to list where each of them lies.
    exact = [span for span in learned if span]
    return exact if len(exact) == len(spans) else _listed(tokens.offsets, spans)


def _span(tokens: Encoding, start: int, end: int) -> Span | None:
    """The tokens of one span, where its first and its last character each lie in a token that begins or ends there."""
    if end <= start:
        return None
    first, last = tokens.char_to_token(start), tokens.char_to_token(end - 1)
    if first is None or last is None:
        return None
    after = tokens.token_to_chars(last + 1) if last + 1 < len(tokens) else None
    edges = tokens.token_to_chars(first), tokens.token_to_chars(last), after
    if edges[0] is None or edges[1] is None or edges[0][0] != start or edges[1][1] != end:
        return None
    return None if after is not None and after[0] < end else (first, last + 1)


def _listed(offsets: Sequence[Span], spans: Sequence[Span]) -> list[Span] | None:
    """The same by looking at every token."""
    learned: list[Span] = []
    at = 0
    for start, end in spans:
        while at < len(offsets) and offsets[at][1] <= start:
            at += 1
        first = at
        while at < len(offsets) and offsets[at][0] < end:
            if offsets[at][0] < start or offsets[at][1] > end:
                return None
            at += 1
        learned.append((first, at))
    return learned


def pieces(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """(start, end, learned) covering the whole text in order."""
    found, at = [], 0
    for start, end in spans:
        found += [(at, start, False), (start, end, True)]
        at = end
    return [p for p in [*found, (at, len(text), False)] if p[1] > p[0]]
