"""How the settings that hold for all models look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from llm_installer.core.hints import program
from llm_installer.core.text import short_path
from llm_installer.core.user_config import HOME, user_config_file
from llm_installer.planning.preferences import Found
from llm_installer.planning.settings import flag
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import Columns


@dataclass(frozen=True)
class Preferences:
    """All of them, with where each comes from."""

    found: Sequence[Found]


@drawing.register
def preferences(shown: Preferences) -> Iterator[RenderableType]:
    """One line each."""
    rows = [
        (
            each.preference.name,
            (short_path(Path(each.value).expanduser()) if each.preference.name == HOME else each.shown) or "-",
            each.origin,
            _about(each),
        )
        for each in shown.found
    ]
    yield Columns(rows, head=("name", "value", "from", "what it is"), indent=0, below=0)
    yield Text()
    yield Text(f"{user_config_file().name} is {short_path(user_config_file())}")
    yield Text(f"Change a value with: {program()} config set NAME VALUE")


def _about(each: Found) -> str:
    option = f"; {flag(each.preference.field)} for one run" if each.preference.field else ""
    return f"{each.preference.about}{option}"
