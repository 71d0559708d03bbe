"""How a plan looks: every decision with its value, its reason and the flag that sets it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from llm_installer.planning.plan import Plan
from llm_installer.planning.table import PlanRow, plan_rows
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import Columns

BESIDE = 100
"""Columns of a terminal from which on flags have a column of their own."""
VALUE = 20
"""Cells of a value at most where the row does not fit into a line."""


class PlanTable:
    """The rows of a plan: flags in a column of their own where there is room, else behind the reason."""

    def __init__(self, rows: Sequence[PlanRow]) -> None:
        self.rows = rows

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        if console.is_terminal and options.max_width >= BESIDE:
            yield Columns(
                [(row.name, row.value, row.flag, row.why) for row in self.rows],
                styles=("bold", "", "dim", ""),
                most={1: VALUE},
            )
        else:
            told = [(row.name, row.value, _why(row.why, row.flag)) for row in self.rows]
            yield Columns(told, styles=("bold",), most={1: VALUE})


@drawing.register
def plan(found: Plan) -> Iterator[RenderableType]:
    """The table before training."""
    yield Text()
    yield Text("Plan", style="bold")
    yield PlanTable(plan_rows(found))
    yield Text()


def memory(rows: Sequence[tuple[str, str, str]]) -> Iterator[RenderableType]:
    """(setting, predicted peak, verdict) of each way to hold the model."""
    yield Text("Memory", style="bold")
    yield Columns(rows, styles=("bold",))
    yield Text()


def _why(why: str, flag: str) -> Text:
    return Text.assemble(why, (f"{' ' if why else ''}({flag})", "dim")) if flag else Text(why)
