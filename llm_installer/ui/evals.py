"""How an evaluation looks: the first prompt, the numbers beside each other, what is better and whether that is real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from llm_installer.core.text import counted, short_path, shortened
from llm_installer.evals.metrics import METRICS
from llm_installer.evals.result import DIFFERENT, FEW, EvalResult, Flips
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import Columns, facts

FLIPS = 3
"""Rows of each kind that are shown; the report has more, and rows.jsonl all."""
PROMPT = 1200
"""Characters of the first prompt that are shown."""
STYLES = {DIFFERENT: "bold", FEW: "yellow"}
_IN_GROUPS = ("loss", "f1", "acc")


class Numbers:
    """A row for each metric and a column for each system; one below the other where they have no place."""

    def __init__(self, names: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        self._names, self._rows = names, rows

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        right = frozenset(range(1, len(self._names) + 1))
        beside = Columns(
            [(title, *cells) for title, cells in self._rows], head=("", *self._names), styles=("bold",), right=right
        )
        if beside.fits(console, options):
            yield beside
            return
        for title, cells in self._rows:
            yield Text(f" {title}", style="bold")
            yield Columns(list(zip(self._names, cells, strict=True)), indent=3, right=frozenset({1}))


@drawing.register
def evaluated(found: EvalResult) -> Iterator[RenderableType]:
    """The first prompt, the numbers, the verdicts, and what turned right or wrong."""
    if found.rows:
        yield Text(f"{found.model}: {counted(found.rows, 'row')} of {found.data}")
    yield from _first_prompt(found)
    if found.columns:
        yield Text()
        rows = [(METRICS[name].title, [_shown(one.scores, name) for one in found.columns]) for name in found.metrics]
        yield Numbers([one.name for one in found.columns], rows)
    if found.headlines:
        yield Text()
        for difference in found.headlines:
            yield Text(f"  {difference}", style=STYLES.get(difference.verdict, ""))
    yield from _groups(found)
    for one in found.flips:
        yield from _flips(one)
    if found.tasks:
        yield Text()
        names = list(dict.fromkeys(name for held in found.tasks.values() for name in held))
        cells = [[f"{held[name]:.4f}" if name in held else "-" for held in found.tasks.values()] for name in names]
        yield Numbers([*found.tasks], list(zip(names, cells, strict=True)))
    yield Text()
    for note in found.notes:
        yield Text(f"  Note: {note}", style="dim")
    yield Text(f"Report: {short_path(found.folder / 'report.md')}")


def _shown(scores: dict[str, float], metric: str) -> str:
    return METRICS[metric].shown(scores[metric]) if metric in scores else "-"


def _first_prompt(found: EvalResult) -> Iterator[RenderableType]:
    if not found.first_prompt:
        return
    yield Text()
    yield Text("The first prompt, as the model gets it:", style="bold")
    text = found.first_prompt
    shown = text if len(text) <= PROMPT else f"{text[:PROMPT]}..."
    for line in shown.split("\n"):
        yield Text(f"  {line}")


def _groups(found: EvalResult) -> Iterator[RenderableType]:
    names = [name for name in _IN_GROUPS if name in found.metrics]
    for metric in names if found.groups else ():
        yield Text()
        yield Text(f"By source: {METRICS[metric].title}", style="bold")
        yield Numbers(
            [one.name for one in found.columns],
            [
                (f"{group.name} ({group.rows:,})", [_shown(group.scores[c.name], metric) for c in found.columns])
                for group in found.groups
            ],
        )


def _flips(one: Flips) -> Iterator[RenderableType]:
    yield Text()
    gained, lost = counted(len(one.gained), "row"), counted(len(one.lost), "row")
    yield Text(f"From {one.first} to {one.second}: {gained} turned right, {lost} turned wrong", style="bold")
    for what, rows in (("right", one.gained), ("wrong", one.lost)):
        for flip in rows[:FLIPS]:
            yield facts(
                (f"turned {what}", flip.origin),
                ("prompt", shortened(flip.prompt)),
                ("expected", shortened(flip.expected)),
                ("before", shortened(flip.before)),
                ("after", shortened(flip.after)),
                indent=2,
            )
            yield Text()
