"""Columns of text: wrapped at words on a terminal; in a pipe one line a row, with nothing wrapped, cut or filled up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.text import Text

from llm_installer.core.text import visible
from llm_installer.ui.wrapping import cells_of, longest_word, wrapped

Cell = str | Text
GAP = 2
WIDEST = 120
"""Columns of a terminal that are filled at most: the eye loses longer lines."""
NARROWEST = 24
"""A last column that would have to be narrower than this goes below the others instead of beside them."""


@dataclass(frozen=True)
class Columns:
    """Rows of cells in columns: each as wide as its longest cell where all fit, else narrowed, the widest first.

    Where even that leaves too little, the last columns follow below, indented. A `str` is one line, and what steers a
    terminal is escaped in it.
    """

    rows: Sequence[Sequence[Cell]]
    head: Sequence[str] = ()
    styles: Sequence[str] = ()
    """Style of each column; the rest are plain."""
    indent: int = 1
    right: frozenset[int] = frozenset()
    """Columns of numbers: they end at the same place."""
    most: dict[int, int] = field(default_factory=dict)
    """What a column takes at most where not all fit."""
    below: int | None = None
    """Column under which, indented, follow those without a place beside the others; else they are under the last."""

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        body = self._body()
        if not body:
            return
        columns = _columns(body)
        room = min(options.max_width, WIDEST) - self.indent
        widths = self._widths(console, columns, room)
        count = len(widths)
        under = self._under(widths)
        rest = _fitting(columns[count:], room - under) if columns[count:] else []
        for row in body:
            yield from self._lines(console, row[:count], widths, self.indent)
            if any(cell.plain for cell in row[count:]):
                yield from self._lines(console, row[count:], rest, self.indent + under, first=count)

    def fits(self, console: RichConsole, options: ConsoleOptions) -> bool:
        """Whether all columns have a place beside each other, with no word too long for it; in a pipe they do."""
        columns = _columns(self._body())
        natural, least = self._measured(columns)
        room = min(options.max_width, WIDEST) - self.indent
        return not console.is_terminal or len(self._without_overflow(natural, least, room)) == len(columns)

    def _widths(self, console: RichConsole, columns: Sequence[Sequence[Text]], room: int) -> list[int]:
        """Of the columns beside each other; each but the last as wide as its longest line once all are wrapped."""
        natural, least = self._measured(columns)
        if not console.is_terminal:
            return natural
        widths = self._without_overflow(natural, least, room) or _beside(natural, least, self.most, room)
        while len(columns) > len(widths) > 1 and {len(widths), len(widths) - 1} <= self.right:
            widths.pop()  # numbers stay together
        for i, cells in enumerate(columns[: len(widths) - 1]):
            widths[i] = max(cells_of(line) for cell in cells for line in wrapped(console, cell, widths[i]))
        last = len(widths) - 1
        widths[last] = min(natural[last], room - sum(own + GAP for own in widths[:last]))
        return widths

    def _body(self) -> list[list[Text]]:
        head = [[Text(name, style="dim") for name in self.head]] if self.head else []
        return head + [self._styled(row) for row in self.rows]

    def _measured(self, columns: Sequence[Sequence[Text]]) -> tuple[list[int], list[int]]:
        """Cells of each column as it is, and the least it can have: that of its longest word, or of a number's line."""
        natural = [max(map(cells_of, cells)) for cells in columns]
        words = [max(map(longest_word, cells)) for cells in columns]
        return natural, [natural[i] if i in self.right else own for i, own in enumerate(words)]

    def _without_overflow(self, natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
        """Widths of the most columns beside each other, two at least of three or more, with which no word is too long
        for its place, beside or below; none where there are no such."""
        for count in range(len(natural), 1 if len(natural) > 2 else len(natural), -1):
            widths = _placed(natural[:count], least[:count], self.most, room)
            rest = least[count:]
            if widths and sum(rest) + GAP * (len(rest) - 1) <= room - self._under(widths):
                return widths
        return []

    def _under(self, widths: Sequence[int]) -> int:
        """Where the columns begin that follow below."""
        if self.below is None:
            return sum(own + GAP for own in widths[:-1])
        return sum(own + GAP for own in widths[: self.below]) + GAP

    def _styled(self, row: Sequence[Cell]) -> list[Text]:
        cells = [cell if isinstance(cell, Text) else Text(visible(cell)) for cell in row]
        for i, style in enumerate(self.styles[: len(cells)]):
            cells[i] = cells[i] if cells[i].style else Text.assemble(cells[i], style=style)
        return cells

    def _lines(
        self, console: RichConsole, row: Sequence[Text], widths: Sequence[int], start: int, first: int = 0
    ) -> Iterator[Text]:
        """A row, or the part of it from column `first` on, in lines that begin at `start`."""
        cells = [wrapped(console, cell, own) for cell, own in zip(row, widths, strict=False)]
        for number in range(max(map(len, cells))):
            line = Text(" " * start, no_wrap=True, overflow="ignore")
            for i, (lines, width) in enumerate(zip(cells, widths, strict=False)):
                cell = lines[number] if number < len(lines) else Text()
                free = " " * max(0, width - cells_of(cell))
                line = line + free + cell if i + first in self.right else line + cell + free
                line.append(" " * GAP)
            line.rstrip()
            yield line


def _columns(body: Sequence[Sequence[Text]]) -> list[list[Text]]:
    return [[row[i] for row in body if i < len(row)] for i in range(max(map(len, body), default=0))]


def facts(*rows: tuple[str, Cell], indent: int = 1) -> Columns:
    """Names, and what they are."""
    return Columns(rows, styles=("bold",), indent=indent)


def _beside(natural: Sequence[int], least: Sequence[int], most: dict[int, int], room: int) -> list[int]:
    """Widths of as many columns as have a place beside each other, where a word has none anywhere: too long for the
    last column, it runs over its end and disturbs no other."""
    for count in range(len(natural), 0, -1):
        words = [*least[: count - 1], min(least[count - 1], NARROWEST)]
        if widths := _placed(natural[:count], words, most, room):
            return widths
    return [least[0], max(1, room - least[0] - GAP)][: len(natural)]


def _placed(natural: Sequence[int], least: Sequence[int], most: dict[int, int], room: int) -> list[int]:
    """Widths of these columns beside each other; none where a word has no place, or the last of several too little."""
    free = room - GAP * (len(natural) - 1)
    if sum(natural) <= free:
        return list(natural)
    wanted = [min(width, max(most.get(i, width), least[i])) for i, width in enumerate(natural)]
    widths = _narrowed(wanted, least, free)
    return widths if widths and (len(widths) <= 2 or widths[-1] >= min(NARROWEST, natural[-1])) else []


def _fitting(columns: Sequence[Sequence[Text]], room: int) -> list[int]:
    """Widths of columns that are all beside each other, whether or not there is room."""
    natural, least = [max(map(cells_of, c)) for c in columns], [max(map(longest_word, c)) for c in columns]
    least[-1] = min(least[-1], NARROWEST)
    free = room - GAP * (len(columns) - 1)
    return _narrowed(natural, least, free) or least


def _narrowed(wanted: Sequence[int], least: Sequence[int], free: int) -> list[int]:
    """The widest columns narrowed to one width, so that all fit; none where a word would have to be cut."""
    for level in range(max(wanted), 0, -1):
        widths = [max(word, min(width, level)) for width, word in zip(wanted, least, strict=True)]
        if sum(widths) <= free:
            return widths
    return []
