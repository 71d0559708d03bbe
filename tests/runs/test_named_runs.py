"""What --resume-from names, from wherever it is typed; and ./lora/logs, where the guide looks for curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_installer.core.errors import TrainingError
from llm_installer.core.manifest import damage
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import STATE_FILE
from llm_installer.core.run.record import FINISHED, STOPPED
from llm_installer.planning.options import Options
from llm_installer.runs.curves import curves, make_current
from llm_installer.runs.output import refuse_output
from llm_installer.runs.resume import named_run
from tests.made_runs import make_run


def with_steps(run: Run, *steps: int) -> Run:
    for step in steps:
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (run.checkpoints / f"checkpoint-{step}" / STATE_FILE).write_text("{}")
    return run


@pytest.fixture
def folder(installed: Path) -> ModelDir:
    """A finished run, which is the current one, and a newer one that was stopped."""
    folder = ModelDir(installed)
    old = with_steps(make_run(folder, "20261101-090000-fast", 1e-3), 4, 8)
    with_steps(make_run(folder, "20261102-090000-fast", 1e-3, STOPPED), 8, 12)
    old.logs.mkdir()
    make_current(folder, old)
    return folder


@pytest.mark.parametrize(
    ("typed", "run", "checkpoint"),
    [
        ("checkpoints/checkpoint-12", "20261102-090000-fast", "checkpoint-12"),
        ("./checkpoints/checkpoint-8/", "20261102-090000-fast", "checkpoint-8"),
        ("checkpoint-12", "20261102-090000-fast", "checkpoint-12"),
        ("checkpoints/checkpoint-4", "20261101-090000-fast", "checkpoint-4"),
        ("runs/20261101-090000-fast/checkpoints/checkpoint-8", "20261101-090000-fast", "checkpoint-8"),
        ("runs/20261101-090000-fast", "20261101-090000-fast", ""),
        ("20261102-090000-fast", "20261102-090000-fast", ""),
    ],
)
def test_a_checkpoint_is_found_as_the_guide_names_it(
    folder: ModelDir, tmp_path: Path, typed: str, run: str, checkpoint: str
) -> None:
    for base in (folder.root, tmp_path):
        found = named_run(folder, typed, base)
        assert (found[0].id, found[1].name if found[1] else "") == (run, checkpoint), base
    assert named_run(folder, str(folder.runs / run / "checkpoints" / "checkpoint-8"), tmp_path)[0].id == run


def test_what_is_not_there_names_what_is(folder: ModelDir, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as refused:
        named_run(folder, "checkpoints/checkpoint-1000", folder.root)
    assert str(refused.value) == (
        "checkpoints/checkpoint-1000 is neither a run nor a checkpoint of one; the newest run, 20261102-090000-fast, "
        "has checkpoint-12, checkpoint-8; write --resume-from checkpoints/checkpoint-12"
    )
    make_run(folder, "20261103-090000-fast", 1e-3, STOPPED)
    with pytest.raises(TrainingError, match="has no checkpoint; name a run with --resume-from runs/ID"):
        named_run(folder, "checkpoint-1", tmp_path)
    with pytest.raises(TrainingError, match=r"there is no run in .* yet, so begin one with --data"):
        named_run(ModelDir(tmp_path / "empty"), "checkpoint-1", tmp_path)


def test_the_curves_of_the_current_run_are_at_lora_logs(folder: ModelDir) -> None:
    old = Run(folder.runs / "20261101-090000-fast")
    assert (folder.lora / "logs").resolve() == old.logs.resolve()
    assert damage(folder.lora) == "", "it is no part of the adapter"
    refuse_output(Options.from_kwargs(output=str(old.adapter)))
    new = make_run(folder, "20261104-090000-fast", 1e-3, FINISHED)
    new.logs.mkdir()
    make_current(folder, new)
    assert (folder.lora / "logs").resolve() == new.logs.resolve()
    assert not curves(old).is_symlink() and old.logs.is_dir()
    make_current(folder, new)
    assert curves(new).is_symlink()
