"""From characters to tokens: which tokens a span of a text consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Encoding

Span: TypeAlias = tuple[int, int]
"""Start and end, of characters or of tokens; the end is not part of it."""


@dataclass(frozen=True)
class TokenList:
    """Tokens of a text that a processor made, such as one with images in it: plain lists instead of an Encoding."""

    ids: list[int]
    offsets: list[Span]
    """The characters of each token."""


Tokens: TypeAlias = "Encoding | TokenList"
"""The ids of a text, and the characters of each token."""


def token_spans(tokens: Tokens, spans: Sequence[Span], text: str) -> list[Span] | None:
    """The spans of tokens for spans of characters of `text`; None when a token straddles the edge of one.

    A last token may take the spaces behind its span too, as the end of a turn does in some vocabularies.
    """
    if isinstance(tokens, TokenList):
        return _by_offsets(tokens.offsets, spans, text)
    found = [_single_span(tokens, *span) for span in spans]
    # Asking for single tokens costs less than listing the offsets of all.
    exact = [span for span in found if span]
    return exact if len(exact) == len(spans) else _by_offsets(tokens.offsets, spans, text)


def _single_span(tokens: Encoding, start: int, end: int) -> Span | None:
    """The tokens of one span, where its first and its last character are each in a token that starts or ends there."""
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


def _by_offsets(offsets: Sequence[Span], spans: Sequence[Span], text: str) -> list[Span] | None:
    """The same by going through all tokens."""
    found: list[Span] = []
    at = 0
    for start, end in spans:
        while at < len(offsets) and offsets[at][1] <= start:
            at += 1
        first = at
        while at < len(offsets) and offsets[at][0] < end:
            if offsets[at][0] < start or not (offsets[at][1] <= end or text[end : offsets[at][1]].isspace()):
                return None
            at += 1
        found.append((first, at))
    return found


def pieces(text: str, spans: Sequence[Span]) -> list[tuple[int, int, bool]]:
    """(start, end, whether it is one of `spans`) of consecutive pieces that cover the text, none of them empty."""
    found, at = [], 0
    for start, end in spans:
        found += [(at, start, False), (start, end, True)]
        at = end
    return [p for p in [*found, (at, len(text), False)] if p[1] > p[0]]
