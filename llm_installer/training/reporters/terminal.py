"""What the user sees of a run in progress: a line for each evaluation, and a progress bar on a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.core.text import clock, visible
from llm_installer.training.reporters.lines import SEPARATOR, end_fields, evaluation_fields, fold, start_fields, wrap
from llm_installer.training.reporters.pace import Pace

PLAIN_SECONDS = 10.0
"""How often a step is worth a line where there is no bar."""
BAR_CELLS = 12
"""The shortest bar; facts that would make it shorter are left out."""
FREE_CELLS = 6
"""Behind the bar: a terminal writes ^C there for each Ctrl-C. In a line of its own, it would leave the bar standing."""
ENDING = "Stopping after this step; Ctrl-C again stops at once"
"""What stands in the place of the bar once the run was asked to end."""


class TerminalReporter:
    """A line for each evaluation; between them a bar on a terminal, and elsewhere a line now and then."""

    def __init__(self, header: RunHeader, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._header = header
        self._console = console
        self._now = now
        self._pace = Pace(header, now)
        self._spoke = now()
        # FORCE_COLOR brings colour into a pipe, but the bar needs a cursor.
        self._terminal = console.is_interactive and console.file.isatty()
        self._live: Live | None = None
        self.ending: Callable[[], bool] = lambda: False
        """Whether the run was asked to end; a step may take long."""

    def on_start(self, header: RunHeader) -> None:
        """Say what begins, then show the bar."""
        self._say(start_fields(header))
        if self._terminal:
            self._live = Live(Bar(self._pace, self.ending), console=self._console, transient=True)
            self._live.start()

    def on_step(self, report: StepReport) -> None:
        """Note it; the bar draws itself."""
        self._pace.add(report)
        if not self._terminal and self._now() - self._spoke >= PLAIN_SECONDS:
            self._say(step_fields(self._pace))

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """One line, kept above the bar."""
        self._say(evaluation_fields(self._header, evaluation, state, best))

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Remove the bar and say how the run ended; whoever has its result says why."""
        if self._live:
            with _broken_pipe_is_an_error():
                self._live.stop()
        self._live = None
        self._say(end_fields(self._header, state, result, reason=result is None))

    def on_note(self, text: str) -> None:
        """The sentence, wrapped on a terminal."""
        written = self._writable(text)
        for line in wrap(written, self._console.width) if self._terminal else [written]:
            self._print(Text(line))

    def _say(self, fields: list[str]) -> None:
        written = [self._writable(field) for field in fields]
        for row in fold(written, self._console.width) if self._terminal else [SEPARATOR.join(written)]:
            self._print(_styled(row))
        self._spoke = self._now()

    def _print(self, text: Text) -> None:
        with _broken_pipe_is_an_error():
            self._console.print(text, soft_wrap=True)  # it is wrapped already; rich would cut long words

    def _writable(self, text: str) -> str:
        """The text in one line, with escapes for what steers a terminal, and for what the stream's encoding lacks."""
        return visible(text).encode(self._console.encoding, "backslashreplace").decode(self._console.encoding)


def step_fields(pace: Pace) -> list[str]:
    """How far the run is, for a file."""
    fields = [f"Step {pace.step:,}" + (f"/{pace.total:,} ({pace.percent}%)" if pace.total else "")]
    fields.append(f"Time: {clock(pace.elapsed)}")
    if pace.remaining is not None:
        fields.append(f"Left: {clock(pace.remaining)}")
    if pace.tokens_per_second is not None:
        fields.append(f"{pace.tokens_per_second:,.0f} tokens/s")
    return [*fields, f"Loss: {pace.loss:.4f}"]


class Bar:
    """The bar and as many facts beside it as the width allows, chosen each time it is drawn."""

    def __init__(self, pace: Pace, ending: Callable[[], bool] = lambda: False) -> None:
        self._pace, self._ending = pace, ending

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        pace, width = self._pace, options.max_width - FREE_CELLS
        if self._ending():
            yield Text(ENDING, no_wrap=True, overflow="crop")
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.width = width
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        bar = ProgressBar(
            total=pace.total or None,
            completed=pace.step,
            complete_style="cyan",
            finished_style="cyan",
            pulse_style="cyan",
        )
        grid.add_row(bar, Text("  ".join(_facts(pace, width - BAR_CELLS))))
        yield grid


def _facts(pace: Pace, cells: int) -> list[str]:
    """The most important facts that fit into so many cells, in reading order."""
    speed, left = pace.tokens_per_second, pace.remaining
    known = [  # how important, what
        (1, f"{pace.percent:3}%" if pace.total else ""),
        (2, f"{pace.step:,}/{pace.total:,}" if pace.total else f"step {pace.step:,}"),
        (5, clock(pace.elapsed)),
        (4, f"{clock(left) if left is not None else '--:--:--'} left" if pace.total else ""),
        (6, f"{_short(speed)} tok/s" if speed is not None else ""),
        (3, f"loss {pace.loss:.4f}" if pace.tokens_per_second is not None else ""),
    ]
    chosen: list[tuple[int, str]] = []
    for fact in sorted(fact for fact in known if fact[1]):
        if sum(len(text) + 2 for _, text in [*chosen, fact]) <= cells:
            chosen.append(fact)
    return [text for importance, text in known if (importance, text) in chosen]


def _short(speed: float) -> str:
    return f"{speed:5.0f}" if speed < 10_000 else f"{speed / 1000:4.0f}k"


def _styled(row: str) -> Text:
    """Dim labels and separators, so that the numbers stand out."""
    text = Text(row)
    text.highlight_regex(r" \||[A-Z][A-Za-z ]+:(?= )", "dim")
    text.highlight_regex(r"\bNew best$", "green")
    return text


@contextlib.contextmanager
def _broken_pipe_is_an_error() -> Iterator[None]:
    """When the reader of its output has gone, rich ends the program; a training run must not end for that."""
    try:
        yield
    except SystemExit as ended:
        raise BrokenPipeError("the reader of the output has gone") from ended
