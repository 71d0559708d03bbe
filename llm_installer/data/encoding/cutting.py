"""Rows cut to a length, and what each length would lose: over all rows at once, whole rows never touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from llm_installer.data.encoding.encode import Mask, Row
from llm_installer.data.encoding.encoded import EncodedSet, Numbers

_CHUNK = 1 << 22
"""Tokens looked at together."""


def cut(rows: Sequence[Row], limit: int) -> EncodedSet:
    """Rows of at most `limit` tokens, each with something to learn. Plain text falls into pieces, none of it lost; of a
    conversation the beginning of the prompt goes first, then the end of the answer.

    Pieces of text overlap by one token, so that every token is predicted once. Of a conversation the first token stays
    (BOS, or the opening of the template); what follows it is a window onto the rest.
    """
    rows = rows if isinstance(rows, EncodedSet) else EncodedSet.of(rows)
    pieces = np.where(rows.text & (rows.lengths > limit), -(-(rows.lengths - 1) // (limit - 1)), 1)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    parts = rows.select(np.repeat(np.arange(len(rows)), pieces))
    starts, lengths, counts = parts.starts.copy(), parts.lengths.copy(), parts.counts.copy()
    long = np.flatnonzero(parts.lengths > limit)
    for chosen, ends, learned in _chunks(parts, long):
        sizes = parts.lengths[chosen]
        text = parts.text[chosen]
        answers = _last_answer(learned, ends, sizes)
        offset = np.where(text, number[chosen] * (limit - 1), _window(answers, sizes, limit))
        lengths[chosen] = np.minimum(limit, sizes - offset)
        counts[chosen] = _learned_within(learned, ends - sizes + offset, lengths[chosen])
        starts[chosen] += offset
    heads = np.where(parts.text, starts, parts.heads)
    found = replace(parts, heads=heads, starts=starts, lengths=lengths, counts=counts)
    return found if (counts > 0).all() else found.select(np.flatnonzero(counts))


def lost_shares(rows: Sequence[Row], step: int = 64) -> list[tuple[int, float]]:
    """(limit, share of learned tokens lost by cutting rows to it), ascending, up to the longest row.

    Plain text is cut into pieces and loses nothing; a limit counts as losing the rows that it would break.
    """
    rows = rows if isinstance(rows, EncodedSet) else EncodedSet.of(rows)
    total = int(rows.counts.sum()) or 1
    longest = int(rows.lengths.max()) if len(rows) else step
    limits = [*range(step, longest, step), longest]
    lost = np.zeros(len(limits), np.int64)
    for chosen, ends, learned in _chunks(rows, np.flatnonzero(rows.lengths > step)):
        sizes, counts, text = rows.lengths[chosen], rows.counts[chosen], rows.text[chosen]
        answers = _last_answer(learned, ends, sizes)
        sums = _sums(learned)
        by_size = np.argsort(-sizes, kind="stable")
        longer = np.searchsorted(-sizes[by_size], -np.asarray(limits), side="left")
        for place, (limit, many) in enumerate(zip(limits, longer, strict=True)):
            if not many:
                break
            those = by_size[:many]
            offset = _window(answers[those], sizes[those], limit)
            begin = ends[those] - sizes[those] + offset
            kept = sums[begin + limit] - sums[begin + 1]
            lost[place] += int((counts[those] - np.where(text[those], 0, kept)).sum())
    return [(limit, int(gone) / total) for limit, gone in zip(limits, lost, strict=True)]


def cut_shares(rows: EncodedSet) -> list[tuple[int, float]]:
    """(limit, share lost by cutting rows to it), ascending: of the learned tokens or of all, whichever is more.

    A prompt that is cut teaches answers to what nobody asked; only where the model reads no more is it the lesser evil.
    """
    total = int(rows.lengths.sum()) or 1
    return [
        (limit, max(share, int(np.maximum(rows.lengths - limit, 0).sum()) / total))
        for limit, share in lost_shares(rows)
    ]


def _chunks(rows: EncodedSet, chosen: Numbers) -> Iterator[tuple[Numbers, Numbers, Mask]]:
    """The chosen rows a few at a time: their indices, where each ends, and their learned flags in one array."""
    sizes = rows.lengths[chosen]
    parts = (np.cumsum(sizes) - 1) // _CHUNK
    for part in np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(parts)) + 1):
        if len(part):
            ends = np.cumsum(sizes[part])
            at = np.arange(ends[-1]) + np.repeat(rows.starts[chosen[part]] - ends + sizes[part], sizes[part])
            learned = rows.learned[at]
            learned[ends - sizes[part]] = False
            yield chosen[part], ends, learned


def _last_answer(learned: Mask, ends: Numbers, sizes: Numbers) -> Numbers:
    """Where the last answer of each row begins: behind the last token that is not learned."""
    masked = np.where(learned, -1, np.arange(len(learned)))
    last = np.maximum.reduceat(masked, ends - sizes)
    answers: Numbers = last + 1 - (ends - sizes)
    return answers


def _window(answers: Numbers, sizes: Numbers, limit: int) -> Numbers:
    """Where the tokens to keep begin: the end of the row, unless its last answer would lose its head."""
    return np.minimum(sizes - limit, np.maximum(0, answers - max(1, limit // 8)))


def _learned_within(learned: Mask, begin: Numbers, lengths: Numbers) -> Numbers:
    """Learned tokens of windows; the first is not: nothing precedes it to predict it from."""
    sums = _sums(learned)
    counts: Numbers = sums[begin + lengths] - sums[begin + 1]
    return counts


def _sums(learned: Mask) -> Numbers:
    """The learned tokens before each place."""
    return np.concatenate([[0], np.cumsum(learned, dtype=np.int64)])
