"""The command from end to end on a GPU, once for each way it computes: tests/run -m cuda tests/cuda takes minutes.

The same functions run on a CPU in the slow tier, so that what they ask is known to be right before a GPU is there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_installer.install.tiny import MODEL_DIR
from tests.commands import PATIENCE, Begun, command

QUICK = ("--no-tensorboard", "--skip-test", "--seed", "1", "--epochs", "3", "--learning-rate", "2e-3")
WAYS = {
    "plain": ("--packing", "off"),
    "packed": ("--packing", "on"),
    "float32": ("--precision", "float32"),
    "qlora": ("--method", "qlora"),
    "8 bits": ("--use-8bit",),
    "checkpointed": ("--packing", "on", "--gradient-checkpointing", "on"),
}
ON_CPU = ("packed", "qlora")
NEEDS = {"qlora": "bitsandbytes", "8 bits": "bitsandbytes"}
FRACTION = """
import sys, torch
torch.cuda.set_per_process_memory_fraction(float(sys.argv.pop(1)) / torch.cuda.mem_get_info()[1])
from llm_installer.cli.main import main
main()
"""
FEW = 400e6
"""Bytes that a process may take where its memory runs out: less than a step of LONG rows needs at once."""


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(
    scope="module", params=[pytest.param("cuda", marks=pytest.mark.cuda), pytest.param("cpu", marks=pytest.mark.slow)]
)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the commands of this module compute."""
    kind = str(request.param)
    if kind == "cuda" and not has_gpu():
        pytest.skip("there is no NVIDIA GPU")
    with pytest.MonkeyPatch.context() as patch:
        if kind == "cpu":
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield kind


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke") / "LLM"


@pytest.fixture
def model(device: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The built-in model, installed once for all commands."""
    monkeypatch.setenv("LLM_HOME", str(home))
    folder = home / "models" / MODEL_DIR.name
    if not folder.is_dir():
        done = command("install", MODEL_DIR)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of various lengths that a model can learn by heart."""
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    colours = ("red", "blue", "green", "yellow")
    rows = [
        {"instruction": f"Colour of thing {i}?" + " Please say." * (i % 9), "output": f"It is {colours[i % 4]}."}
        for i in range(96)
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


def words(model: Path, data: Path, *more: str) -> tuple[str, ...]:
    return ("train", "--model-path", str(model), "--data", str(data), *QUICK, *more)


def newest(model: Path) -> Path:
    return max((model / "runs").iterdir(), key=lambda run: run.stat().st_mtime)


def learned(model: Path, device: str) -> list[float]:
    """The losses of the newest run's steps, which fell, on the device that was meant."""
    run = newest(model)
    assert json.loads((run / "plan.json").read_text(encoding="utf-8"))["device"] == device
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if row["kind"] == "step"]
    third = len(losses) // 3
    assert sum(losses[-third:]) < 0.9 * sum(losses[:third]), losses
    return losses


@pytest.mark.parametrize("way", WAYS)
def test_it_learns_each_way(way: str, device: str, model: Path, data: Path) -> None:
    if device == "cpu" and way not in ON_CPU:
        pytest.skip("other tests do this on a CPU")
    if way in NEEDS:
        pytest.importorskip(NEEDS[way])
    done = command(*words(model, data, *WAYS[way]))
    assert done.returncode == 0, done.stdout + done.stderr
    learned(model, device)
    if "--packing" in WAYS[way]:
        assert ("packed rows: " in done.stdout) == ("off" not in WAYS[way]), done.stdout
    assert "mistake" not in done.stdout, done.stdout


def test_an_interrupted_run_is_resumed(device: str, model: Path, data: Path) -> None:
    run = Begun(*words(model, data, "--packing", "on"))
    try:
        for line in run.stdout:
            if "Evaluation #1" in line:
                break
        run.send_signal(signal.SIGINT)
        said, wrong = run.communicate(PATIENCE)
        assert run.returncode == 130, said + wrong
    finally:
        run.close()
    done = command("train", "--model-path", model, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    learned(model, device)


@pytest.mark.cuda
def test_a_run_backs_off_where_memory_is_short(device: str, model: Path, tmp_path: Path) -> None:
    if device != "cuda":
        pytest.skip("a fraction of the memory can only be asked for on a GPU")
    rows = [{"instruction": f"Say {i}", "output": f"Word {i}. " * 60} for i in range(64)]
    file = tmp_path / "long.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    given = words(model, file, "--effective-batch-size", "64", "--packing", "on")
    whole = [sys.executable, "-c", FRACTION, str(FEW), *given]
    done = subprocess.run(whole, capture_output=True, text=True, env={**os.environ}, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Out of memory with" in done.stdout, done.stdout
    learned(model, device)
