"""The examples run as a user runs them, and what they print is true."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 60
"""Lines of an example, so that it is read in one look."""
PATIENCE = 580.0
"""Seconds for one of them on a busy machine; alone each takes well under a minute."""


def run(name: str, home: Path, folder: Path) -> str:
    """What an example prints, run by its path from another folder; it fails like any program does."""
    environment = {**os.environ, "LLM_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / name)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_callbacks_see_each_evaluation_and_end_the_run(llm_home: Path, tmp_path: Path) -> None:
    said = run("train_with_callbacks.py", llm_home, tmp_path)
    losses = [float(loss) for loss in re.findall(r"^step \d+: validation loss ([\d.]+)$", said, flags=re.M)]
    assert len(losses) > 2 and losses[-1] < 2.0 <= min(losses[1:-2], default=2.0)
    (steps,) = re.findall(r"^stopped after (\d+) steps: the validation loss is below 2.0", said, flags=re.M)
    assert int(steps) < 288, "it was ended before its last step"
    (adapter,) = re.findall(r"^adapter (.+)$", said, flags=re.M)
    assert (Path(adapter) / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_an_own_handler_wins_over_the_built_in_one(llm_home: Path, tmp_path: Path) -> None:
    said = run("own_handler.py", llm_home, tmp_path)
    assert re.search(r"^adapted layers: down_proj, gate_proj, up_proj$", said, flags=re.M)
    assert re.search(r"^because: .*llama-mlp.*llama_mlp\.py", said, flags=re.M)
    assert not llm_home.exists(), "the user's own home is left alone"


def test_converted_data_is_understood_and_what_cannot_be_trained_on_is_named(llm_home: Path, tmp_path: Path) -> None:
    said = run("own_data_format.py", llm_home, tmp_path).splitlines()
    assert said[0] == "4 records written to notes.jsonl"
    assert said[1] == "format qa; 3 examples"
    assert [line.partition(":")[0] for line in said[2:]] == ["skipped 1"] and "empty" in said[2]


@pytest.mark.slow
def test_the_adapter_works_in_plain_peft(llm_home: Path, tmp_path: Path) -> None:
    said = run("adapter_in_peft.py", llm_home, tmp_path)
    (base,) = re.findall(r"^base: (.*)$", said, flags=re.M)
    (tuned,) = re.findall(r"^tuned: (.*)$", said, flags=re.M)
    assert "Fenn" in tuned and "Fenn" not in base


@pytest.mark.slow
def test_two_runs_are_compared_and_the_better_one_is_used(llm_home: Path, tmp_path: Path) -> None:
    said = run("compare_two_runs.py", llm_home, tmp_path)
    assert re.search(r"^lora_r: 2 or 16$", said, flags=re.M) and not re.search(r"^seed: ", said, flags=re.M)
    losses = {name: float(loss) for name, loss in re.findall(r"^(\S+): loss [\d.]+ -> ([\d.]+)$", said, flags=re.M)}
    (used,) = re.findall(r"^\./lora is (\S+)$", said, flags=re.M)
    assert len(losses) == 2 and losses[used] == min(losses.values())
    assert (llm_home / "models" / "tiny" / "lora").resolve().parent.name == used


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_is_short_and_says_how_to_run_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) < LONGEST
    assert f"Run as: .venv/bin/python examples/{file.name}" in (ast.get_docstring(ast.parse(text)) or "").splitlines()


def test_every_example_is_tested() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [file.name for file in EXAMPLES if f'run("{file.name}"' not in here] == []
