"""Versions of a model: a number is given once, stages move only when someone moves them, and words name runs."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.install.installer import install
from llm_installer.runs.listing import find_run, remove
from llm_installer.runs.versions import CANDIDATE, FILE, PRODUCTION, demote, numbered, promote, read_versions, roll_back
from tests.made_runs import make_run

FIRST, SECOND, THIRD = "20260101-100000-fast", "20260102-100000-fast", "20260103-100000-fast"


@pytest.fixture
def folder(llm_home: Path) -> ModelDir:
    return ModelDir(install("tiny", say=lambda text: None).root)


def test_a_number_is_given_once(folder: ModelDir) -> None:
    found = numbered(folder, [SECOND, FIRST], [FIRST, SECOND, "broken"])
    assert found.numbers == {FIRST: 1, SECOND: 2}
    assert numbered(folder, [SECOND], [SECOND]).numbers == {SECOND: 2}, "the first was deleted"
    assert numbered(folder, [SECOND, THIRD], [SECOND, THIRD]).numbers == {SECOND: 2, THIRD: 3}
    assert numbered(folder, [], []).last == 3
    assert numbered(folder, [FIRST], [FIRST]).numbers == {FIRST: 4}, "not the number of one that was there"


def test_production_moves_and_goes_back(folder: ModelDir) -> None:
    numbered(folder, [FIRST, SECOND, THIRD], [FIRST, SECOND, THIRD])
    assert promote(folder, SECOND, CANDIDATE).stage_of(SECOND) == CANDIDATE
    with pytest.raises(UsageError, match="was in production"):
        roll_back(folder)
    for run in (FIRST, SECOND, THIRD):
        promote(folder, run, PRODUCTION)
    found = read_versions(folder)
    assert found.stages == {PRODUCTION: THIRD} and found.before == SECOND
    assert roll_back(folder) == SECOND and roll_back(folder) == FIRST
    with pytest.raises(UsageError):
        roll_back(folder)
    assert demote(folder, FIRST).stages == {} and roll_back(folder) == FIRST
    for run, stage in (("nothing", PRODUCTION), (FIRST, "staging")):
        with pytest.raises(UsageError):
            promote(folder, run, stage)


def test_what_is_gone_is_not_gone_back_to(folder: ModelDir) -> None:
    numbered(folder, [FIRST, SECOND, THIRD], [FIRST, SECOND, THIRD])
    for run in (FIRST, SECOND, THIRD):
        promote(folder, run, PRODUCTION)
    assert numbered(folder, [FIRST, THIRD], [FIRST, THIRD]).before == FIRST
    assert numbered(folder, [FIRST], [FIRST]).stages == {}


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"numbers": 3}', '{"numbers": {"a": "x"}, "stages": {}, "last": 1}']
)
def test_a_damaged_file_is_no_version(folder: ModelDir, content: str) -> None:
    (folder.root / FILE).write_text(content)
    assert read_versions(folder).numbers == {}
    assert numbered(folder, [FIRST], [FIRST]).numbers == {FIRST: 1}


def test_words_name_a_run_and_what_is_in_production_stays(folder: ModelDir) -> None:
    for run in (FIRST, SECOND):
        make_run(folder, run, 1e-3)
    numbered(folder, [FIRST, SECOND], [FIRST, SECOND])
    promote(folder, FIRST, PRODUCTION)
    for words, run in (("production", FIRST), ("tiny/2", SECOND), ("/1", FIRST), ("last", SECOND)):
        assert find_run(folder, words).run.id == run
    for words in ("candidate", "tiny/3", "other/1"):
        with pytest.raises(UsageError, match="No run"):
            find_run(folder, words)
    with pytest.raises(UsageError, match="in production"):
        remove(folder, FIRST)
    remove(folder, FIRST, force=True)


def _number(root: Path, run: str) -> None:
    numbered(ModelDir(root), [run], [f"{n:03}" for n in range(40)])


def test_processes_that_number_at_the_same_time_lose_nothing(folder: ModelDir) -> None:
    runs = [f"{n:03}" for n in range(40)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(_number, [(folder.root, run) for run in runs])
    numbers = json.loads((folder.root / FILE).read_text())["numbers"]
    assert sorted(numbers.values()) == list(range(1, 41)) and set(numbers) == set(runs)
