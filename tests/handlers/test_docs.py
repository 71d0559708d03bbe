"""docs/reference/model-families.md: its table is what the files say, its example is a handler that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_installer.core.handler import Handler
from llm_installer.planning.registry import all_handlers

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "model-families.md"
HEAD = ("handler", "`model_type`", "LoRA on", "precision", "longest row", "packing", "images", "example")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM_HOME", str(tmp_path))
    made = tmp_path / "handlers"
    made.mkdir()
    return made


def row(handler: Handler) -> tuple[str, ...]:
    return (
        handler.name,
        " ".join(handler.model_types) or "every other",
        " ".join(handler.target_modules),
        handler.dtype,
        str(handler.max_length),
        "yes" if handler.packing else "no",
        "yes" if handler.vision else "no",
        handler.example or "-",
    )


def table() -> str:
    rows = [HEAD, ("---",) * len(HEAD), *(row(handler) for handler in all_handlers())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def test_the_table_is_what_the_files_say(folder: Path) -> None:
    """When this fails, the table to paste into the page is on the right."""
    written = PAGE.read_text().partition("<!-- table -->\n")[2].partition("\n<!-- /table -->")[0]
    assert written == table()


def test_the_example_is_a_handler_that_works(folder: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file = folder / "mymodel.py"
    file.write_text(example)
    first = all_handlers()[0]
    assert (first.name, first.model_types, first.source) == ("mymodel", ("mymodel",), str(file))


def test_every_field_is_explained() -> None:
    page = PAGE.read_text()
    fields = set(Handler.__dataclass_fields__) - {"source"}
    assert {name for name in fields if f"| `{name}` |" in page} == fields
