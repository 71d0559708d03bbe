"""Documents say what is so: tables equal the code, commands exist, every flag is real."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from llm_installer.cli.main import cli
from llm_installer.planning.controller import RULES
from llm_installer.planning.modes import MODES, modes_table
from llm_installer.planning.options import options_table
from llm_installer.planning.stopping import stop_table

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = {"train.sh": "train", "start.sh": "start"}


def test_the_options_table_is_the_generated_one() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert text.endswith(options_table() + "\n"), "paste the output of planning.options.options_table()"


@pytest.mark.parametrize("table", [modes_table, stop_table], ids=["modes", "stop rules"])
def test_the_tables_of_modes_are_the_generated_ones(table: Callable[[], str]) -> None:
    text = (ROOT / "docs" / "modes.md").read_text(encoding="utf-8")
    assert f"\n\n{table()}\n\n" in text, f"paste the output of {table.__module__}.{table.__name__}()"


def test_every_mode_and_every_rule_of_the_controller_is_explained() -> None:
    text = (ROOT / "docs" / "modes.md").read_text(encoding="utf-8")
    for name in [*MODES, *RULES]:
        assert f"**{name}**" in text, name


def commands() -> list[tuple[str, list[str]]]:
    """(document, words) of every command line in an unlabelled code block of the documents."""
    found = []
    for document in DOCS:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(encoding="utf-8"), flags=re.S | re.M)
        for line in "".join(text for label, text in blocks if not label).splitlines():
            text = line.strip().split("  #")[0]
            if re.match(r"(\./|\S*/)?(llm-installer|train\.sh|start\.sh)\s", text + " "):
                found.append((document.name, shlex.split(text)))
    assert len(found) > 8
    return found


@pytest.mark.parametrize(("document", "words"), commands(), ids=lambda v: v if isinstance(v, str) else " ".join(v)[:60])
def test_documented_commands_and_flags_exist(document: str, words: list[str]) -> None:
    name = words[0].rsplit("/", 1)[-1]
    words = [SCRIPTS[name], *words[1:]] if name in SCRIPTS else words[1:]
    if not words or words[0].startswith("-"):
        return
    command: click.Command = cli.commands[words[0]]
    if isinstance(command, click.Group):  # such as `adapters [MODEL] compare`
        command = next((command.commands[w] for w in words[1:] if w in command.commands), command)
    known = {o for p in command.params if isinstance(p, click.Option) for o in (*p.opts, *p.secondary_opts)}
    assert {w for w in words[1:] if w.startswith("-")} <= known | {"--help", "-h"}, document


def test_the_readme_names_every_room() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [p.name for p in (ROOT / "llm_installer").iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    for room in [*rooms, "handlers", "templates", "tests", "docs", "benchmarks"]:
        assert f"{room}/" in text, f"the tree in README.md lacks {room}/"


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in cli.commands:
        assert f"`{name}" in text or f"llm-installer {name}" in text, name
