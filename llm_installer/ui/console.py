"""The one voice of the program on a terminal or in a pipe: lines, headings, waiting, progress, and values as they look.

On a terminal everything is wrapped at words; in a pipe nothing is, so that a line stays a line for grep.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from llm_installer.core.text import steering, visible
from llm_installer.ui.drawing import drawn
from llm_installer.ui.tables import WIDEST
from llm_installer.ui.wrapping import wrapped

if TYPE_CHECKING:
    from rich.status import Status

PATIENCE = 1.0
"""Of a pipe: nobody should wait for two seconds without a word."""
SWITCH = "LLM_WAITING"
"""Set to 0 in the environment, no pipe is told what is waited for."""


class Terminal(RichConsole):
    """What everything is drawn through: of control characters only rich's own reach the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The segments of a drawing, in whose texts nothing steers the terminal."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, lines=True), segment.style)


class Console:
    """A core.voice.Voice that is seen; `rich` is what progress bars draw on."""

    def __init__(self, stderr: bool = False, rich: RichConsole | None = None, patience: float = PATIENCE) -> None:
        self.rich = rich or Terminal(stderr=stderr, highlight=False, _environ=_environment())
        self._waits: list[str] = []
        """What is waited for, the innermost last; an empty text where something else is drawn."""
        self._spinner: Status | None = None
        self.patience = patience
        """Seconds after which a pipe, too, is told what is waited for."""
        self._timer: threading.Timer | None = None
        self._changing = threading.Lock()
        self._said: set[int] = set()
        """Which of `_waits` have a line, the outermost being 1."""

    def line(self, text: str = "") -> None:
        """A line of its own, never coloured by its content."""
        self._text(Text(text))

    def heading(self, text: str) -> None:
        """The name of a part."""
        self.line()
        self._text(Text(text, style="bold"))

    def command(self, words: Sequence[str]) -> None:
        """A command of words that are quoted already; a long one continues after a backslash, as in a shell."""
        self.line()
        for text in command_lines(words, min(self.rich.width, WIDEST) if self.rich.is_terminal else 0):
            self._print(Text(f"  {text}"))
        self.line()

    def parts(self, parts: Iterable[RenderableType]) -> None:
        """Ready-made pieces, one below the other; of several empty lines there is one."""
        empty = False
        for part in parts:
            before, empty = empty, isinstance(part, Text) and not part.plain
            if empty and before:
                continue
            if isinstance(part, Text):
                self._text(part)
            else:
                self._print(part)

    def show(self, found: object) -> None:
        """A value that a story returned, as ui.drawing says; TypeError where it has no row."""
        self.parts(drawn(found))

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say what takes a moment: a spinner on a terminal, a line on one without a cursor; to stderr where the output
        goes into a pipe, and it takes longer than a moment.

        What is waited for within it stands in its place meanwhile.
        """
        with self._changing:
            self._waits.append(what)
        self._spin()
        try:
            yield
        finally:
            with self._changing:
                self._said.discard(len(self._waits))
                self._waits.pop()
            self._spin()

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """How much of something long is done, for whoever is told (done, total): a bar that goes away again on a
        terminal, a line to stderr for a pipe."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        name, count = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[count]}"))
        columns = (name, BarColumn(), count, TimeRemainingColumn())
        with (
            self.waiting("" if self._moves else what),
            Progress(*columns, console=self.rich, transient=True, disable=not self._moves) as bar,
        ):
            task = bar.add_task(visible(what), total=None, count="")  # before it is known, no number and no "?"
            yield lambda done, total: bar.update(task, completed=done, total=total, count=f"{done:,}/{total:,}")

    @property
    def _moves(self) -> bool:
        """Whether something that moves can be drawn: colour that is forced into a pipe brings no cursor there, and of
        several processes one draws."""
        return _draws() and self.rich.is_terminal and not self.rich.is_dumb_terminal and self.rich.file.isatty()

    def _spin(self) -> None:
        """Draw what is waited for now."""
        if self._spinner:
            self._spinner.stop()
            self._spinner = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        what = self._waits[-1] if self._waits else ""
        if not what or not _draws():
            return
        if self._moves:
            self._spinner = self.rich.status(Text(f"{visible(what)} ..."))
            self._spinner.start()
        elif self.rich.is_dumb_terminal:
            self._say(what)
        elif os.environ.get(SWITCH) != "0":
            self._timer = threading.Timer(self.patience, self._say, [what])
            self._timer.daemon = True
            self._timer.start()

    def _say(self, what: str) -> None:
        """A line about the innermost that is waited for, once."""
        with self._changing:
            if self._waits[-1:] != [what] or len(self._waits) in self._said:
                return
            self._said.add(len(self._waits))
            # Where nobody reads it any more, whoever prints next finds out; rich would end this thread for it.
            with suppress(OSError, ValueError):
                print(
                    f"{visible(what)} ...",
                    file=self.rich.file if self.rich.is_dumb_terminal else sys.stderr,
                    flush=True,
                )

    def _text(self, text: Text) -> None:
        """One paragraph, wrapped; lines after the first are indented as it is."""
        text = _in_one_line(text)
        own = len(text.plain) - len(text.plain.lstrip(" ")) if text.plain.strip() else 0
        body = text[own:] if own else text
        for line in wrapped(self.rich, body, min(self.rich.width, WIDEST) - own):
            self._print(Text.assemble(" " * own, line))

    def _print(self, part: RenderableType) -> None:
        """As it is: what wraps has done so before."""
        self.rich.print(part, soft_wrap=isinstance(part, Text), crop=False)


def _draws() -> bool:
    """Whether this is the one of several processes that draws."""
    return os.environ.get("RANK", "0") == "0"


def _environment() -> dict[str, str]:
    """The environment without a width or height of 0, as some shells and services set it: rich would draw nothing."""
    sizes = ("COLUMNS", "LINES")
    return {name: value for name, value in os.environ.items() if name not in sizes or value.strip("0")}


def _in_one_line(text: Text) -> Text:
    """The text with escapes for what steers a terminal; its styles stay where they are."""
    for start, escape in reversed(steering(text.plain)):
        text = text[:start] + Text(escape) + text[start + 1 :]
    return text


def command_lines(words: Sequence[str], width: int) -> list[str]:
    """`$ command with its words`, in lines of `width` where that is given, each but the last with a backslash."""
    lines = ["$"]
    for word in words:
        joined = f"{lines[-1]} {word}"
        if not width or len(lines[-1]) == 1 or len(joined) + len("   \\") <= width:
            lines[-1] = joined
        else:
            lines[-1] += " \\"
            lines.append(f"    {word}")
    return lines
