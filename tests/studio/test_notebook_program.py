"""Google's program `colab`, in whose place stands one that records its arguments and does as its documents say."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from llm_installer.studio.colab.notebook import NotebookJob
from llm_installer.studio.colab.program import ColabFailed, Place, installed, run_on_colab
from llm_installer.studio.colab.wheel import Wheel
from tests.studio.test_notebook import values

JOB = NotebookJob("j1-Ab", "tiny", "", ("--epochs=2",), "d.csv", b"a,b\n")
STAND_IN = """#!{python}
import json, pathlib, sys
words = sys.argv[1:]
with open({calls!r}, "a") as file:
    file.write(json.dumps(words) + "\\n")
if words[0] == {fails!r}:
    print("[colab] \\x1b[31mError: HTTP 400, no entitlement\\x1b[0m")
    sys.exit(1)
if words[0] == "exec":
    pathlib.Path({seen!r}).write_bytes(pathlib.Path(words[words.index("--file") + 1]).read_bytes())
    print("[colab] Executing cell 1/6 - values...\\nLoss 3.1 -> 1.2")
if words[0] == "download" and not {silent}:
    pathlib.Path(words[-1]).write_bytes(b"result")
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    path = tmp_path / "llm_installer-0.1.0+h1-py3-none-any.whl"
    path.write_bytes(b"wheel")
    return Wheel(path, "0.1.0+h1", hashlib.sha256(b"wheel").hexdigest())


def stand_in(folder: Path, fails: str = "", silent: bool = False) -> Place:
    program = folder / "colab"
    calls, seen = str(folder / "calls"), str(folder / "seen.ipynb")
    text = STAND_IN.format(python=sys.executable, calls=calls, seen=seen, fails=fails, silent=silent)
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return Place("T4", str(program))


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_a_session_is_begun_used_and_ended(wheel: Wheel, tmp_path: Path) -> None:
    said: list[str] = []
    result = run_on_colab(JOB, wheel, tmp_path / "job", stand_in(tmp_path), said.append)
    assert result.read_bytes() == b"result"
    session = ["--session", "llm-j1ab"]
    assert calls(tmp_path) == [
        ["new", *session, "--gpu", "T4"],
        ["exec", *session, "--timeout", "86400", "--file", str(tmp_path / "job" / "job.ipynb")],
        ["download", *session, "content/j1-Ab.result.zip", str(result)],
        ["stop", *session],
    ]
    assert said == ["[colab] Executing cell 1/6 - values...", "Loss 3.1 -> 1.2"]
    found = values((tmp_path / "seen.ipynb").read_bytes())
    assert found["hand_over"] is False, "the session is ended by whoever began it, after the download"


@pytest.mark.parametrize("fails", ["new", "exec", "download"])
def test_a_session_is_ended_when_something_fails(fails: str, wheel: Wheel, tmp_path: Path) -> None:
    with pytest.raises(ColabFailed, match=rf"colab {fails} failed: \[colab\] Error: HTTP 400, no entitlement$"):
        run_on_colab(JOB, wheel, tmp_path / "job", stand_in(tmp_path, fails), lambda text: None)
    assert [words[0] for words in calls(tmp_path)][-1] == "stop"


def test_no_result_is_a_failure_and_so_is_a_gpu_that_it_does_not_know(wheel: Wheel, tmp_path: Path) -> None:
    place = stand_in(tmp_path, silent=True)
    with pytest.raises(ColabFailed, match="without a result"):
        run_on_colab(JOB, wheel, tmp_path / "job", place, lambda text: None)
    before = len(calls(tmp_path))
    with pytest.raises(ColabFailed, match="no GPU called V100; choose one of T4"):
        run_on_colab(JOB, wheel, tmp_path / "job", Place("V100", place.program), lambda text: None)
    assert len(calls(tmp_path)) == before, "it would have taken the most expensive one"
    assert installed(place.program) and not installed("no-such-program")


def test_who_stops_this_ends_the_session_too(wheel: Wheel, tmp_path: Path) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on_colab(JOB, wheel, tmp_path / "job", stand_in(tmp_path), interrupt)
    assert [words[0] for words in calls(tmp_path)] == ["new", "exec", "stop"]
