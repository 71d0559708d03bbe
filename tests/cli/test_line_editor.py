"""What is typed into a chat is remembered from one chat to the next, and nothing that steers a terminal is."""

from __future__ import annotations

import codecs
import os
import pty
import select
import stat
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.cli.line_editor import FILE, MOST, history_file, keep, remembered, worth_keeping
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import steering
from tests.commands import PATIENCE

pytest.importorskip("readline")
CHAT = """
import sys
from pathlib import Path
from llm_installer.cli.line_editor import line_editor
from llm_installer.core.paths import ModelDir

with line_editor(ModelDir(Path(sys.argv[1]))) as ask:
    while (said := ask()) != "/quit":
        print(f"<{said}>", flush=True)
"""
UP, LEFT = "\x1b[A", "\x1b[D"


def typed(folder: Path, *keys: str) -> str:
    """What a terminal shows when these keys are pressed, each line when the one before has been answered."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"TERM": "xterm", "LC_ALL": "C.UTF-8"}
        os.execv(sys.executable, [sys.executable, "-c", CHAT, str(folder)])
    shown = ""
    for key in keys:
        shown += until_seen(terminal, "> ")
        os.write(terminal, key.encode())
        shown += until_seen(terminal, ">\r\n") if key != "/quit\n" else ""
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    return shown


def until_seen(terminal: int, mark: str) -> str:
    """What a terminal shows up to a mark."""
    shown, deadline = "", time.monotonic() + PATIENCE
    letters = codecs.getincrementaldecoder("utf-8")("replace")
    while mark not in shown:
        assert select.select([terminal], [], [], deadline - time.monotonic())[0], shown
        shown += letters.decode(os.read(terminal, 1))
    return shown


@pytest.mark.skipif(sys.platform != "linux", reason="keys as Linux terminals send them")
def test_a_question_is_edited_and_comes_again_in_the_next_chat(tmp_path: Path) -> None:
    assert "<Who runs it?>" in typed(tmp_path, f"Who runs i?{LEFT}t\n", "/quit\n")
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert "<Who runs it?>" in typed(tmp_path, f"{UP}{UP}\n", "/quit\n")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(), max_size=20))
def test_what_is_kept_is_read_back_and_steers_nothing(
    tmp_path_factory: pytest.TempPathFactory, said: list[str]
) -> None:
    file = tmp_path_factory.mktemp("chat") / FILE
    lines: list[str] = []
    for text in said:
        if worth_keeping(text, lines):
            lines.append(text)
    keep(file, lines)
    assert remembered(file) == lines
    assert not file.exists() or not steering(file.read_text(encoding="utf-8").replace("\n", ""))


def test_a_history_that_was_meddled_with_gives_its_harmless_lines(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"Hello\n\x1b]0;title\x07\n\xff?\n\n" + b"x\n" * 2 * MOST)
    found = remembered(tmp_path / FILE)
    assert len(found) == MOST and set(found) == {"x"}
    assert remembered(tmp_path / "none") == []


def test_a_folder_that_is_not_ours_keeps_no_history(tmp_path: Path, llm_home: Path) -> None:
    assert history_file(ModelDir(tmp_path)) == tmp_path / FILE
    assert history_file(ModelDir(tmp_path / "gone")) == llm_home / FILE


@pytest.mark.skipif(sys.platform != "linux", reason="keys as Linux terminals send them")
def test_what_is_pasted_is_one_question_and_wide_letters_are_edited(tmp_path: Path) -> None:
    """A terminal says where a paste begins and ends, so that its lines are no questions of their own."""
    pasted = "\x1b[200~def f():\n    pass\x1b[201~\n"
    shown = typed(tmp_path, pasted, f"日本🙂{LEFT}x\n", "/quit\n")
    assert "<def f():\r\n    pass>\r\n" in shown and "<日本x🙂>\r\n" in shown
