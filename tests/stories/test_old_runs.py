"""Run folders that version 0.1.0 wrote, before the plan had a nested course: they are listed, compared and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.core.run.record import RunRecord
from llm_installer.install.installer import install
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.runs.listing import list_runs
from tests.commands import command

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "version_0_1"
FINISHED, STOPPED = "20261126-231743-medium", "20261126-231758-medium"
"""The same training twice: one to its end after 24 steps, one that a signal interrupted after step 9."""


@pytest.fixture
def folder(llm_home: Path, tmp_path: Path) -> ModelDir:
    """The built-in model with both runs, as if it had been installed by that version."""
    found = ModelDir(install("tiny", say=lambda text: None).root)
    shutil.copytree(OLD / "runs", found.runs, symlinks=True, dirs_exist_ok=True)
    for adapter in found.runs.glob("*/adapter"):
        shutil.copy(MODEL_DIR / "tokenizer.json", adapter)  # the same file, which need not be kept twice more
    shutil.copy(OLD / "data.jsonl", tmp_path)
    for record in found.runs.glob("*/run.json"):
        record.write_text(record.read_text(encoding="utf-8").replace("@BASE@", str(tmp_path)), encoding="utf-8")
    return found


def steps_of(run: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def test_they_are_listed(folder: ModelDir) -> None:
    finished, stopped = list_runs(folder)
    assert (finished.run.id, finished.status, finished.steps, finished.mode) == (FINISHED, "finished", 24, "medium")
    assert (stopped.run.id, stopped.status, stopped.steps) == (STOPPED, "stopped", 9)
    done = command("adapters", "tiny")
    assert done.returncode == 0 and FINISHED in done.stdout and STOPPED in done.stdout


def test_they_are_compared(folder: ModelDir) -> None:
    done = command("adapters", "tiny", "compare", FINISHED, STOPPED)
    assert done.returncode == 0, done.stderr
    assert "They have the same settings" in done.stdout and "Answers" in done.stdout


def test_one_is_used(folder: ModelDir) -> None:
    done = command("adapters", "tiny", "use", FINISHED)
    assert done.returncode == 0, done.stderr
    assert folder.lora.resolve() == folder.runs / FINISHED / "adapter"


@pytest.mark.slow
def test_one_is_resumed_to_where_the_other_came(folder: ModelDir) -> None:
    done = command("train", "--model-path", folder.root, "--resume", "--no-tensorboard")
    assert done.returncode == 0, done.stderr
    assert f"Resuming run {STOPPED} after step 9" in done.stdout
    record = RunRecord.at(folder.runs / STOPPED / "run.json")
    assert record is not None and record.status == "finished"
    whole, rest = steps_of(folder.runs / FINISHED), steps_of(folder.runs / STOPPED)
    assert list(rest) == list(whole) == list(range(1, 25))
    # Another processor may add in another order; on the one that wrote them they are equal bit for bit.
    assert rest == pytest.approx(whole, rel=1e-3)
