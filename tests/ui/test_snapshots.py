"""What commands look like at 60, 80 and 120 columns, compared with the files in tests/ui/snapshots.

Look at a change with `git diff` after UPDATE_SNAPSHOTS=1 pytest tests/ui/test_snapshots.py, which writes them again.
"""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from llm_installer.cli import quickstart
from llm_installer.cli.quickstart import Question
from llm_installer.core.changes import Changes, Pair, RowLoss
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import RUNNING
from llm_installer.core.run.samples import Sample
from llm_installer.core.speed import Speed
from llm_installer.core.state import Result
from llm_installer.core.voice import Silence
from llm_installer.inference.before_after import Comparison
from llm_installer.inference.generate import Answer
from llm_installer.install.doctor import Check
from llm_installer.install.tiny import DATA_FILE
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.preferences import DEFAULT, ENVIRONMENT, FILE, LOGIN, PREFERENCES, Found
from llm_installer.runs.compare import RunComparison, SideBySide, differences
from llm_installer.runs.current import Lora
from llm_installer.runs.job import Job
from llm_installer.runs.listing import find_run, use
from llm_installer.runs.outcome import Outcome
from llm_installer.runs.report import NamedRow, Report
from llm_installer.train_lora import decide
from llm_installer.ui.console import Console
from llm_installer.ui.models import Checks
from llm_installer.ui.preferences import Preferences
from tests.commands import command
from tests.made_runs import make_run
from tests.ui.terminal import on_terminal, screen, words

WIDTHS = (60, 80, 120)
SNAPSHOTS = Path(__file__).parent / "snapshots"
CPU = Hardware("cpu", "CPU", 1, 20 * GIB, 24 * GIB, False, 2)
FAST, MEDIUM, LAST = "20261120-090000-fast", "20261121-100000-medium", "20261121-110000-medium"


@pytest.fixture
def folder(installed: Path, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> ModelDir:
    """A model directory, which is the current folder, with three runs and some data."""
    found = ModelDir(installed)
    make_run(found, FAST, rate=1e-3)
    make_run(found, MEDIUM, rate=2e-3)
    make_run(found, LAST, rate=2e-3, status=RUNNING)
    use(found, FAST)
    data = write_rows(40)
    bad = '{"instruction": "Colour of nothing?", "output": ""}'
    (installed / "data.jsonl").write_text(f"{data.read_text(encoding='utf-8')}\n{bad}\n", encoding="utf-8")
    monkeypatch.chdir(installed)
    return found


def shown(value: object, width: int) -> str:
    """A value as a terminal shows it, or with 0 as a pipe does."""
    file = io.StringIO()
    rich = RichConsole(file=file, width=width or 80, force_terminal=bool(width), color_system=None, highlight=False)
    Console(rich=rich).show(value)
    return file.getvalue()


def check(name: str, text: str, width: int, piped: str) -> None:
    """The text is the one of the snapshot, no line is too wide, and no word is cut: in a pipe none could be."""
    assert [line for line in text.splitlines() if len(line) > width] == []
    assert words(text) == words(piped)
    file = SNAPSHOTS / f"{name}-{width}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"{file.name} differs; see the first lines of this file"


def planned(folder: ModelDir, **more: object) -> Job:
    """A job as it is decided on a machine that is everywhere the same."""
    asked = Options.from_kwargs(model_path=folder.root, data="data.jsonl", **more)
    job = decide(asked, Silence())
    facts, length = job.prepared.facts, job.prepared.length
    return dataclasses.replace(job, hardware=CPU, plan=make_plan(asked, job.info, job.handler, CPU, facts, length))


def outcome(job: Job) -> Outcome:
    """How a run of the quickstart ends, in fixed numbers."""
    run = Run(job.folder.runs / FAST)
    losses = [RowLoss(i, False, 4.0, 3.0 - i / 15) for i in range(40)]
    speed = Speed(460.0, 0.19, "this CPU's measured float32 peak", GIB, GIB, {"load": 1.0, "train": 25.0, "save": 4.0})
    result = Result(run.root, run.adapter, 576, 570, 4.1016, 0.2207, "all epochs are done", True, speed)
    expected = "The island is called Lanternholm, after the lantern that its founder hung into the only tree."
    asked = Comparison("Which island is this?", expected, Answer("", False), Answer(expected, True))
    report = Report(
        model="tiny",
        run=run.id,
        data="data.jsonl",
        plan=job.plan,
        result=result,
        changes=Changes(
            Pair(4.0, 1.0, 40), Pair(4.0, 1.5, 5), Pair(3.0, 3.6, 30, 0.1), tuple(losses), Pair(1.0, 2.9, 32, 0.04)
        ),
        rows=[NamedRow(f"data.jsonl:{row.source + 1}", row) for row in losses],
        answers=[asked],
        validation=True,
        samples=[(0, [Sample("Who?", "I", True)]), (570, [Sample("Who?", "Fenn, the keeper.", True)])],
        lora="",
        talk="",
        picture="",
    )
    lora = Lora(True, ("./lora is now the adapter of this run, from step 570, its best.",))
    return Outcome(job.folder, result, lora, report, run.report, seconds={"start": 4.2, "train": 25.0, "load": 0.3})


def compared(folder: ModelDir) -> RunComparison:
    """Two runs, with answers as they could be."""
    one, other = find_run(folder, FAST), find_run(folder, MEDIUM)
    answer = "It is red, as all things are that lie in the evening sun by the harbour of the island."
    said = SideBySide("What colour is it?", "It is red.", answer, "")
    found = differences(one.run, other.run)
    return RunComparison(one, other, found, False, "validation rows of data.jsonl", [said])


def config() -> Preferences:
    """One value from each place."""
    home, mode, token, port = PREFERENCES
    found = [Found(home, "/data/LLM", ENVIRONMENT), Found(mode, "adaptive", FILE)]
    return Preferences([*found, Found(token, "hf_abcdefghijklmnop", LOGIN), Found(port, "6006", DEFAULT)])


def fixed() -> Checks:
    """What was mended, and what was not."""
    scripts = Check("scripts", True, "3 scripts written again")
    lost = Check(
        "model files", False, "the folder model/ is gone", "get them again with: llm-installer fix x --reinstall"
    )
    return Checks([scripts, Check("links", True, "./lora named what is gone, and was removed"), lost])


class Said:
    """The acts of the quickstart, done at once: what the commands in it print has snapshots of its own."""

    def __init__(self, folder: ModelDir) -> None:
        self.folder = folder
        self.given: list[str] = []

    def install(self, console: Console) -> ModelDir:
        console.line("Installed in ./models/tiny")
        return self.folder

    def command(self, file: Path, words: Sequence[str]) -> int:
        self.given.append(file.name)
        return 0

    def ask(self, folder: ModelDir, questions: Sequence[Question]) -> tuple[list[str], list[str]]:
        return ["I do not know what that is."] * len(questions), [q.answer for q in questions]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_quickstart(folder: ModelDir, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_HOME", str(folder.root / "LLM"))
    monkeypatch.setattr(quickstart, "DATA_FILE", Path(shutil.copy(DATA_FILE, folder.root)))  # paths as long everywhere

    def told(width: int) -> str:
        file, acts = io.StringIO(), Said(folder)
        rich = RichConsole(file=file, width=width or 80, force_terminal=bool(width), color_system=None, highlight=False)
        quickstart.run(Console(rich=rich), acts)
        assert acts.given == ["train.sh", "start.sh"]
        return screen(file.getvalue().replace("\n", "\r\n"))

    check("quickstart", told(width), width, told(0))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("dry-run", lambda folder: planned(folder, dry_run=True)),
        ("outcome", lambda folder: outcome(planned(folder))),
        ("compare", compared),
        ("config", lambda folder: config()),
        ("fix", lambda folder: fixed()),
    ],
    ids=["dry-run", "outcome", "compare", "config", "fix"],
)
def test_values(
    folder: ModelDir, name: str, made: Callable[[ModelDir], object], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.root / "settings"))
    value = made(folder)
    piped = shown(value, 0)
    assert piped.replace(" \n", "\n") == piped, "nothing is filled up in a pipe"
    check(name, shown(value, width), width, piped)


def test_no_width_cuts_a_word_or_overflows(folder: ModelDir) -> None:
    job = planned(folder, dry_run=True)
    for value in (job, outcome(job), compared(folder)):
        piped = words(shown(value, 0))
        for width in range(60, 201):
            text = shown(value, width)
            assert max(map(len, text.splitlines())) <= width and words(text) == piped, width


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["adapters", "data"])
def test_commands_on_a_terminal(folder: ModelDir, name: str, width: int) -> None:
    given = ("adapters",) if name == "adapters" else ("data", "data.jsonl")
    piped = command(*given, cwd=folder.root)
    assert piped.returncode == 0, piped.stderr
    check(name, on_terminal(width, *given, cwd=folder.root), width, piped.stdout)


def test_a_training_on_a_terminal_keeps_to_its_width_and_leaves_no_bar(folder: ModelDir) -> None:
    """The quickstart's training, shorter."""
    given = ("train", "--model-path", folder.root, "--data", "data.jsonl", "--mode", "fast", "--epochs", "1")
    text = on_terminal(60, *given, "--skip-test", "--no-tensorboard", "--seed", "1", cwd=folder.root)
    assert [line for line in text.splitlines() if len(line) > 60 and not line.strip().startswith("/")] == []
    assert "1 record is skipped:" in text and "\nDone\n" in text and "Talk to it: ./start.sh" in text
    assert "━" not in text and "Loading the model" not in text, "what only lasts a moment is gone"
