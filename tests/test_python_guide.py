"""The examples of docs/guides/python.md are one program, and it runs."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import cast

import pytest

import llm_installer
from llm_installer.install.tiny import QUESTIONS_FILE
from llm_installer.planning.name_rows import NAMES
from llm_installer.planning.options import Options

GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "guides" / "python.md").read_text("utf-8")
PROGRAM = "\n".join(re.findall(r"^```python\n(.*?)^```", GUIDE, re.S | re.M))


def test_every_call_in_the_guide_names_what_there_is() -> None:
    imports = [node for node in ast.walk(ast.parse(PROGRAM)) if isinstance(node, ast.ImportFrom)]
    imported = {name.name for node in imports for name in node.names}
    table = set(re.findall(r"`(\w+)`", GUIDE.partition("|---|---|")[2].partition("\n\n")[0])) - {"train"}
    assert imported <= table <= {*dir(llm_installer)}
    for node in ast.walk(ast.parse(PROGRAM)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in imported:
            known = {*inspect.signature(getattr(llm_installer, node.func.id)).parameters}
            known |= {*vars(Options()), *NAMES, "run", "max_new_tokens"} if "options" in known else set()
            assert {word.arg for word in node.keywords} <= known, ast.unparse(node)
    first = GUIDE.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in first.splitlines() if line]) == 4, "train, merge, generate in five lines"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_examples_of_the_guide_run(
    llm_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from llm_installer.api import install

    pytest.importorskip("rouge_score")
    install("tiny")
    monkeypatch.chdir(tmp_path)
    Path("my.json").write_text("[" + ",".join(QUESTIONS_FILE.read_text("utf-8").splitlines()) + "]", "utf-8")
    Path("notes.csv").write_text("body,x\n" + "\n".join(f"Fenn keeps note {i} in a box,1" for i in range(9)), "utf-8")
    Path("notes.txt").write_text("\n".join(f"Note {i} is on the shelf." for i in range(9)), "utf-8")
    values: dict[str, object] = {}
    exec(compile(PROGRAM, "python.md", "exec"), values)
    counts = [str(row).count("?") for row in cast("list[object]", values["rows"])]
    assert len(cast("list[object]", values["texts"])) == 9 and counts == sorted(counts) and len({*counts}) > 1
    assert values["found"].rows == 4  # type: ignore[attr-defined]
    assert "parameters are trainable" in capsys.readouterr().out
