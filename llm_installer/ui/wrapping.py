"""Lines of text: broken between words, and within scripts that are written without spaces; nothing else is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from unicodedata import category, combining, east_asian_width

from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.text import Text

KEPT = 24
"""Cells that a word of such a script keeps where there is room, although it could be broken."""
TYPED = re.compile(r"\W*(?:[.~]{0,2}[/\\]|--?[A-Za-z]|[A-Za-z]:\\|[A-Za-z]+://)")
"""How a path, an address or an option begins: it stays whole in every script."""
_INSIDE = r"[^\u3001\u3002\uff0c\uff01\uff1a\uff1b\uff1f]*"
NAMED = re.compile(rf"{_INSIDE}(?:[/\\]{_INSIDE}|\.[A-Za-z][A-Za-z0-9]{{0,7}})")
"""A path or a file that begins otherwise: it has a slash or ends with a suffix, and no mark of a sentence within it."""


def wrapped(console: RichConsole, text: Text, width: int) -> list[Text]:
    """The text in lines of `width` cells, broken on a terminal only: between words, and where a word is longer than a
    line, between characters of a script without spaces. Any other long word stays whole."""
    if not console.is_terminal:
        return [text]
    lines: list[Text] = []
    for paragraph in text.split("\n", allow_blank=True):
        lines += paragraph.divide(_breaks(paragraph.plain, width))
    for line in lines:
        line.rstrip()
    return lines or [Text()]


def cells_of(text: Text) -> int:
    """Cells of its longest line as it is."""
    return max((cell_len(line) for line in text.plain.split("\n")), default=0)


def longest_word(text: Text) -> int:
    """Cells of the longest word, or of what is left of it where it may be broken."""
    return max((_least(word) for word in text.plain.split()), default=0)


def _breaks(text: str, width: int) -> list[int]:
    """Where the lines after the first begin."""
    breaks, filled, end = [], 0, 0
    for part in _parts(text, width):
        end += len(part)
        long = cell_len(part)
        if filled and filled + long > width:
            bare = part.lstrip()
            breaks.append(end - len(bare))
            filled, long = 0, cell_len(bare)
        filled += long
    return breaks


def _parts(text: str, width: int) -> Iterator[str]:
    """What stays whole, one after the other, each with the spaces before it."""
    for word in re.finditer(r"\s*\S+", text):
        bare = word[0].lstrip()
        if cell_len(bare) <= width or not _breakable(bare):
            yield word[0]
            continue
        first, *rest = _pieces(bare)
        yield word[0][: len(word[0]) - len(bare)] + first
        yield from rest


def _least(word: str) -> int:
    if not _breakable(word):
        return cell_len(word)
    return max(min(cell_len(word), KEPT), max(map(cell_len, _pieces(word))))


def _breakable(word: str) -> bool:
    """Whether the word is rather a sentence, perhaps with Latin words in it, and nothing that is typed or clicked."""
    return not word.isascii() and 3 * sum(map(_dense, word)) >= len(word) and not _typed(word)


def _typed(word: str) -> bool:
    return bool(TYPED.match(word) or NAMED.fullmatch(re.sub(r"\W+$", "", word)))


def _dense(character: str) -> bool:
    """Whether the script of the character is Chinese or Japanese, or as wide: its words may lie without spaces."""
    return east_asian_width(character) in "WF" and category(character)[0] in "LPN"


def _pieces(word: str) -> list[str]:
    """The word where it may be broken: beside dense characters, but not before what closes or after what opens."""
    pieces = [word[0]]
    for before, after in pairwise(word):
        whole = category(before) in ("Ps", "Pi") or _clings(after) or not (_dense(before) or _dense(after))
        if whole:
            pieces[-1] += after
        else:
            pieces.append(after)
    return pieces


def _clings(character: str) -> bool:
    """Whether no line begins with the character: marks that close or follow."""
    kind = category(character)
    return bool(combining(character)) or kind in ("Pe", "Pf", "Po", "Lm", "Mn", "Mc", "Me", "Cf", "Zs")
