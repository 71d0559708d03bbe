"""Runs that are killed at any moment, on a full disk, with changed data: what is left of them, and how they go on.

KILLS=30 pytest tests/stories/test_resume.py kills thirty times; by default it is a sample.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from llm_installer.core.manifest import damage
from llm_installer.install.installer import install
from tests.commands import processes
from tests.tiers import first_here

KILLS = int(os.environ.get("KILLS", "2"))
ROWS, EPOCHS = 60, 3.0
DEADLINE = 240.0
SOON = 0.8
"""Share of a run in which it is killed: what kills it later may find it finished."""
LOOK_EVERY = 0.001
"""Seconds between two looks at ./lora, so that the looking leaves the training a processor."""


def train(log: str, given: dict[str, object], largest_file: int) -> None:
    """One training process, its exit code that of the command line; no file may grow above `largest_file` bytes."""
    import resource

    import torch

    from llm_installer.core import files
    from llm_installer.core.errors import InstallerError
    from llm_installer.planning.options import Options
    from llm_installer.train_lora import run
    from llm_installer.training import checkpoint
    from llm_installer.ui.console import Console

    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        signal.signal(number, handler)
    torch.set_num_threads(1)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sync = files._sync_path
    files._sync_path = lambda path: (time.sleep(0.003), sync(path))[1]  # a slow disk, so that kills hit saves too
    checkpoint.SAVE_COST = 1.0  # after every measurement
    sys.stdout = sys.stderr = open(log, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
    try:
        run(Options.from_kwargs(**given), Console())
    except InstallerError as error:
        print(f"Error: {error}")
        os._exit(error.exit_code)
    sys.stdout.flush()
    os._exit(0)


class Runner:
    """Starts trainings of one model directory on one file."""

    def __init__(self, folder: Path, data: Path, log: Path) -> None:
        self.folder, self.log = folder, log
        self.options = {
            "model_path": str(folder), "data": str(data), "epochs": EPOCHS, "effective_batch_size": 4,
            "lora_dropout": 0.1, "force_epochs": True, "tensorboard": False, "skip_test": True,
        }  # fmt: skip

    def start(self, *, largest_file: int = 0, **more: object):
        """A training process. A resumed one is told nothing but what `more` says."""
        options = {"model_path": str(self.folder)} if "resume" in more or "resume_from" in more else self.options
        process = processes.Process(target=train, args=(str(self.log), {**options, **more}, largest_file))
        process.start()
        return process

    def finish(self, **more: object) -> int:
        process = self.start(**more)
        process.join(DEADLINE)
        assert process.exitcode is not None, self.log.read_text()
        return process.exitcode

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def runs(self) -> list[Path]:
        return sorted((self.folder / "runs").glob("*/run.json"))

    def newest(self) -> Path:
        return self.runs()[-1].parent


def curve(run: Path) -> list[tuple[str, int, float, float | None]]:
    """What a run measured, without its times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(r["kind"], r["step"], r.get("loss", r.get("train_loss")), r.get("validation_loss")) for r in lines]


class Place:
    """A model directory and its data, which are as they were kept, at the same path, for each test that takes them."""

    def __init__(self, root: Path) -> None:
        self.root, self.kept = root / "here", root / "kept"
        self.home, self.data = self.root / "llm home", self.root / "data.jsonl"

    def keep(self, name: str) -> None:
        shutil.copytree(self.root, self.kept / name, symlinks=True)

    def bring(self, name: str) -> Runner:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.kept / name, self.root, symlinks=True)
        (folder,) = (self.home / "models").iterdir()
        return Runner(folder, self.data, self.root / "log.txt")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Place:
    """With a model and no run."""
    made = Place(tmp_path_factory.mktemp("a place"))
    made.root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(made.home))
        install(str(tiny_llama), say=lambda text: None)
    write_data(made.data, ROWS)
    made.keep("no run")
    return made


def write_data(file: Path, count: int) -> None:
    colours = ("red", "blue", "green", "yellow")
    rows = [{"instruction": f"Colour of thing {i}?", "output": f"It is {colours[i % 4]}."} for i in range(count)]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


@pytest.fixture
def runner(place: Place, llm_home: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setenv("LLM_HOME", str(place.home))
    return place.bring("no run")


@pytest.fixture(scope="module")
def with_unbroken(place: Place) -> str:
    """Where the run is kept that nobody disturbs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(place.home))
        runner = place.bring("no run")
        assert runner.finish() == 0, runner.said()
    place.keep("unbroken")
    return "unbroken"


@pytest.fixture
def unbroken(place: Place, with_unbroken: str, runner: Runner) -> Path:
    """The run that nobody disturbs."""
    return place.bring(with_unbroken).newest()


@contextlib.contextmanager
def watching(lora: Path) -> Iterator[list[str]]:
    """Look at ./lora again and again, and load whatever is new in it; collects what was ever wrong with it."""
    wrong: list[str] = []
    over = threading.Event()

    def look() -> None:
        known = None
        while not over.is_set():
            found = ""
            try:
                real = lora.resolve(strict=True)
                seen = real, [(file.path, file.inode(), file.stat().st_mtime_ns) for file in os.scandir(real)]
                if seen != known:
                    found = damage(real) or ("" if load_file(real / "adapter_model.safetensors") else "no weights")
                    known = seen
            except Exception as error:  # whatever it is, a reader met it
                found = repr(error)
            if found:
                wrong.append(found)
            over.wait(LOOK_EVERY)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


def wait_for_steps(runner: Runner, process, before: set[Path]) -> Path | None:
    """The new run's folder once its loop has begun; None when the process ended first."""
    deadline = time.monotonic() + DEADLINE
    while process.is_alive() and time.monotonic() < deadline:
        for record in runner.runs():
            if record not in before and (record.parent / "metrics.jsonl").exists():
                return record.parent
        time.sleep(0.005)
    return None


def is_saving(run: Path) -> bool:
    return any((run / "checkpoints").glob(".*.new"))


@pytest.mark.parametrize(
    "number", first_here([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]), ids=["KILL", "TERM", "INT"]
)
def test_a_killed_run_goes_on_to_the_same_end(runner: Runner, unbroken: Path, number: signal.Signals) -> None:
    expected, weights = curve(unbroken), load_file(unbroken / "adapter" / "adapter_model.safetensors")
    seconds = max(0.3, json.loads((unbroken / "metrics.jsonl").read_text().splitlines()[-1]).get("seconds") or 1.0)
    chance = random.Random(int(number))
    times = KILLS if number == signal.SIGKILL else max(1, KILLS // 3)
    hits = saves = 0
    with watching(runner.folder / "lora") as wrong:
        for i in range(times):
            before = set(runner.runs())
            process = runner.start()
            run = wait_for_steps(runner, process, before)
            moment = time.monotonic() + chance.random() * seconds * SOON
            while process.is_alive() and run is not None:
                during = is_saving(run)
                if (during and i % 2) or time.monotonic() > moment:
                    os.kill(process.pid, number)
                    hits, saves = hits + 1, saves + during
                    break
                time.sleep(0.001)
            process.join(DEADLINE)
            if process.exitcode != 0 and number != signal.SIGKILL:
                assert process.exitcode == 128 + number, runner.said()
            if json.loads((runner.newest() / "run.json").read_text())["status"] != "finished":
                assert runner.finish(resume=True) == 0, runner.said()
            run = runner.newest()
            assert curve(run) == expected
            found = load_file(run / "adapter" / "adapter_model.safetensors")
            assert all((found[name] == weights[name]).all() for name in weights)
            assert json.loads((run / "run.json").read_text())["status"] == "finished"
            assert (runner.folder / "lora").resolve() == run / "adapter"
    print(f"{number.name}: {times} runs, {hits} killed in the loop, {saves} of these while saving")
    assert not wrong, wrong[:3]
    assert hits


@pytest.fixture(scope="module")
def with_interrupted(place: Place) -> str:
    """Where a run is kept that was asked to stop in the middle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(place.home))
        runner = place.bring("no run")
        process = runner.start()
        run = wait_for_steps(runner, process, set())
        assert run is not None
        wait_for_checkpoint(run)
        os.kill(process.pid, signal.SIGTERM)
        process.join(DEADLINE)
        assert process.exitcode == 143, runner.said()
        assert "; resume with: " in runner.said()
    place.keep("interrupted")
    return "interrupted"


@pytest.fixture
def interrupted_run(place: Place, with_interrupted: str, runner: Runner) -> Path:
    """A run that was asked to stop in the middle."""
    return place.bring(with_interrupted).newest()


def wait_for_checkpoint(run: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while not (run / "checkpoints" / "last").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_an_interrupted_run_says_so_in_its_report(runner: Runner, interrupted_run: Path) -> None:
    step = json.loads((interrupted_run / "run.json").read_text())["result"]["steps"]
    last = (interrupted_run / "checkpoints" / "last").resolve()
    report = (interrupted_run / "report.md").read_text(encoding="utf-8")
    assert f"was interrupted by SIGTERM at step {step} of " in report and last.name == f"checkpoint-{step}"
    assert f"    {shlex.quote(str(runner.folder / 'train.sh'))} --resume\n" in report
    assert f"the best adapter so far is {interrupted_run / 'adapter'}." in report
    assert "## Loss so far" in report and "| 0 | " in report and "## Plan" in report
    assert runner.finish(resume=True) == 0, runner.said()
    assert "was interrupted" not in (interrupted_run / "report.md").read_text(encoding="utf-8"), "it ended well"


@pytest.mark.slow
def test_a_report_that_cannot_be_written_hides_nothing(runner: Runner) -> None:
    process = runner.start()
    run = wait_for_steps(runner, process, set())
    assert run is not None
    (run / "report.md").mkdir()
    wait_for_checkpoint(run)
    os.kill(process.pid, signal.SIGTERM)
    process.join(DEADLINE)
    assert process.exitcode == 143 and "; resume with: " in runner.said()


def test_a_run_whose_loss_was_never_a_number_is_not_resumed(installed: Path, write_rows: Callable[..., Path]) -> None:
    from llm_installer.api import lora_sft
    from llm_installer.core.errors import TrainingError

    quiet = {"skip_test": True, "tensorboard": False}
    wild = {"learning_rate": 1e9, "optimizer": "sgd", "lora_alpha": 1e9, "max_grad_norm": 1e9}
    with pytest.raises(TrainingError, match="The loss was never a finite number"):
        lora_sft(installed, write_rows(24), epochs=2, **quiet, **wild)
    with pytest.raises(TrainingError, match="cannot be resumed: its loss was never a finite number; begin a new run"):
        lora_sft(installed, resume=True, **quiet)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 9}, f"--epochs was {EPOCHS}, now 9"),
        ({"learning_rate": 0.5}, "--learning-rate was not given, now 0.5"),
        ({"seed": 7, "lora_r": 4}, "--seed was 42, now 7; --lora-r was not given, now 4"),
    ],
)
def test_changed_options_are_named(runner: Runner, interrupted_run: Path, change: dict[str, object], says: str) -> None:
    assert runner.finish(resume=True, **change) == 2
    assert says in runner.said() and "--resume-anyway" in runner.said()
    assert len(runner.runs()) == 1


def test_changed_data_are_named_and_only_the_weights_go_on(place: Place, runner: Runner, interrupted_run: Path) -> None:
    write_data(place.data, ROWS + 1)
    assert runner.finish(resume=True) == 2
    assert "the data changed: " in runner.said() and "data.jsonl" in runner.said()
    assert runner.finish(resume=True, resume_anyway=True) == 0, runner.said()
    assert "A new run begins with the weights of step" in runner.said() and "start from zero" in runner.said()
    new = runner.newest()
    assert new != interrupted_run
    first = next(r for r in curve(new) if r[0] == "evaluation")
    assert first[1] == 0
    assert first[2] < curve(interrupted_run)[0][2], "it begins with what was learned"


def test_another_base_is_named(runner: Runner, interrupted_run: Path) -> None:
    weights = runner.folder / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4] ^= 1
    weights.write_bytes(content)
    assert runner.finish(resume=True) == 2
    assert "the model has other weights" in runner.said()


def test_options_about_output_may_change(runner: Runner, interrupted_run: Path) -> None:
    assert runner.finish(resume=True, skip_test=True, tensorboard=False) == 0, runner.said()
    assert json.loads((interrupted_run / "run.json").read_text())["status"] == "finished"


def test_a_finished_run_says_so(runner: Runner, unbroken: Path) -> None:
    assert runner.finish(resume=True) == 1
    assert "There is no unfinished run" in runner.said()
    assert runner.finish(resume_from=str(unbroken)) == 1
    assert "is finished (all epochs are done)" in runner.said()
    assert runner.finish(resume_from=str(unbroken), resume_anyway=True) == 0, runner.said()
    assert runner.newest() != unbroken


def test_a_checkpoint_can_be_named(runner: Runner, unbroken: Path) -> None:
    assert runner.finish(resume_from=str(unbroken / "adapter")) == 1
    assert "neither a run nor a checkpoint" in runner.said()
    last = unbroken / "checkpoints" / "last"
    assert runner.finish(resume_from=str(last), resume_anyway=True) == 0, runner.said()


def test_killed_before_its_first_checkpoint_a_run_begins_anew(runner: Runner, interrupted_run: Path) -> None:
    shutil.rmtree(interrupted_run / "checkpoints")
    assert runner.finish(resume=True) == 0, runner.said()
    assert "ended before its first checkpoint" in runner.said()


def test_a_full_disk_leaves_everything_as_it_was(runner: Runner, unbroken: Path) -> None:
    good = (runner.folder / "lora").resolve()
    largest = (unbroken / "adapter" / "adapter_model.safetensors").stat().st_size - 1
    assert runner.finish(largest_file=largest) == 1
    assert "cannot be written" in runner.said() and "Traceback" not in runner.said()
    assert (runner.folder / "lora").resolve() == good
    assert not damage(good)
    assert json.loads((runner.newest() / "run.json").read_text())["status"] == "failed"
    assert not [f for f in (runner.newest() / "checkpoints").glob("*") if f.name.endswith(".new")]


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(runner: Runner, interrupted_run: Path) -> None:
    """The optimizer's file does not fit any more; the run can go on once there is room."""
    last = (interrupted_run / "checkpoints" / "last").resolve()
    largest = (last / "optimizer.pt").stat().st_size - 1
    assert runner.finish(resume=True, largest_file=largest) == 1
    assert "cannot be written" in runner.said() and "Traceback" not in runner.said()
    assert (interrupted_run / "checkpoints" / "last").resolve() == last
    assert not damage(last)
    assert runner.finish(resume=True) == 0, runner.said()
