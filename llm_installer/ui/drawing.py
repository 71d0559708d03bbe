"""How a value looks: one row for each type, in the file of ui that knows it.

`drawing` learns a type when the file with its row is imported. Those files import the types they draw, which costs
seconds where that is a training's; so a file is imported when a value of its types is first seen, and FILES says which.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from importlib import import_module

from rich.console import RenderableType

FILES = {
    "planning.plan": "plan",
    "data.fix": "dataset",
    "data.overview": "dataset",
    "data.preview": "training",
    "runs.job": "training",
    "runs.outcome": "training",
    "runs.listing": "runs",
    "runs.status": "runs",
    "runs.compare": "runs",
    "evals.result": "evals",
    "install.check": "models",
    "install.doctor": "models",
    "export.request": "merge",
    "server.request": "serve",
    "export.kinds": "export",
    "export.check_for": "push",
    "export.push.request": "push",
}
"""File of ui with the rows for the types of a file."""


@singledispatch
def drawing(found: object) -> Iterable[RenderableType]:
    """The parts of a value as they lie below each other; Text is wrapped at words by whoever prints it."""
    raise TypeError(f"Nothing in ui draws a {type(found).__qualname__}")


def drawn(found: object) -> Iterable[RenderableType]:
    """The same, once the file with the row for this type is imported."""
    for kind in type(found).__mro__:
        if name := FILES.get(kind.__module__.removeprefix("llm_installer.")):
            import_module(f"llm_installer.ui.{name}")
    return drawing(found)
