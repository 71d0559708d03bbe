"""Runs as users handle them: real trainings in processes of their own, seen, steered, killed, compared and switched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_installer.core.manifest import damage
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import holder
from llm_installer.core.run.progress import Progress
from llm_installer.runs.listing import use
from tests.commands import PATIENCE, Begun, command

QUICK = ("--no-tensorboard", "--skip-test", "--seed", "1")


def until(what: Callable[[], object], process: Begun | None = None) -> None:
    """Look until `what` is so; fail when it will not be, or when the process that should bring it is gone."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        if process and process.poll() is not None:
            pytest.fail(f"it ended: {process.communicate()}")
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def rows(file: Path, count: int) -> Path:
    colours = ("red", "blue", "green", "yellow")
    made = [{"instruction": f"Colour of thing {i}?", "output": f"It is {colours[i % 4]}."} for i in range(count)]
    file.write_text("\n".join(json.dumps(row) for row in made), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a home") / "LLM"


@pytest.fixture(autouse=True)
def at_home(home: Path, llm_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests here share one model directory, which takes two trainings to make."""
    monkeypatch.setenv("LLM_HOME", str(home))


@pytest.fixture(scope="module")
def two_runs(home: Path, tiny_llama: Path) -> ModelDir:
    """A model with two finished runs: fast, then medium at another rate."""
    os.environ["LLM_HOME"], before = str(home), os.environ.get("LLM_HOME")
    try:
        assert command("install", tiny_llama, "--name", "two").returncode == 0
        folder = ModelDir(home / "models" / "two")
        data = rows(home.parent / "data.jsonl", 40)
        words = ("train", "--model-path", folder.root, "--data", data, "--epochs", "2", *QUICK)
        for more in (("--mode", "fast", "--learning-rate", "1e-2"), ("--learning-rate", "5e-3")):
            done = command(*words, *more)
            assert done.returncode == 0, done.stderr
    finally:
        os.environ.pop("LLM_HOME") if before is None else os.environ.update(LLM_HOME=before)
    return folder


@pytest.fixture
def fresh(home: Path, tiny_llama: Path) -> Iterator[ModelDir]:
    """A model without runs."""
    assert command("install", tiny_llama, "--name", "fresh").returncode == 0
    yield ModelDir(home / "models" / "fresh")
    assert command("remove", "fresh", "--yes").returncode == 0


@contextmanager
def endless(folder: ModelDir, data: Path) -> Iterator[tuple[Begun, Run]]:
    """A training that goes on until it is ended, after its first steps; killed at the end if it still runs."""
    process = Begun("train", "--model-path", folder.root, "--data", data, "--mode", "non-stop", *QUICK)
    try:
        until(lambda: (found := holder(folder)) and found.run, process)
        found = holder(folder)
        assert found and found.pid == process.pid
        run = Run(folder.runs / found.run)
        until(lambda: (seen := Progress.read(run)) and seen.step >= 2, process)
        yield process, run
    finally:
        process.close()


def test_a_second_training_is_told_who_holds_the_directory_and_a_kill_frees_it(fresh: ModelDir, tmp_path: Path) -> None:
    data = rows(tmp_path / "data.jsonl", 40)
    with endless(fresh, data) as (process, run):
        second = command("train", "--model-path", fresh.root, "--data", data, *QUICK)
        assert second.returncode == 1
        assert f"fresh is already being trained: process {process.pid} (run {run.id}, since " in second.stderr
        assert second.stderr.count("\n") == 1 and "Traceback" not in second.stderr
        assert second.stdout == "", "told before it read data or model"
        for words in (
            ("remove", "fresh", "--yes"),
            ("install", fresh.weights, "--name", "fresh", "--force"),
            ("adapters", "fresh", "remove", "last", "--yes", "--force"),
        ):
            refused = command(*words)
            assert refused.returncode == 1 and f"process {process.pid}" in refused.stderr, words
        assert [r.name for r in fresh.runs.iterdir()] == [run.id]
        assert process.poll() is None
        process.kill()
        process.wait()
        status = command("train", "--model-path", fresh.root, "--status")
        assert "fresh is not being trained" in status.stdout
        assert f"{run.id}, interrupted" in status.stdout and "--resume" in status.stdout
        assert "interrupted" in command("adapters", "fresh").stdout
        none = command("train", "--model-path", fresh.root, "--stop-now")
        assert none.returncode == 1 and "fresh is not being trained" in none.stderr
    looked = command("train", "--model-path", fresh.root, "--data", data, "--dry-run", *QUICK)
    assert looked.returncode == 0, "the lock of the dead holds nobody up"
    assert command("adapters", "fresh", "remove", "last", "--yes").returncode == 0
    assert list(fresh.runs.iterdir()) == []


def test_another_shell_sees_saves_and_ends_a_training(fresh: ModelDir, tmp_path: Path) -> None:
    asked = ("train", "--model-path", fresh.root)
    with endless(fresh, rows(tmp_path / "data.jsonl", 40)) as (process, run):
        shown = command(*asked, "--status").stdout
        for part in (run.id, f"process {process.pid}", "epoch", "validation", "tokens/s", "s ago", "no end"):
            assert part in shown, part
        seen = json.loads(command(*asked, "--status", "--json").stdout, parse_constant=pytest.fail)
        assert seen["training"]["pid"] == process.pid and seen["run"] == {
            "id": run.id, "status": "running", "stop_reason": "",
        }  # fmt: skip
        assert seen["progress"]["step"] >= 2 and seen["progress"]["training"]
        before = seen["progress"]["step"]
        saved = command(*asked, "--save-now")
        assert saved.returncode == 0, saved.stderr
        checkpoint = Path(saved.stdout.strip())
        assert checkpoint.parent == run.checkpoints.resolve()
        assert int(checkpoint.name.removeprefix("checkpoint-")) > before, "saved after it was asked, not before"
        assert not checkpoint.is_dir() or damage(checkpoint) == ""  # another may have replaced it by now
        stopped = command(*asked, "--stop-now")
        assert stopped.returncode == 0, stopped.stderr
        assert holder(fresh) is None, "it waits until the training has ended"
        out, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert "Stopped because you asked it to stop with --stop-now" in out
    assert fresh.lora.resolve() == run.adapter.resolve() and damage(run.adapter) == ""
    record = json.loads(run.record.read_text())
    assert record["status"] == "stopped"
    assert f"Run {run.id} ended after step {record['result']['steps']}" in stopped.stdout
    assert list(run.requests.iterdir()) == []
    last = command(*asked, "--status").stdout
    assert f"{run.id}, stopped" in last and "you asked it to stop" in last
    with resumed(fresh, run) as step:
        assert step >= record["result"]["steps"]


@contextmanager
def resumed(folder: ModelDir, run: Run) -> Iterator[int]:
    """Go on with the run, and end it again after a step: the step at which it was seen."""
    process = Begun("train", "--model-path", folder.root, "--resume", *QUICK[:2])
    try:
        until(lambda: (found := holder(folder)) and found.run, process)
        found = holder(folder)
        assert found and found.run == run.id
        stopped = command("train", "--model-path", folder.root, "--stop-now")
        assert stopped.returncode == 0, stopped.stderr
        assert process.wait(timeout=PATIENCE) == 0
        seen = Progress.read(run)
        assert seen
        yield seen.step
    finally:
        process.close()


def test_status_answers_without_torch_when_nothing_was_trained(fresh: ModelDir) -> None:
    code = (
        "import sys; sys.argv[1:] = ['train', '--model-path', %r, '--status']\n"
        "from llm_installer.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, {'torch', 'transformers', 'numpy', 'matplotlib', 'peft', 'tensorboard'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code % str(fresh.root)], capture_output=True, text=True, check=True)
    assert done.stdout == "fresh has not been trained yet.\n0 set()\n"


def test_runs_are_listed_and_the_current_one_is_marked(two_runs: ModelDir) -> None:
    command("adapters", "two", "use", "medium")
    shown = command("adapters", two_runs.root).stdout
    (fast,), (medium,) = two_runs.runs.glob("*-fast"), two_runs.runs.glob("*-medium")
    lines = {word: line for line in shown.splitlines() for word in line.split() if word in (fast.name, medium.name)}
    assert lines[medium.name].split()[0] == "*" and lines[fast.name].split()[0] == fast.name
    for name in (fast.name, medium.name):
        result = json.loads((two_runs.runs / name / "run.json").read_text())["result"]
        assert f"{result['base_loss']:.4f} -> {result['best_loss']:.4f}" in lines[name]
        assert "finished" in lines[name] and "data.jsonl" in lines[name]
    assert command("adapters", cwd=str(two_runs.root)).stdout == command("adapters", "two").stdout


def test_use_switches_every_promised_link_and_start_takes_a_run(two_runs: ModelDir) -> None:
    (fast,), (medium,) = two_runs.runs.glob("*-fast"), two_runs.runs.glob("*-medium")
    for words, chosen in (("last", medium), ("fast", fast)):
        assert command("adapters", "two", "use", words).returncode == 0
        assert two_runs.lora.resolve() == chosen / "adapter"
        assert (two_runs.root / "checkpoints").resolve() == chosen / "checkpoints"
        assert (two_runs.root / "training_history.png").resolve() == chosen / "training_history.png"
    prompt = ("start", "--model-path", two_runs.root, "--prompt", "Colour?", "--max-new-tokens", "4")
    assert f"adapter {medium.name}" in command(*prompt, "--run", "medium").stderr
    assert command("adapters", "two", "use", "none").returncode == 0
    assert not two_runs.lora.is_symlink()
    assert "contradict" in command(*prompt, "--run", "last", "--no-lora").stderr


def test_a_damaged_adapter_is_refused_by_name_and_lora_stays(two_runs: ModelDir) -> None:
    (fast,), (medium,) = two_runs.runs.glob("*-fast"), two_runs.runs.glob("*-medium")
    assert command("adapters", "two", "use", "fast").returncode == 0
    weights = medium / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"ruin")
    try:
        for words in (
            ("adapters", "two", "use", "medium"),
            ("start", "--model-path", two_runs.root, "--run", "medium", "--prompt", "x"),
        ):
            refused = command(*words)
            assert refused.returncode == 1, words
            assert "adapter_model.safetensors has changed since it was written" in refused.stderr
            assert str(medium / "adapter") in refused.stderr and refused.stderr.count("\n") == 1
        assert two_runs.lora.resolve() == fast / "adapter"
    finally:
        weights.write_bytes(whole)


def test_compare_names_what_differs_and_asks_both(two_runs: ModelDir) -> None:
    shown = command("adapters", "two", "compare", "fast", "medium").stdout
    for part in ("learning rate", "0.01", "0.005", "best loss", "validation rows of ", "expected", "It is"):
        assert part in shown, part
    for same in ("lora_r", "seed", "device", "max_seq_length", "different rows"):
        assert same not in shown, same
    assert shown.count(" prompt ") == 3


def test_remove_asks_and_spares_what_is_in_use(two_runs: ModelDir, tmp_path: Path) -> None:
    import shutil

    (fast,), (medium,) = two_runs.runs.glob("*-fast"), two_runs.runs.glob("*-medium")
    spare = fast.with_name(f"{fast.name}-2")
    shutil.copytree(fast, spare, symlinks=True)
    assert command("adapters", "two", "use", spare.name).returncode == 0
    in_use = command("adapters", "two", "remove", spare.name, "--yes")
    assert in_use.returncode == 2 and "--force" in in_use.stderr and spare.is_dir()
    unsure = command("adapters", "two", "remove", spare.name, "--force", input="n\n")
    assert unsure.returncode == 130 and spare.is_dir()
    assert command("adapters", "two", "remove", spare.name, "--force", "--yes").returncode == 0
    assert not spare.exists() and not two_runs.lora.is_symlink()
    assert sorted(two_runs.runs.iterdir()) == sorted([fast, medium])


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")
def test_whoever_loads_lora_while_it_is_switched_gets_one_run_whole(two_runs: ModelDir) -> None:
    import torch
    from safetensors.torch import load_file

    from llm_installer.inference.load import load_assistant
    from llm_installer.inference.start import chosen_lora

    names = [run.name for run in (*two_runs.runs.glob("*-fast"), *two_runs.runs.glob("*-medium"))]
    known = {name: load_file(two_runs.runs / name / "adapter" / "adapter_model.safetensors") for name in names}
    use(two_runs, names[0])
    stop, switches = threading.Event(), 0

    def switch() -> None:
        nonlocal switches
        while not stop.is_set():
            use(two_runs, names[switches % 2])
            switches += 1

    switcher = threading.Thread(target=switch)
    switcher.start()
    met = set[str]()
    try:
        for _ in range(40):
            assistant = load_assistant(two_runs, chosen_lora(two_runs, None, False))
            name = assistant.adapter.split(",")[0]
            for key, tensor in assistant.model.state_dict().items():
                if "lora_" in key:
                    assert torch.equal(tensor, known[name][key.replace(".default", "")])
            met.add(name)
            if len(met) == 2 and switches > 100:
                break
    finally:
        stop.set()
        switcher.join()
    assert met == set(names) and switches > 20
