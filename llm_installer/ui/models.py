"""How models, findings about them and their families look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from llm_installer.core.handler import Handler
from llm_installer.core.hints import program
from llm_installer.core.text import size, visible
from llm_installer.install.check import ModelCheck
from llm_installer.install.doctor import Check
from llm_installer.install.installed import Installed
from llm_installer.ui.drawing import drawing
from llm_installer.ui.plan import memory
from llm_installer.ui.tables import Columns

MARKS = {True: ("ok", "green"), False: ("wrong", "red"), None: ("note", "yellow")}


@dataclass(frozen=True)
class Models:
    """The installed models."""

    found: Sequence[Installed]


@dataclass(frozen=True)
class Checks:
    """Findings of the doctor, or about a model."""

    found: Sequence[Check]


@dataclass(frozen=True)
class Handlers:
    """The model families known."""

    found: Sequence[Handler]


@drawing.register
def models(shown: Models) -> Iterator[RenderableType]:
    """One line a model."""
    if not shown.found:
        yield Text(f"No model is installed yet; start with: {program()} quickstart")
        return
    rows = [
        (
            model.name,
            model.size,
            size(model.bytes) if model.readable else "",
            model.installed[:10],
            _state(model),
        )
        for model in shown.found
    ]
    yield Columns(
        rows, head=("name", "parameters", "on disk", "installed", "adapter"), right=frozenset({1, 2}), below=0
    )


def _state(model: Installed) -> str:
    if not model.readable:
        return "cannot be read: change its rights"
    return model.adapter or "-" if model.complete else "incomplete: install it again"


@drawing.register
def checks(shown: Checks) -> Iterator[RenderableType]:
    """One line a finding; where something is wrong, what to do about it."""
    rows = []
    for check in shown.found:
        word, style = MARKS[check.ok]
        said = [check.detail, *([check.fix] if check.fix and check.ok is not True else [])]
        rows.append((Text(word, style=style), check.name, Text("\n".join(map(visible, said)))))
    yield Columns(rows, indent=0)


@drawing.register
def model_check(shown: ModelCheck) -> Iterator[RenderableType]:
    """What was found about a model, then the memory of every way to hold it."""
    yield from checks(Checks(shown.checks))
    yield Text()
    yield from memory(shown.memory)


@drawing.register
def handlers(shown: Handlers) -> Iterator[RenderableType]:
    """One line a family."""
    rows = [
        (
            handler.name,
            ", ".join(handler.model_types) or "all others",
            ", ".join(handler.target_modules),
            handler.source,
        )
        for handler in shown.found
    ]
    yield Columns(rows, head=("name", "model types", "target modules", "from"))
