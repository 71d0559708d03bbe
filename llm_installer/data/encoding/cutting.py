"""Rows truncated to a length, and what each length would lose: for all rows at once; short rows are not touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llm_installer.core.arrays import Numbers
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.row import Mask, Row

_CHUNK = 1 << 22
"""Tokens handled together."""


@dataclass(frozen=True, eq=False)
class Losses:
    """What truncating takes from each row that is cut. All of shape [cut rows], in the order of the rows."""

    rows: Numbers
    """Which rows of the set are cut."""
    question: Numbers
    """Tokens without supervision lost before what is kept."""
    answer: Numbers
    """Supervised tokens lost."""
    end: Mask
    """Whether the last supervised token, which ends the last answer, is lost."""


def cut(rows: Sequence[Row], limit: int) -> EncodedSet:
    """Rows of at most `limit` tokens, each with something to train on.

    Plain text is split into pieces that overlap by one token, so that every token is predicted once and none is lost.
    A conversation loses the beginning of its prompt first, then the end of its answer; its first token stays (BOS, or
    the opening of the template), and what follows it is a window onto the rest.
    """
    rows = rows if isinstance(rows, EncodedSet) else EncodedSet.of(rows)
    pieces = np.where(rows.text & (rows.lengths > limit), pieces_of(rows.lengths, limit), 1)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    parts = rows.select(np.repeat(np.arange(len(rows)), pieces))
    starts, lengths, counts = parts.starts.copy(), parts.lengths.copy(), parts.counts.copy()
    long = np.flatnonzero(parts.lengths > limit)
    for chosen, ends, supervised in _chunks(parts, long):
        sizes = parts.lengths[chosen]
        text = parts.text[chosen]
        answers = _last_answer(supervised, ends, sizes)
        offset = np.where(text, number[chosen] * (limit - 1), _window(answers, sizes, limit))
        lengths[chosen] = np.minimum(limit, sizes - offset)
        counts[chosen] = _supervised_within(supervised, ends - sizes + offset, lengths[chosen])
        starts[chosen] += offset
    heads = np.where(parts.text, starts, parts.heads)
    found = replace(parts, heads=heads, starts=starts, lengths=lengths, counts=counts)
    return found if (counts > 0).all() else found.select(np.flatnonzero(counts))


def pieces_of(lengths: Numbers, limit: int) -> Numbers:
    """Into how many pieces texts of these lengths are split; each but the first begins with the token before it."""
    pieces: Numbers = -(-(lengths - 1) // (limit - 1))
    return pieces


def losses(rows: EncodedSet, limit: int) -> Losses:
    """What `cut` takes from rows. Plain text is split, loses nothing, and is not among them."""
    long = np.flatnonzero(~rows.text & (rows.lengths > limit))
    found = []
    for chosen, ends, supervised in _chunks(rows, long):
        sizes = rows.lengths[chosen]
        begin = ends - sizes
        offset = _window(_last_answer(supervised, ends, sizes), sizes, limit)
        kept = _supervised_within(supervised, begin + offset, np.minimum(limit, sizes - offset))
        before = _supervised_within(supervised, begin, offset + 1)
        last = np.maximum.reduceat(np.where(supervised, np.arange(len(supervised)), -1), begin)
        found.append((offset - before, rows.counts[chosen] - kept, last >= begin + offset + limit))
    if not found:
        return Losses(long, long, long, np.zeros(0, np.bool_))
    question, answer, end = (np.concatenate(column) for column in zip(*found, strict=True))
    return Losses(long, question, answer, end)


def lost_shares(rows: Sequence[Row], step: int = 64) -> list[tuple[int, float]]:
    """(limit in tokens, share of supervised tokens lost by truncating rows to it), ascending, up to the longest row.

    Plain text is split and loses nothing. Limits are multiples of `step`.
    """
    rows = rows if isinstance(rows, EncodedSet) else EncodedSet.of(rows)
    total = int(rows.counts.sum()) or 1
    longest = int(rows.lengths.max()) if len(rows) else step
    limits = [*range(step, longest, step), longest]
    lost = np.zeros(len(limits), np.int64)
    for chosen, ends, supervised in _chunks(rows, np.flatnonzero(rows.lengths > step)):
        sizes, counts, text = rows.lengths[chosen], rows.counts[chosen], rows.text[chosen]
        answers = _last_answer(supervised, ends, sizes)
        sums = _sums(supervised)
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
    """(limit in tokens, share lost by truncating rows to it), ascending: of supervised tokens or of all, the larger.

    A truncated prompt teaches answers to what nobody asked: that is the lesser evil only where the model can read no
    more.
    """
    total = int(rows.lengths.sum()) or 1
    return [
        (limit, max(share, int(np.maximum(rows.lengths - limit, 0).sum()) / total))
        for limit, share in lost_shares(rows)
    ]


def _chunks(rows: EncodedSet, chosen: Numbers) -> Iterator[tuple[Numbers, Numbers, Mask]]:
    """The chosen rows a few at a time: their indices, where each ends, and their loss masks in one array."""
    sizes = rows.lengths[chosen]
    parts = (np.cumsum(sizes) - 1) // _CHUNK
    for part in np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(parts)) + 1):
        if len(part):
            ends = np.cumsum(sizes[part])
            at = np.arange(ends[-1]) + np.repeat(rows.starts[chosen[part]] - ends + sizes[part], sizes[part])
            supervised = rows.supervised[at]
            supervised[ends - sizes[part]] = False
            yield chosen[part], ends, supervised


def _last_answer(supervised: Mask, ends: Numbers, sizes: Numbers) -> Numbers:
    """Where the last answer of each row begins: after its last masked token."""
    masked = np.where(supervised, -1, np.arange(len(supervised)))
    last = np.maximum.reduceat(masked, ends - sizes)
    answers: Numbers = last + 1 - (ends - sizes)
    return answers


def _window(answers: Numbers, sizes: Numbers, limit: int) -> Numbers:
    """Where the tokens to keep begin: they are the end of the row, unless its last answer would lose its beginning."""
    return np.minimum(sizes - limit, np.maximum(0, answers - max(1, limit // 8)))


def _supervised_within(supervised: Mask, begin: Numbers, lengths: Numbers) -> Numbers:
    """Supervised tokens of windows; the first is not, as nothing precedes it to predict it from."""
    sums = _sums(supervised)
    counts: Numbers = sums[begin + lengths] - sums[begin + 1]
    return counts


def _sums(supervised: Mask) -> Numbers:
    """The number of supervised tokens before each position."""
    return np.concatenate([[0], np.cumsum(supervised, dtype=np.int64)])
