"""The list of runs from their files alone, and which run a word means: without a single training."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from llm_installer.core.errors import AdapterError, InstallerError, UsageError
from llm_installer.core.files import write_json
from llm_installer.core.manifest import MANIFEST, write_manifest
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import only_training
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.record import RUNNING, RunRecord
from llm_installer.runs.compare import BUNDLED, compare, differences, questions, same_rows
from llm_installer.runs.listing import find_run, list_runs, use
from llm_installer.ui.console import Console
from tests.made_runs import make_run

FIRST, SECOND, THIRD = "20261120-090000-fast", "20261121-100000-medium", "20261121-110000-medium"


@pytest.fixture
def folder(installed: Path) -> ModelDir:
    """A model with three runs, oldest first: finished, finished, and one whose record says that it runs."""
    made = ModelDir(installed)
    make_run(made, FIRST, rate=1e-3)
    make_run(made, SECOND, rate=2e-3)
    make_run(made, THIRD, rate=2e-3, status=RUNNING)
    return made


@pytest.mark.parametrize(
    ("words", "expected"),
    [("last", THIRD), ("fast", FIRST), (FIRST, FIRST), ("1121-10", SECOND), ("110000", THIRD), (SECOND, SECOND)],
)
def test_any_part_that_only_one_has_names_it(folder: ModelDir, words: str, expected: str) -> None:
    assert find_run(folder, words).run.id == expected


def test_an_exact_id_wins_over_a_longer_one(folder: ModelDir) -> None:
    make_run(folder, f"{SECOND}-2", rate=1e-3)
    assert find_run(folder, SECOND).run.id == SECOND


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("medium", f"part of 2 ids; type more of one of them: {SECOND}, {THIRD}"),
        ("slow", "is called 'slow'; its runs are: "),
        ("", "is called ''"),
    ],
)
def test_what_names_none_or_several_is_refused(folder: ModelDir, words: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        find_run(folder, words)


def test_a_run_is_not_compared_with_itself(folder: ModelDir) -> None:
    for other in (FIRST, "0900"):
        with pytest.raises(UsageError, match="both name the same run"):
            compare(folder, "fast", other, (), Console())


def test_without_runs_the_next_command_is_said(installed: Path) -> None:
    assert list_runs(ModelDir(installed)) == []
    with pytest.raises(UsageError, match="start one with"):
        find_run(ModelDir(installed), "last")


def test_running_is_what_the_lock_says(folder: ModelDir) -> None:
    assert [row.status for row in list_runs(folder)] == ["finished", "finished", "interrupted"]
    with only_training(folder) as tell:
        tell(Run(folder.runs / THIRD))
        assert [row.status for row in list_runs(folder)] == ["finished", "finished", "running"]
        tell(Run(folder.runs / FIRST))  # a finished run that is resumed
        assert [row.status for row in list_runs(folder)] == ["running", "finished", "interrupted"]


def test_an_interrupted_run_shows_how_far_it_came(folder: ModelDir) -> None:
    run = Run(folder.runs / THIRD)
    known = {f.name: 0 for f in dataclasses.fields(Progress)}
    Progress(**{**known, "run": THIRD, "step": 7, "base_loss": 3.0, "best_loss": 2.5}).write(run)  # type: ignore[arg-type]
    row = find_run(folder, "last")
    assert (row.steps, row.base_loss, row.best_loss) == (7, 3.0, 2.5)


def test_a_run_of_an_earlier_version_has_its_facts_in_the_adapter(folder: ModelDir) -> None:
    run = Run(folder.runs / FIRST)
    run.record.unlink()
    write_json(run.adapter / "adapter_info.json", {"data": "old.json", "steps": 5, "base_loss": 4.0, "best_loss": 1.0})
    row = find_run(folder, FIRST)
    assert (row.status, row.mode, row.data, row.steps, row.best_loss) == ("finished", "fast", "old.json", 5, 1.0)


def test_a_moved_model_directory_keeps_its_runs(folder: ModelDir, tmp_path: Path) -> None:
    for name in (FIRST, SECOND):  # with the absolute place that a training writes down
        run = Run(folder.runs / name)
        record = RunRecord.read(run)
        assert record
        dataclasses.replace(record, result={**record.result, "adapter": str(run.adapter)}).write(run)
    use(folder, FIRST)
    moved = ModelDir(tmp_path / "elsewhere")
    shutil.move(folder.root, moved.root)
    assert find_run(moved, FIRST).current
    use(moved, SECOND)
    assert moved.lora.resolve() == moved.runs / SECOND / "adapter"


def test_a_run_without_adapter_or_with_one_elsewhere_is_not_used(folder: ModelDir, tmp_path: Path) -> None:
    use(folder, FIRST)
    with pytest.raises(AdapterError, match=r"\(interrupted\) has no adapter; resume it with --resume"):
        use(folder, "last")
    run, elsewhere = Run(folder.runs / SECOND), tmp_path / "elsewhere"
    record = RunRecord.read(run)
    assert record
    shutil.move(run.adapter, elsewhere)
    dataclasses.replace(record, result={**record.result, "adapter": str(elsewhere)}).write(run)
    with pytest.raises(AdapterError, match=f"use it with --lora {elsewhere}"):
        use(folder, SECOND)
    assert find_run(folder, FIRST).current


def test_an_adapter_for_other_weights_is_not_used(folder: ModelDir) -> None:
    run = Run(folder.runs / SECOND)
    write_json(run.adapter / "adapter_info.json", {"base_model": {"name": "another", "fingerprint": "x"}})
    (run.adapter / MANIFEST).unlink()
    write_manifest(run.adapter)
    with pytest.raises(AdapterError, match="was made for another"):
        use(folder, SECOND)
    assert not folder.lora.exists()


def test_a_lora_that_is_a_folder_of_the_user_is_left_alone(folder: ModelDir) -> None:
    folder.lora.mkdir()
    for words in (FIRST, "none"):
        with pytest.raises(AdapterError, match="a folder of your own"):
            use(folder, words)
    assert folder.lora.is_dir()


def test_differences_are_those_of_the_plan_without_its_reasons(folder: ModelDir) -> None:
    one, other = Run(folder.runs / FIRST), Run(folder.runs / SECOND)
    found = {d.name: (d.one, d.other) for d in differences(one, other)}
    assert found == {"mode": ("fast", "medium"), "learning_rate": ("0.001", "0.002")}
    assert differences(one, one) == []


def test_losses_are_compared_where_the_rows_are_the_same(folder: ModelDir) -> None:
    one, other = Run(folder.runs / FIRST), Run(folder.runs / SECOND)
    assert same_rows(one, other)
    plan = json.loads(other.plan.read_text())
    write_json(other.plan, {**plan, "seed": 2})
    assert not same_rows(one, other)


def test_questions_are_the_given_ones_or_a_bundled_one_where_the_data_are_gone(folder: ModelDir) -> None:
    row = find_run(folder, FIRST)
    assert questions(row, ["a", "b"]).texts == ("a", "b")
    assert questions(row, []).texts == BUNDLED


def test_every_refusal_is_one_sentence(folder: ModelDir) -> None:
    for words in ("medium", "slow", THIRD):
        with pytest.raises(InstallerError) as error:
            use(folder, words)
        assert "\n" not in str(error.value)
