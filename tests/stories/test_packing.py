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
