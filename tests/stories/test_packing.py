"""A training with packed rows, as a user starts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command


@pytest.mark.slow
def test_packed_rows_train_and_the_plan_keeps_the_choice(installed: Path, write_rows: Callable[..., Path]) -> None:
    words = ["train", "--model-path", installed, "--data", write_rows(24), "--packing", "on", "--epochs", "4"]
    words += ["--learning-rate", "1e-2", "--no-tensorboard", "--test-prompt", "Colour of thing 1?"]
    done = command(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    (plan,) = (json.loads(file.read_text(encoding="utf-8")) for file in installed.glob("runs/*/plan.json"))
    assert plan["packing"] is True
    assert "packed rows: attention one document at a time" in " ".join(done.stdout.split())
    assert (installed / "lora" / "adapter_config.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["medium", "circular"])
def test_fixed_shapes_train_as_others_do(
    installed: Path, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """In cycles batches grow: what is larger than all shapes is computed as before."""
    words = ["train", "--model-path", installed, "--data", write_rows(24), "--packing", "on", "--mode", mode]
    words += ["--learning-rate", "1e-2", "--no-tensorboard", "--skip-test", "--effective-batch-size", "4"]
    words += ["--precision", "float32", *(["--epochs", "2"] if mode == "medium" else ["--max-circular-epochs", "2"])]
    losses = []
    for switch, more in (("0", ["--order", "shuffled"]), ("1", [])):
        monkeypatch.setenv("LLM_STATIC", switch)
        done = command(*words, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("fixed shape" in done.stdout) == (switch == "1")
        run = max((installed / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
        lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        losses.append([line["loss"] for line in lines if line["kind"] == "step"])
        assert json.loads((run / "plan.json").read_text(encoding="utf-8"))["order"] == "shuffled"
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
