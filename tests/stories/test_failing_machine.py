"""Full disks, broken libraries, removed folders, damaged files, odd names: one sentence, and no work is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer import lora_sft
from llm_installer.core.errors import DiskError, InstallerError, TrainingError
from llm_installer.core.files import write_json
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.text import without_password
from llm_installer.data.reading.archives import byte_blocks
from llm_installer.data.reading.rows import Source
from llm_installer.planning.options import Options
from llm_installer.runs.listing import list_runs
from llm_installer.runs.resume import find_unfinished

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
QUIET = {"tensorboard": False, "seed": 1, "epochs": 1, "skip_test": True}


def test_a_zip_of_many_members_is_read_in_linear_time(tmp_path: Path) -> None:
    file = tmp_path / "many.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(4000):
            archive.writestr(f"{i}.json", f'{{"text": "{i}"}}')
    began = time.monotonic()
    for i in range(4000):
        assert b"".join(byte_blocks(Source(file, "many.zip", f"{i}.json"))) == f'{{"text": "{i}"}}'.encode()
    assert time.monotonic() - began < 20, "it was over 100 s"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.json", "replaced")
    assert b"".join(byte_blocks(Source(file, "many.zip", "0.json"))) == b"replaced"


def test_a_full_disk_is_one_sentence_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_json(file, {"status": "running"})
    usual, limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, limit[1]))
        with pytest.raises(DiskError, match=r"run.json cannot be written \(File too large\); free some space there"):
            write_json(file, {"status": "finished"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, usual)
    assert json.loads(file.read_text()) == {"status": "running"}
    assert os.listdir(tmp_path) == ["run.json"]
    assert issubclass(DiskError, OSError) and issubclass(DiskError, InstallerError)


def test_without_matplotlib_a_run_finishes_all_the_same(
    installed: Path, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ran = lora_sft(installed, write_rows(20), **QUIET)
    (row,) = list_runs(ModelDir(installed))
    assert row.status == "finished" and row.current and row.run.report.is_file()
    assert "plot is off for the rest of this run: matplotlib cannot be imported" in Run(ran.run).train_log.read_text()


def said(*words: str, folder: Path, before: str = "", out: str = "/dev/null") -> tuple[int, str]:
    """Exit code and stderr of a command in a shell, which may do something before."""
    line = f'{before} exec "$0" -m llm_installer "$@" > {out}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, *words], capture_output=True, cwd=folder, check=False, text=True
    )
    return done.returncode, done.stderr


def test_output_that_has_no_place_is_one_sentence(tmp_path: Path) -> None:
    for words in (("list",), ("--help",)):
        code, errors = said(*words, folder=tmp_path, out="/dev/full")
        assert code == 1 and errors.count("\n") == 1, errors
        assert errors.startswith("Error: What this command prints cannot be written (No space left on device)")


def test_a_removed_folder_is_named(tmp_path: Path) -> None:
    for words in (("data", "x.json"), ("train", "--model-path", "tiny", "--data", "x.json")):
        folder = tmp_path / "gone"
        folder.mkdir()
        code, errors = said(*words, folder=folder, before=f"rmdir '{folder}';")
        assert (
            code == 2
            and errors == "Error: The current folder was removed; change to another one, for example with: cd ~\n"
        )


class Removes:
    """Removes the folder of the run after its first step."""

    def __init__(self, folder: ModelDir) -> None:
        self.folder = folder

    def on_step_end(self, *told: object, **more: object) -> None:
        for run in self.folder.runs.iterdir():
            shutil.rmtree(run)


def test_a_run_whose_folder_was_removed_says_so(installed: Path, write_rows: Callable[..., Path]) -> None:
    folder = ModelDir(installed)
    with pytest.raises(TrainingError, match="was removed while its run was training, so nothing can be kept"):
        lora_sft(installed, write_rows(20), callbacks=[Removes(folder)], **QUIET)
    assert not folder.lora.exists()


WRONG = (None, True, -1, 10**30, 1.5, "x", "", [], [[]], {}, {"a": 1}, float("nan"))


@pytest.mark.slow
def test_a_damaged_plan_is_named_when_its_run_is_resumed(installed: Path, write_rows: Callable[..., Path]) -> None:
    ran = Run(lora_sft(installed, write_rows(20), **QUIET).run)
    folder, asked = ModelDir(installed), Options.from_kwargs(model_path=str(installed), resume=True)
    ran.record.write_text(ran.record.read_text().replace('"finished"', '"stopped"'))
    good = json.loads(ran.plan.read_text())
    assert find_unfinished(folder, asked, installed, lambda text: None)

    def refused(text: str) -> bool:
        ran.plan.write_text(text)
        try:
            find_unfinished(folder, asked, installed, lambda text: None)
        except TrainingError as error:
            return "\n" not in str(error)
        return False

    for text in ("", "{", "[]", "null", "7", "{}", "[" * 100_000, '"x"', "\x00" * 40):
        assert refused(text), text[:20]
    for name in good:
        for value in WRONG:
            refused(json.dumps({**good, name: value}))  # nothing but an error of ours, or none
    for name, value in {"mode": "x", "lora_r": 0, "device": "tpu", "learning_rate": -1.0, "controller": "x"}.items():
        assert refused(json.dumps({**good, name: value})), name
    for name in ("effective_batch_size", "schedule", "stop_rules", "evaluation_every"):
        for value in (0, "x", ["x"]):
            assert refused(json.dumps({**good, "course": {**good["course"], name: value}})), (name, value)


@pytest.mark.slow
def test_a_password_is_neither_stored_nor_printed(
    installed: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        without_password("see https://me:s3@cr3t@host:1/x and http://host/") == "see https://host:1/x and http://host/"
    )
    assert without_password("a: b@c, https://host/a:b@c") == "a: b@c, https://host/a:b@c"
    uri = "http://me:s3cr3t@127.0.0.1:9/ml"
    ran = lora_sft(installed, write_rows(20), mlflow_tracking_uri=uri, **QUIET)
    shown = capsys.readouterr()
    assert "s3cr3t" not in shown.out + shown.err
    files = [file for file in ran.run.rglob("*") if file.is_file()]
    assert files and not [file for file in files if b"s3cr3t" in file.read_bytes()]
    assert json.loads(Run(ran.run).record.read_text())["options"]["mlflow_tracking_uri"] == "http://127.0.0.1:9/ml"


@pytest.mark.slow
def test_a_name_that_is_no_utf8_is_trained_on_in_any_locale(installed: Path, write_rows: Callable[..., Path]) -> None:
    data = write_rows(20).rename(installed / os.fsdecode(b"caf\xe9 \xff.jsonl"))
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    words = ("train", "--model-path", ".", "--data", data.name, "--epochs", "1", "--skip-test", "--no-tensorboard")
    command = [sys.executable, "-m", "llm_installer", *words]
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    (row,) = list_runs(ModelDir(installed))
    assert row.status == "finished" and os.fsencode(row.data) == b"caf\xe9 \xff.jsonl"
    assert "caf\\\\udce9 \\\\udcff.jsonl" in row.run.report.read_text(encoding="utf-8")
