"""The console: golden lines where output is piped, a bar in a real (pseudo) terminal."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from llm_installer.core.run.forecast import Forecast
from llm_installer.core.state import RunState, StepReport
from llm_installer.training.reporters.pace import Pace
from llm_installer.training.reporters.terminal import ENDING, FREE_CELLS, Bar, TerminalReporter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def piped(width: int = 80) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width), file


PIPED = """\
Training tiny | lora, fast | 1,234 training rows, 137 validation rows | up to 80 steps
Evaluation #0 (before training) | Time: 00:00:00 | Train Loss: 2.0000 | Val Loss: 2.1000 | Best Val: - | Patience: 0/3
Evaluation #1 | Time: 00:02:05 | Train Loss: 1.5000 | Val Loss: 1.7000 | Best Val: 1.7000 | Patience: 0/3 | New best
Evaluation #2 | Time: 00:04:11 | Train Loss: 1.0000 | Val Loss: 1.4000 | Best Val: 1.4000 | Patience: 0/3 | New best
Evaluation #3 | Time: 00:06:16 | Train Loss: 0.7000 | Val Loss: 1.5000 | Best Val: 1.4000 | Patience: 1/3
Evaluation #4 | Time: 00:08:22 | Train Loss: 0.5000 | Val Loss: 1.6000 | Best Val: 1.4000 | Patience: 2/3
A note [with] :smile: and a very long path that no width may break: /home/someone/LLM/models/tiny/runs/20261121/adapter
Trained 40 steps in 00:08:22 | Best Val: 1.4000 at step 20 | Base model: 2.1000
"""


@pytest.mark.parametrize("width", [60, 80, 200])
def test_piped_output_is_plain_whole_lines(make_story, width):
    story = make_story()
    console, file = piped(width)
    reporter = TerminalReporter(story.header, console, Clock())
    reporter.on_start(story.header)
    story.play(reporter)
    reporter.on_note(PIPED.splitlines()[6])
    reporter.on_end(story.state, story.result())
    assert file.getvalue() == PIPED


def test_forced_colour_in_a_pipe_brings_no_bar(make_story):
    story = make_story()
    file = io.StringIO()
    reporter = TerminalReporter(story.header, Console(file=file, force_terminal=True, width=80), Clock())
    reporter.on_start(story.header)
    story.play(reporter)
    reporter.on_end(story.state, None)
    written = file.getvalue()
    assert "\x1b[2m" in written
    assert set(re.findall(r"\x1b\[[^m]*?([A-Za-z])", written)) == {"m"}  # colours only, no cursor


def test_piped_steps_get_a_line_every_ten_seconds_of_silence(make_story):
    story, clock = make_story(), Clock()
    console, file = piped()
    reporter = TerminalReporter(story.header, console, clock)
    reporter.on_start(story.header)
    for number in range(1, 26):
        clock.now += 1.0
        reporter.on_step(story.step(number))
        if number == 12:
            reporter.on_evaluation(story.evaluation(1), story.state, best=False)
    steps = [line for line in file.getvalue().splitlines() if line.startswith("Step")]
    assert steps == [
        "Step 10/80 (12%) | Time: 00:00:10 | Left: 00:01:10 | 16 tokens/s | Loss: 1.7500",
        "Step 22/80 (27%) | Time: 00:00:22 | Left: 00:00:58 | 16 tokens/s | Loss: 1.4500",
    ]


def test_a_name_outside_the_encoding_is_escaped(make_story):
    story = make_story(model="\u732b")
    raw = io.BytesIO()
    reporter = TerminalReporter(story.header, Console(file=io.TextIOWrapper(raw, "ascii", write_through=True)), Clock())
    reporter.on_start(story.header)
    reporter.on_note("\udcff \u732b")
    assert raw.getvalue().decode("ascii").splitlines()[0].startswith("Training \\u732b | lora")
    assert raw.getvalue().decode("ascii").splitlines()[1] == "\\udcff \\u732b"


def bar(header, width: int, reports: list[tuple[float, StepReport]]) -> str:
    clock = Clock()
    pace = Pace(header, clock)
    for seconds, report in reports:
        clock.now += seconds
        pace.add(report)
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, no_color=True).print(Bar(pace))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).rstrip("\n")


def test_once_asked_to_end_a_run_says_that_it_will(make_header):
    file = io.StringIO()
    console = Console(file=file, width=60, force_terminal=True, no_color=True)
    console.print(Bar(Pace(make_header(), Clock()), lambda: True))
    assert file.getvalue().strip() == ENDING and len(ENDING) <= 60 - FREE_CELLS


@pytest.mark.parametrize(
    ("width", "facts"),
    [
        (40, "25%  30/120"),
        (60, "25%  30/120  00:03:00 left  loss 1.2500"),
        (80, "25%  30/120  00:01:20  00:03:00 left  loss 1.2500"),
        (120, "25%  30/120  00:01:20  00:03:00 left   2048 tok/s  loss 1.2500"),
    ],
)
def test_the_bar_shows_what_fits(make_header, width, facts):
    # twenty seconds to warm up, then two seconds a step: ninety steps are three minutes
    reports = [(22.0 if n == 1 else 2.0, StepReport(n, n / 40, 1.25, 1e-4, 1.0, 4096, 2.0)) for n in range(1, 31)]
    shown = bar(make_header(total_steps=120), width, reports)
    assert len(shown) <= width - FREE_CELLS
    drawn, beside = shown.split(" ", 1)
    assert beside.strip() == facts
    assert 12 / 4 - 1 <= len(drawn) <= width / 4  # a quarter of at least twelve cells


def test_the_bar_before_the_first_step(make_header):
    assert bar(make_header(), 80, []).split() == ["0%", "0/80", "00:00:00", "--:--:--", "left"]


def test_a_run_without_an_end_has_no_percent(make_header):
    reports = [(1.0, StepReport(n, n / 40, 1.25, 1e-4, 1.0, 90_000, 1.0)) for n in (1, 2)]
    shown = bar(make_header(total_steps=0), 80, reports)
    assert shown.endswith("step 2  00:00:02    90k tok/s  loss 1.2500")


def test_what_is_left_begins_as_the_forecast_and_follows_the_run(make_header):
    clock = Clock()
    pace = Pace(make_header(forecast=Forecast(2.0, 10.0, steps=80, evaluations=8, after=30.0)), clock)
    assert pace.remaining == 240.0, "steps and evaluations, and no more: it is the time to the last step"
    for number in range(1, 42):
        clock.now += 6.0  # twice what was forecast
        pace.add(StepReport(number, 1.0, 1.0, 1.0, 1.0, 10, 6.0))
    assert pace.remaining == pytest.approx(39 * (10 * 3 + 40 * 6) / 50)


@pytest.mark.parametrize(
    ("start", "steps", "percent", "remaining"),
    [(0, [1], 1, None), (0, [1, 2], 2, 78.0), (40, [41, 42], 52, 38.0), (0, [1, 90], 100, 0.0)],
)
def test_pace(make_header, start, steps, percent, remaining):
    clock = Clock()
    pace = Pace(make_header(start_step=start), clock)
    for number in steps:
        clock.now += 1.0
        pace.add(StepReport(number, 1.0, 1.0, 1.0, 1.0, 10, 0.0))
    assert (pace.percent, pace.remaining, pace.tokens_per_second) == (percent, remaining, None)


def test_the_clock_of_a_resumed_run_goes_on_where_the_run_was(make_header):
    clock = Clock()
    pace = Pace(make_header(start_step=40, before=RunState(seconds=100.0)), clock)
    assert pace.elapsed == 100.0
    for number in (41, 42):
        clock.now += 1.0
        pace.add(StepReport(number, 1.0, 1.0, 1.0, 1.0, 10, 0.0))
    assert (pace.elapsed, pace.remaining) == (102.0, 38.0), "what is left follows from the speed of this session"


NAME = "someone/a-model-with-a-long-name-and-0.6B-parameters"
NOTE = (
    "Warning: memory ran out, so the rest of this run computes micro-batches of 4 rows or 1,024 tokens, with its "
    "layers recomputed in the backward pass; see /tmp/a-path-that-is-longer-than-any-terminal-of-sixty-cells/20261121"
)
PLAY = """
import sys
from pathlib import Path
from rich.console import Console
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.state import Evaluation, RunState, StepReport
from llm_installer.core.run.header import RunHeader
from llm_installer.training.reporters import Reporting, reporters

root = Path(sys.argv[1])
header = RunHeader(sys.argv[2], "lora", "fast", Run(root), ModelDir(root), 20, 1.0, 3, False, 10, 5)
state = RunState()
with reporters(header, Reporting(("terminal",), Console())) as report:
    for step in range(1, 21):
        state.step = step
        report.on_step(StepReport(step, 1.0, 2.0, 1.0, 1.0, 10, 0.1))
        if step % 10 == 0:
            evaluation = Evaluation(step, 1.0, 2.0, 3.0 - step / 10, 1.0, 1.0, 1.0, 5.0)
            report.on_evaluation(evaluation, state, state.record(evaluation))
    for note in sys.argv[3:]:
        if note == "interrupt":
            raise KeyboardInterrupt
        report.on_note(note)
print("the run went on to its end", file=sys.stderr)
"""


def in_terminal(tmp_path: Path, width: int, *notes: str, model: str = "tiny", **environment: str) -> tuple[int, str]:
    """The exit code, and everything that a terminal of this width received."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    dropped = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
    command = [sys.executable, "-c", PLAY, str(tmp_path), model, *notes]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=env) as child:
        os.close(theirs)
        received = b""
        try:
            while part := os.read(ours, 65536):
                received += part
        except OSError:  # Linux says EIO when the other side is closed
            pass
        os.close(ours)
    return child.returncode, received.decode()


def words(received: str) -> list[str]:
    """The lines as text, without escapes and without the bar."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", received).replace("\r", "\n")
    return [line.rstrip() for line in text.split("\n") if line.strip() and "left" not in line]


def test_a_terminal_gets_a_bar_and_folded_lines(tmp_path):
    code, received = in_terminal(tmp_path, 60)
    assert code == 0
    assert words(received) == [
        "Training tiny | lora, fast |",
        "  10 training rows, 5 validation rows | up to 20 steps",
        "Evaluation #1 | Time: 00:00:05 | Train Loss: 2.0000 |",
        "  Val Loss: 2.0000 | Best Val: 2.0000 | Patience: 0/3 |",
        "  New best",
        "Evaluation #2 | Time: 00:00:05 | Train Loss: 2.0000 |",
        "  Val Loss: 1.0000 | Best Val: 1.0000 | Patience: 0/3 |",
        "  New best",
        "Training ended early, at step 20 |",
        "  Best Val: 1.0000 at step 20",
    ]
    assert "\u2501" in received
    assert "50%  10/20" in received
    assert received.index("\x1b[?25l") < received.rindex("\x1b[?25h")  # the cursor is hidden, and comes back
    assert "\x1b[2K" in received[received.rindex("100%") :]  # the bar is wiped at the end


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_cut(tmp_path, width):
    _, received = in_terminal(tmp_path, width, NOTE, model=NAME)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", received).replace("\r", "\n").split("\n")
    assert any("left" in line for line in lines), "the bar was drawn"
    for line in lines:
        assert cell_len(line.rstrip()) <= width or len(line.split()) == 1, line
    said = " ".join(words(received)).split()
    for sentence in (NOTE, f"Training {NAME} | lora, fast | 10 training rows, 5 validation rows | up to 20 steps"):
        expected = sentence.split()
        assert any(said[i : i + len(expected)] == expected for i in range(len(said))), sentence


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_respected(tmp_path, environment, coloured):
    _, received = in_terminal(tmp_path, 100, **environment)
    assert bool(re.search(r"\x1b\[(?:3[0-8]|4[0-8]|9\d)", received)) == coloured


def test_a_dumb_terminal_gets_no_control_characters(tmp_path):
    _, received = in_terminal(tmp_path, 80, TERM="dumb")
    assert "\x1b" not in received
    assert "Evaluation #2 | Time: 00:00:05 | Train Loss: 2.0000 | Val Loss: 1.0000 | Best Val: 1.0000" in received


def test_the_terminal_is_restored_when_the_run_is_interrupted(tmp_path):
    code, received = in_terminal(tmp_path, 80, "interrupt")
    assert code != 0
    assert received.rindex("\x1b[?25l") < received.rindex("\x1b[?25h")
    assert words(received)[-1] == "Training ended early, at step 20 | Best Val: 1.0000 at step 20"


def test_a_reader_who_leaves_does_not_end_the_run(tmp_path):
    command = [sys.executable, "-c", PLAY, str(tmp_path), "tiny"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == "the run went on to its end\n"
    assert child.returncode == 0
