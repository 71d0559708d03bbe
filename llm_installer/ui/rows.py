"""How rows of data look token by token: what is trained on is marked, the rest is context."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.text import Text

from llm_installer.core.text import counted, visible
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.row import Row
from llm_installer.data.preview import Preview
from llm_installer.ui.wrapping import wrapped

TRAINED_ON, MASKED = "green underline", "dim"


class MarkedRows:
    """Each row as it is trained on: supervised tokens green and underlined, or in [[ ]] where there is no colour."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        for text in self._texts(plain=not console.color_system or console.no_color):
            for line in wrapped(console, text, options.max_width):
                yield Text.assemble(line, no_wrap=True, overflow="ignore")

    def _texts(self, plain: bool) -> Iterator[Text]:
        yield Text(f"Tokens that are trained on are {'in [[ ]]' if plain else 'green'}; the rest is context.")
        for shown in self._preview.examples:
            for note in shown.notes:
                yield from _heading(f"{shown.origin}: {note}")
            for row in shown.rows:
                share = f"{int(row.supervised.sum())} trained on ({row.supervised.mean():.0%})"
                yield from _heading(f"{shown.origin}: {counted(len(row.ids), 'token')}, {share}")
                yield _marked(row, self._preview.encoder, plain)


def _heading(text: str) -> Iterator[Text]:
    yield Text()
    yield Text(visible(text), style="bold")


def _marked(row: Row, encoder: Encoder, plain: bool) -> Text:
    """The row as text, runs of trained-on tokens marked."""
    text, start = Text(), 0
    while start < len(row.ids):
        end = start
        while end < len(row.ids) and row.supervised[end] == row.supervised[start]:
            end += 1
        decoded = encoder.tokenizer.decode(row.ids[start:end].tolist(), skip_special_tokens=False)
        piece = visible(str(decoded), lines=True)
        if row.supervised[start]:
            text.append(f"[[{piece}]]" if plain else piece, style="" if plain else TRAINED_ON)
        else:
            text.append(piece, style="" if plain else MASKED)
        start = end
    return text
