"""What data, files, models and answers are named or say never steers the terminal, nor forges a line of ours."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress
from rich.text import Text

from llm_installer.cli.echo import echo, stream
from llm_installer.core.files import write_json
from llm_installer.core.hints import quoted
from llm_installer.core.markdown import document, plain, table
from llm_installer.core.text import shortened, visible
from llm_installer.ui.console import Console, Terminal
from llm_installer.ui.tables import facts
from tests.generated import many

OSC, CSI, C1, OVERRIDE = "\x1b]0;owned\x07", "\x1b[2J\x1b[31m", "\x9b31m\x9d0;owned\x9c", "\u202etxt.exe\u2069"
HOSTILE = f"a{OSC}{CSI}{C1}{OVERRIDE}\r\x7f\u2028b"
FORGED = "c\nError: the disk is on fire"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
anything = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(HOSTILE + "\n\udc80\udcff"), max_size=40)


def drawn(width: int = 80, terminal: bool = True) -> tuple[Console, Callable[[], str]]:
    """A console, and what was printed on it."""
    out = io.StringIO()
    rich = Terminal(file=out, force_terminal=terminal, width=width, highlight=False, color_system=None)
    return Console(rich=rich), out.getvalue


def harmless(printed: str) -> bool:
    return not STEERING.search(printed)


@settings(max_examples=many(30), deadline=None)
@given(anything)
def test_every_text_is_made_visible(text: str) -> None:
    assert harmless(visible(text)) and "\n" not in visible(text)
    assert harmless(visible(text, lines=True))
    assert harmless(shortened(text)) and "\n" not in shortened(text)
    assert visible(visible(text)) == visible(text)


@settings(max_examples=many(30), deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=DIRECTIONS)))
def test_texts_of_every_script_stay_what_they_are(text: str) -> None:
    assert visible(text) == visible(text, lines=True) == text


@settings(max_examples=many(30), deadline=None)
@given(anything, st.booleans(), st.integers(30, 100))
def test_nothing_that_is_drawn_steers_the_terminal(text: str, terminal: bool, width: int) -> None:
    console, printed = drawn(width, terminal)
    console.line(text)
    console.heading(text)
    console.command(["train.sh", quoted(text)])
    console.parts([Text(text), facts((text, text), ("name", Text(text)))])
    assert harmless(printed())


def test_a_name_cannot_forge_a_line() -> None:
    console, printed = drawn(terminal=False)
    console.line(f"  Note: {FORGED}")
    console.parts([Text(f"Report: {FORGED}", style="bold"), facts(("data", FORGED))])
    assert not re.search("^Error:", printed(), re.M)
    assert r"c\nError: the disk" in printed()


def test_styles_survive_escapes() -> None:
    out = io.StringIO()
    console = Console(rich=Terminal(file=out, force_terminal=True, color_system="standard", highlight=False))
    console.parts([Text.assemble("one \x1b]0;x\x07 ", ("bold", "bold"), " two")])
    assert "\x1b[1mbold\x1b[0m" in out.getvalue()
    assert r"\u001b]0;x" in out.getvalue()


def test_spinners_and_bars_draw_names_as_text() -> None:
    console, printed = drawn()
    with console.waiting(f"Loading {HOSTILE} [bold]x[/nothing]"):
        pass
    with console.progress(f"Reading {HOSTILE} [/nothing]") as progress:
        progress(1, 2)
    assert "owned\x07" not in printed() and "\x9b" not in printed() and "\u202e" not in printed()
    assert isinstance(console.rich, Terminal) and Progress


@settings(max_examples=many(30), deadline=None)
@given(st.lists(anything, min_size=1, max_size=3))
def test_a_report_has_no_control_characters_and_no_forged_lines(cells: list[str]) -> None:
    made = document([[f"# {plain(cells[0])}"], [cells[0], "", *table(cells, [cells])]])
    assert harmless(made)
    assert len(made.split("\n")) == 8


def test_streamed_answers_keep_their_lines_and_lose_their_controls(capsys: pytest.CaptureFixture[str]) -> None:
    for piece in ("one\n", "\ttwo\x1b", "]0;ow", "ned\x07", "\x9b", "2J", "\r\n", "\u202e"):
        stream(piece)
    printed = capsys.readouterr().out
    assert printed == "one\n\ttwo\\u001b]0;owned\\u0007\\u009b2J\n\\u202e"
    echo(FORGED, err=True)
    assert capsys.readouterr().err == "c\\nError: the disk is on fire\n"


@settings(max_examples=many(30), deadline=None)
@given(anything)
def test_json_files_hold_the_very_text_in_harmless_letters(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.json"
        write_json(file, {"name": text})
        assert harmless(file.read_text(encoding="utf-8"))
        assert json.loads(file.read_text(encoding="utf-8"))["name"] == text


@pytest.mark.parametrize("name", ["a\x1b]0;x\x07b", "two\nlines", "it's\r", "\udcff\\x", "plain name", "~/x\ny"])
def test_a_hint_names_a_file_that_bash_finds(name: str, tmp_path: Path) -> None:
    folder = tmp_path / Path(name).name
    folder.mkdir()
    word = quoted(str(folder))
    assert harmless(word) and "\n" not in word
    done = subprocess.run(["bash", "-c", f"cd {word} && echo here"], capture_output=True, text=True, check=False)
    assert done.stdout == "here\n", done.stderr


def test_the_command_line_repeats_no_control_characters(tmp_path: Path) -> None:
    """As errors of ours, as errors of click, as values of data."""
    data = tmp_path / f"{FORGED.replace(':', '')}\x1b]0;owned\x07.jsonl"
    data.write_text(json.dumps({"instruction": f"q {HOSTILE}", "output": FORGED}) + "\n{}\n", encoding="utf-8")
    for words in (("data", data), ("data", f"{data}x"), ("data", data, "--json"), ("list", data), ("install", data)):
        command = [sys.executable, "-m", "llm_installer", *map(str, words)]
        done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
        printed = (done.stdout + done.stderr).decode()
        assert harmless(printed), (words, printed)
        assert not re.search("^Error the disk", printed, re.M), (words, printed)
    assert "owned" in printed
