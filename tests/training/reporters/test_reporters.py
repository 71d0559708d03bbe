"""The composite: everyone is told, everyone is closed, and nobody's trouble ends the run."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from llm_installer.core.errors import UsageError
from llm_installer.training.reporters import REPORTERS, Reporting, reporters

EVERYTHING = tuple(REPORTERS)


def piped() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=100), file


def test_a_run_leaves_every_file(make_story):
    story = make_story()
    console, file = piped()
    with reporters(story.header, Reporting(EVERYTHING, console)) as report:
        story.play(report)
        report.on_note("a note")
        report.on_end(story.state, story.result())
    run = story.header.run
    assert {path.name for path in run.root.iterdir()} == {
        "metrics.jsonl",
        "train.log",
        "training_history.png",
        "logs",
    }
    said = [line.partition("  ")[2] for line in run.train_log.read_text(encoding="utf-8").splitlines()]
    shown = [line.replace(" | Ended: no improvement", "") for line in said]
    assert shown == file.getvalue().splitlines(), "why it ended is said after the run, by whoever has its result"
    assert said[-2:] == [
        "a note",
        "Trained 40 steps in 00:08:22 | Ended: no improvement | Best Val: 1.4000 at step 20 | Base model: 2.1000",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_whatever_ends_the_run_everyone_is_closed(make_story, error):
    story = make_story()
    console, file = piped()
    with (
        pytest.raises(error),
        reporters(story.header, Reporting(EVERYTHING, console)) as report,
    ):
        story.play(report, evaluations=2)
        report.on_step(story.step(11))
        raise error
    assert file.getvalue().splitlines()[-1].startswith("Training ended early, at step 10 | Best Val: 1.7000")
    assert story.header.run.metrics.read_text().splitlines()[-1].startswith('{"kind": "step", "step": 11')
    assert story.header.run.history_png.exists()


def test_a_run_that_ends_before_its_first_measurement_says_where(make_story):
    story = make_story()
    console, file = piped()
    with reporters(story.header, Reporting(("terminal",), console)) as report:
        report.on_step(story.step(1))
        report.on_step(story.step(2))
    assert file.getvalue().splitlines()[-1] == "Training ended early, at step 2"


def test_the_end_is_told_once(make_story):
    story = make_story()
    console, file = piped()
    with reporters(story.header, Reporting(("terminal",), console)) as report:
        report.on_end(story.state, story.result())
    assert file.getvalue().count("Trained") == 1
    assert "interrupted" not in file.getvalue()


def test_without_names_nothing_is_said_or_written(make_story):
    story = make_story()
    console, file = piped()
    with reporters(story.header, Reporting((), console)) as report:
        story.play(report)
    assert file.getvalue() == ""
    assert list(story.header.run.root.iterdir()) == []


def test_an_unknown_name_is_the_users_mistake(make_story):
    story = make_story()
    expected = "no reporter named 'consle'; choose from: log, terminal, jsonl, tensorboard, samples, plot"
    with (
        pytest.raises(UsageError, match=expected),
        reporters(story.header, Reporting(("consle",), piped()[0])),
    ):
        pass


def test_a_file_in_the_way_is_one_warning(make_story):
    story = make_story()
    story.header.run.metrics.write_text("old\n")
    console, file = piped()
    with reporters(story.header, Reporting(("jsonl", "terminal"), console)) as report:
        story.play(report)
        report.on_end(story.state, story.result())
    (warning,) = (line for line in file.getvalue().splitlines() if "Warning" in line)
    assert warning.startswith("Warning: jsonl is off for the rest of this run: ")
    assert "metrics.jsonl" in warning
    assert "Evaluation #4" in file.getvalue()
    assert story.header.run.metrics.read_text() == "old\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_turns_off_who_writes_and_the_run_goes_on(make_story):
    story = make_story()
    run = story.header.run
    console, file = piped()
    with reporters(story.header, Reporting(EVERYTHING, console)) as report:
        story.play(report, evaluations=2)
        for path in (run.metrics, run.train_log, next(run.logs.glob("events.*"))):
            path.unlink()
            path.symlink_to("/dev/full")
        report.on_evaluation(story.evaluation(2), story.state, story.state.record(story.evaluation(2)))
        report.on_evaluation(story.evaluation(3), story.state, story.state.record(story.evaluation(3)))
        report.on_end(story.state, story.result())
    warnings = [line.split(":")[1] for line in file.getvalue().splitlines() if line.startswith("Warning")]
    assert sorted(warnings) == [f" {name} is off for the rest of this run" for name in ("jsonl", "log", "tensorboard")]
    assert file.getvalue().count("No space left on device") == 3
    assert "Evaluation #3" in file.getvalue()
    assert run.history_png.exists()


class Broken:
    """A user's reporter with a mistake of its own."""

    def __init__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        if name == "on_end":
            raise ZeroDivisionError("a mistake")
        return lambda *_: None


def test_a_mistake_in_one_is_not_hidden_but_the_others_still_end(make_story, monkeypatch):
    monkeypatch.setitem(REPORTERS, "broken", Broken)
    story = make_story()
    console, file = piped()
    with (
        pytest.raises(ZeroDivisionError),
        reporters(story.header, Reporting(("broken", "terminal"), console)) as report,
    ):
        story.play(report, evaluations=1)
    assert file.getvalue().splitlines()[-1].startswith("Training ended early")


def test_the_server_comes_and_goes_with_the_run(make_story):
    story = make_story()
    console, file = piped()
    with reporters(story.header, Reporting(("terminal", "tensorboard"), console, tensorboard_port=6006)):
        (said,) = (line for line in file.getvalue().splitlines() if line.startswith("TensorBoard: http://127.0.0.1:"))
        (child,) = children(at_least=1)
        assert os.getpgid(int(child)) != os.getpgid(0)  # Ctrl-C in a terminal is for the run alone
    assert said.endswith("/")
    assert child not in children()


@pytest.mark.parametrize(
    ("names", "port", "expected"),
    [
        (("terminal", "tensorboard"), None, ""),
        (("terminal",), 6006, ""),
        (("terminal", "tensorboard"), 65536, "Warning: TensorBoard server is off for the rest of this run: all ports"),
    ],
)
def test_without_a_server_the_run_goes_on(make_story, names, port, expected):
    story = make_story()
    console, file = piped()
    with reporters(story.header, Reporting(names, console, tensorboard_port=port)) as report:
        story.play(report, evaluations=1)
    assert expected in file.getvalue()
    assert "http://" not in file.getvalue()
    assert "Evaluation #0" in file.getvalue()


def children(at_least: int = 0) -> list[str]:
    """The process ids of the TensorBoard servers that this process started."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("looks for processes in /proc")
    found: list[str] = []
    deadline = time.monotonic() + 30
    while True:  # for a moment after its start a process has no command line
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                parent = int(status.read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and b"tensorboard_launch.py" in status.with_name("cmdline").read_bytes():
                    found.append(status.parent.name)
        if len(found) >= at_least or time.monotonic() > deadline:
            return found
        found.clear()
        time.sleep(0.05)


def test_importing_the_reporters_is_light():
    code = "import llm_installer.training.reporters, sys; print(*sys.modules, sep=chr(10))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "llm_installer.training.reporters" in loaded
    assert not {"torch", "numpy", "matplotlib", "tensorboard", "tensorflow", "transformers"} & set(loaded)


def test_no_reporter_needs_torch(make_story):
    story = make_story()
    code = f"""
import sys
from pathlib import Path
from rich.console import Console
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.state import Evaluation, RunState
from llm_installer.core.run.header import RunHeader
from llm_installer.training.reporters import REPORTERS, Reporting, reporters

root = Path({str(story.header.run.root)!r})
header = RunHeader("m", "lora", "fast", Run(root), ModelDir(root), 1, 1.0, 3, False, 1, 1)
with reporters(header, Reporting(list(REPORTERS), Console())) as report:
    state, evaluation = RunState(), Evaluation(0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    report.on_evaluation(evaluation, state, state.record(evaluation))
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    assert story.header.run.history_png.exists()
