"""docs/guides/data.md says what is so: its formats are the table's, and its figures are what the data command finds.

REWRITE=1 pytest tests/data/test_docs_data.py writes both tables again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_installer.cli.main import cli
from llm_installer.core.errors import InstallerError
from llm_installer.data.formats import FORMATS
from llm_installer.data.reading.readers import READERS
from llm_installer.data.reading.rows import PARTS
from llm_installer.install.installer import install

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "data.md"
HEAD = "| file | examples | train | validation | duplicates | skipped, or why it is refused |\n" + "|---" * 6 + "|\n"


def stands(name: str, table: str) -> None:
    """Asserts that the guide holds this table between its marks, after writing it there when that is asked for."""
    text = GUIDE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, rest = text.split(begin)
    found, after = rest.split(end)
    if os.environ.get("REWRITE"):
        GUIDE.write_text(before + begin + table + end + after, encoding="utf-8")
    else:
        assert found == table, "run REWRITE=1 pytest tests/data/test_docs_data.py and read the difference"


def test_the_formats_table_is_the_generated_one() -> None:
    rows = [
        f"| `{row.name}` | {', or '.join(' '.join(f'`{key}`' for key in shape) for shape in row.required)} | "
        f"`{row.example}` | {'; '.join(filter(None, (row.note, row.notice)))} |"
        for row in FORMATS
    ]
    stands("formats", "| format | keys | example | what is trained on |\n|---|---|---|---|\n" + "\n".join(rows))


def test_every_suffix_and_part_is_named() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for word in (*READERS, *PARTS):
        assert f"`{word}`" in text, word


@pytest.fixture
def line_of(shared: Path, llm_home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Gives the line of a file in the table."""
    model = install(str(shared / "models" / "stories260K"), link=True, say=lambda text: None).root
    monkeypatch.chdir(shared / "data")

    def line(name: str) -> str:
        result = CliRunner().invoke(cli, ["data", name, "--json", "--model", str(model)], standalone_mode=False)
        if result.exception is not None:
            assert isinstance(result.exception, InstallerError), repr(result.exception)
            reason = re.sub(r"(/[^/\s]+)+/shared/data/", "", str(result.exception)).replace("|", "\\|")
            return f"| {name} | | | | | {reason} |"
        found = json.loads(result.stdout_bytes)
        counts = [f"{found[key]:,}" for key in ("examples", "train", "validation", "duplicates")]
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in found["dropped_reasons"].items())
        reasons = re.sub(r"(/[^/\s]+)+/shared/data/", "", reasons)
        return f"| {name} | {' | '.join(counts)} | {reasons or '-'} |"

    return line


@pytest.mark.slow
def test_the_figures_are_what_the_command_finds(line_of: Callable[[str], str]) -> None:
    files = sorted(str(path.relative_to(Path.cwd())) for path in Path.cwd().rglob("*") if path.is_file())
    stands("real files", HEAD + "\n".join(map(line_of, files)))
