"""Folders that may not be read or changed: one sentence each, and nothing half done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.install import doctor, install, list_models, remove
from llm_installer.install.staging import removing_dir
from tests.commands import command

Make = Callable[..., Path]
Say = Callable[..., subprocess.CompletedProcess[str]]
DROP = "--drop=cap_dac_override,cap_dac_read_search,cap_fowner"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="rights are others there")


@pytest.fixture
def found(home: Path, make_model: Make) -> Iterator[ModelDir]:
    install(str(make_model()), name="other", say=lambda _: None)
    made = install(str(make_model()), say=lambda _: None)
    yield made
    for folder in (made.root, made.weights, made.runs, made.root / "logs"):
        if folder.exists():
            folder.chmod(0o755)


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """Run a command as somebody whom rights bind: root does so without its capabilities."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = os.geteuid() == 0
    if root and not shutil.which("capsh"):
        pytest.skip("nothing is closed to root, and capsh is not here")

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        typed = [sys.executable, "-m", "llm_installer", *map(str, words)]
        if words[0] == "-c":
            typed[1:3] = []
        bound = ["capsh", DROP, "--", "-c", 'exec "$@"', "sh", *typed] if root else typed
        done = subprocess.run(
            bound, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=elsewhere, timeout=60
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def one_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


@pytest.mark.parametrize("closed", [".", "model", "runs", ".."])
def test_a_model_that_cannot_be_removed_stays_whole(closed: str, found: ModelDir, say: Say) -> None:
    folder = (found.root / closed).resolve()
    before = sorted(found.root.rglob("*"))
    folder.chmod(0o555)
    try:
        one_sentence(say("remove", "small", "--yes"), "was not removed", folder.name, "chmod -R u+rwX")
    finally:
        folder.chmod(0o755)
    assert sorted(p for p in found.root.rglob("*") if not p.name.startswith(".training")) == before
    assert [m.complete for m in list_models()] == [True, True]


def test_a_removal_that_was_cut_short_is_named_and_finished(found: ModelDir) -> None:
    left = removing_dir(found.root)
    found.root.rename(left)
    (left / "model_info.json").unlink()
    [check] = [check for check in doctor._models() if check.ok is None]
    assert "left by an interrupted remove" in check.detail and check.fix.endswith("remove small")
    assert remove("small") == left and not left.exists()
    assert [m.name for m in list_models()] == ["other"]


def test_a_model_that_cannot_be_read_hides_no_other(found: ModelDir, say: Say) -> None:
    found.root.chmod(0)
    listed = say("list")
    assert listed.returncode == 0 and "other" in listed.stdout and "cannot be read" in listed.stdout
    assert '"readable": false' in say("list", "--json").stdout
    examined = say("-c", "from llm_installer.install.doctor import _models; print(_models())").stdout
    assert "1 model installed and complete" in examined and "cannot be read" in examined
    for words in (["start", "--prompt", "hi"], ["train", "--data", "a.json", "--dry-run"]):
        one_sentence(say(*words, "--model-path", "small"), "my models/models/small", "cannot be read", "chmod -R u+rwX")


@pytest.mark.parametrize("closed", [".", "runs"])
def test_training_is_refused_first_where_no_run_can_be_kept(closed: str, found: ModelDir, say: Say) -> None:
    (found.root / closed).chmod(0o555)
    refused = say("train", "--model-path", "small", "--data", "nothing.json")
    one_sentence(refused, "cannot be written to, so no run can be kept there", "chmod -R u+rwX")


@pytest.mark.parametrize(("closed", "rights"), [(".", 0o555), (".", 0), ("logs", 0o555)])
def test_scripts_that_cannot_be_written(closed: str, rights: int, found: ModelDir, say: Say) -> None:
    (found.root / closed).chmod(rights)
    one_sentence(say("update", "small"), "cannot be written", "check that you may write there")
    one_sentence(say("fix", "small"), "cannot be written", "check that you may write there")
    if rights == 0:
        one_sentence(say("remove", "small", "--yes"), "was not removed", "chmod -R u+rwX")
    (models_dir() / "other" / "train.sh").unlink()
    everything = say("update", "--all")
    assert everything.returncode == 1 and everything.stderr.startswith("small: "), "and the others are updated"
    assert (models_dir() / "other" / "train.sh").is_file()


def test_nobody_is_asked_about_what_is_not_there(found: ModelDir) -> None:
    refused = command("remove", "nosuch")
    one_sentence(refused, "'nosuch' is not an installed model")
    assert "[y/N]" not in refused.stdout


def test_a_question_that_nobody_answers_names_the_option(found: ModelDir) -> None:
    refused = command("remove", "small")
    assert refused.returncode == 2 and "--yes" in refused.stderr and found.info.exists()
    assert command("remove", "small", input="y\n").returncode == 0 and not found.root.exists()
