"""What a row of a plain text file is: a line, a paragraph, or a piece of the whole text. Decided from its beginning."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise

Line = tuple[int, str]
"""A 1-based number, and the line without its end."""
LINES, PARAGRAPHS, WHOLE = "lines", "paragraphs", "whole"
PIECE = 16_384
"""Characters after which a piece of running text is cut: some thousand tokens, as models read at once."""
PIECES = 20
"""Pieces that a shorter text is divided into, so that some can be kept for validation."""
SMALLEST = 1024
"""Characters of a piece at least, unless the text is shorter."""
SAMPLE = PIECE * PIECES
"""Characters of a file that are looked at."""
_END = re.compile(r"[.!?:;\u2026\u3002\uff01\uff1f][\"'\u2019\u201d)\]]*\s*$")
"""The end of a sentence, or of a line that announces the next."""
_WITHIN = re.compile(r"[.!?\u3002\uff01\uff1f][\"'\u2019\u201d)\]]*(?:\s+\S|[^\x00-\x7f])")
"""A sentence that ends within a line."""
_LABEL = re.compile(r"\s*(\w[\w ]{0,24}):")
_FEW_BREAKS, _FEW_GROUPS = 3, 4
_BROKEN, _SPEAKS, _FULL = 0.3, 0.1, 0.7
_MOST_WORDS_OF_ENTRY = 4
"""Words of a line, on average, up to which lines are entries of a list and not of sentences."""


@dataclass(frozen=True)
class TextRows:
    """What a row is, and why."""

    rows: str
    """A name of ROWS."""
    why: str


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of a row, and where it begins."""

    text: str
    line: int
    ends: bool = True
    """False where the text goes on after it."""


@dataclass(frozen=True)
class Shape:
    """What is counted in the beginning of a text."""

    words: float
    """Of a line, on average; in scripts without spaces two characters are a word."""
    breaks: int
    """Line ends within paragraphs."""
    broken: float
    """Share of them that are in the middle of a sentence, as the next line goes on in lower case."""
    full: float
    """Share of lines within paragraphs that are about as long as any, as where text is wrapped."""
    unfinished: float
    """Share of lines that do not end as a sentence does."""
    within: float
    """Sentences that end within a line, by line."""
    groups: int
    """Paragraphs, which blank lines divide."""
    lines: float
    """Of a paragraph, on average."""
    regular: float
    """Share of paragraphs that have as many lines as most have."""
    label: float
    """Share of paragraphs that begin with the same word and a colon, as records do."""


def choose(lines: Sequence[Line]) -> TextRows:
    """What a row of a text with this beginning is. Lines stand for themselves unless they plainly do not."""
    shape = shape_of([text for _, text in lines])
    several = shape.groups >= _FEW_GROUPS and shape.lines >= 2
    sentences = shape.words > _MOST_WORDS_OF_ENTRY and shape.within + (1 - shape.unfinished) >= _SPEAKS
    if several and shape.label >= 0.8:
        return TextRows(PARAGRAPHS, "blank lines divide it into records that begin alike")
    # Without blank lines nothing but its wrapping tells prose from lines that were collected.
    broken = shape.broken >= (_BROKEN if several else 2 * _BROKEN) and (several or shape.full >= _FULL)
    if shape.breaks >= _FEW_BREAKS and broken and sentences and shape.within >= _SPEAKS:
        return TextRows(WHOLE, "its lines break in the middle of sentences")
    if several and shape.regular >= 0.9:
        return TextRows(PARAGRAPHS, f"blank lines divide it into paragraphs of {shape.lines:.0f} lines each")
    if several and sentences and shape.unfinished >= 0.2:
        why = f"its paragraphs have {shape.lines:.1f} lines on average, and many lines end within a sentence"
        return TextRows(WHOLE, why)
    return TextRows(LINES, "its lines stand for themselves")


def shape_of(lines: Sequence[str]) -> Shape:
    """Count what `choose` looks at."""
    groups = [list(group) for filled, group in groupby(lines, lambda line: bool(line.strip())) if filled]
    filled = [line for group in groups for line in group]
    breaks = [(a, b) for group in groups for a, b in pairwise(group)]
    sizes = Counter(map(len, groups))
    labels = Counter(found[1] for group in groups if (found := _LABEL.match(group[0])))
    count = max(1, len(filled))
    return Shape(
        words=sum(map(_words, filled)) / count,
        breaks=len(breaks),
        broken=sum(not _END.search(a) and _goes_on(b) for a, b in breaks) / max(1, len(breaks)),
        full=_full([len(a) for a, _ in breaks]),
        unfinished=sum(not _END.search(line) for line in filled) / count,
        within=sum(len(_WITHIN.findall(line)) for line in filled) / count,
        groups=len(groups),
        lines=len(filled) / max(1, len(groups)),
        regular=max(sizes.values(), default=0) / max(1, len(groups)),
        label=max(labels.values(), default=0) / max(1, len(groups)),
    )


def by_line(lines: Iterable[Line]) -> Iterator[Piece]:
    """Each line that is not blank, with its spaces."""
    for number, text in lines:
        if text.strip():
            yield Piece(text, number)


def by_paragraph(lines: Iterable[Line]) -> Iterator[Piece]:
    """Lines with no blank one between them, together."""
    for filled, group in groupby(lines, lambda line: bool(line[1].strip())):
        if filled:
            found = list(group)
            yield Piece("\n".join(text for _, text in found), found[0][0])


def by_piece(lines: Iterable[Line]) -> Iterator[Piece]:
    """The text in pieces that, joined, are the text: cut after a paragraph where one ends near, else after a line.

    Only the last one ends.
    """
    lines = iter(lines)
    ahead, size = _ahead(lines)
    waiting: list[Line] = []
    held, blank, filled = 0, True, False
    for number, text in chain(ahead, lines):
        if text.strip() and filled and held >= (size if blank else 2 * size):
            yield _joined(waiting, goes_on=True)
            waiting, held = [], 0
        waiting.append((number, text))
        held += len(text) + 1
        blank = not text.strip()
        filled = filled or not blank
    if filled:
        yield _joined(waiting, goes_on=False)


ROWS: dict[str, tuple[Callable[[Iterable[Line]], Iterator[Piece]], str]] = {
    LINES: (by_line, "each line is a row"),
    PARAGRAPHS: (by_paragraph, "each paragraph is a row"),
    WHOLE: (by_piece, "it is read as one text, in rows as long as the model reads"),
}
"""What a row may be: how the lines are put together, and that in words."""


def _ahead(lines: Iterator[Line]) -> tuple[list[Line], int]:
    """The beginning of a text, and how long its pieces are."""
    found: list[Line] = []
    total = 0
    for line in lines:
        found.append(line)
        total += len(line[1]) + 1
        if total >= SAMPLE:
            break
    return found, max(SMALLEST, min(PIECE, total // PIECES))


def _joined(lines: Sequence[Line], goes_on: bool) -> Piece:
    text = "\n".join(text for _, text in lines)
    return Piece(text + "\n" if goes_on else text.rstrip("\n"), lines[0][0], not goes_on)


def _goes_on(line: str) -> bool:
    """Whether a line begins in the middle of a sentence: with a letter that is no capital one."""
    first = line.lstrip()[:1]
    return first.isalpha() and not first.isupper() and not first.istitle()


def _full(lengths: Sequence[int]) -> float:
    usual = sorted(lengths)[len(lengths) * 9 // 10] if lengths else 0
    return sum(length >= 0.8 * usual for length in lengths) / max(1, len(lengths))


def _words(line: str) -> float:
    words = line.split()
    return max(
        len(words), sum(not c.isascii() and c.isalpha() and not c.islower() and not c.isupper() for c in line) / 2
    )
