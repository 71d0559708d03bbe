"""--output never replaces what is not an adapter, and is refused before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from llm_installer.core.errors import UsageError
from llm_installer.core.files import write_folder
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.record import RUNNING, RunRecord
from llm_installer.planning.options import Options
from llm_installer.runs.interrupted import kept
from llm_installer.runs.listing import list_runs
from llm_installer.runs.output import refuse_output
from tests.commands import command
from tests.made_runs import make_run


def refuse(folder: Path) -> None:
    refuse_output(Options.from_kwargs(model_path="tiny", data="a.jsonl", output=str(folder)))


def adapter(folder: Path) -> Path:
    write_folder(folder, lambda fresh: (fresh / "adapter_config.json").write_text("{}"))
    return folder


def test_new_empty_and_our_own_folders_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new", tmp_path / "far" / "new", tmp_path / "empty", adapter(tmp_path / "adapter")):
        refuse(folder)


def test_what_is_no_part_of_an_adapter_is_kept(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    (thesis / "sub").mkdir(parents=True)
    (thesis / "chapter1.txt").write_text("years of work")
    own = adapter(tmp_path / "adapter")
    (own / "notes.md").write_text("mine")
    (tmp_path / "file").write_text("")
    for folder, word in ((thesis, "chapter1.txt"), (own, "notes.md"), (tmp_path / "file", "is a file")):
        with pytest.raises(UsageError, match=word):
            refuse(folder)
    (tmp_path / "folders" / "only").mkdir(parents=True)
    with pytest.raises(UsageError, match="only in it"):
        refuse(tmp_path / "folders")


def test_training_into_such_a_folder_is_refused_before_it_starts(
    tmp_path: Path, installed: Path, write_rows: Callable[..., Path]
) -> None:
    data = write_rows(8)
    for more in ((), ("--dry-run",)):
        given = ("train", "--model-path", installed, "--data", data, "--output", data.parent, *more)
        done = command(*given, cwd=tmp_path)
        assert done.returncode == 2 and f"{data.name} in it is no part of an adapter" in " ".join(done.stderr.split())
    assert data.is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UsageError, match="you may not write in"):
        refuse(tmp_path / "new")


def test_a_killed_run_with_an_output_shows_the_adapter_that_it_wrote_before(installed: Path, tmp_path: Path) -> None:
    folder, place = ModelDir(installed), tmp_path / "mine"
    run = make_run(folder, "20261120-090000-fast", rate=1e-3, status=RUNNING)
    record = RunRecord.read(run)
    assert record and not list_runs(folder)[0].usable
    replace(record, options={**record.options, "output": "mine"}, base=str(tmp_path)).write(run)
    adapter(place)
    (place / "adapter_info.json").write_text("{}")
    began = datetime.fromisoformat(record.started).timestamp()
    for written, shown in ((began - 60, False), (began + 60, True)):
        os.utime(place / "adapter_info.json", (written, written))
        row = list_runs(folder)[0]
        assert (row.usable, row.adapter == place) == (shown, shown), "what was there before is not of this run"


def test_an_interrupted_run_that_lora_names_holds_its_best(installed: Path) -> None:
    folder = ModelDir(installed)
    run = make_run(folder, "20261120-090000-fast", rate=1e-3)
    assert "./lora is as it was, the best adapter so far is" in kept(folder, run.adapter, ", ")
    folder.switch_to(run)
    assert kept(folder, run.adapter, ", ") == "./lora names this run, and holds its best adapter so far"
    assert kept(folder, None, ", ") == "./lora is as it was, the adapter was not evaluated yet"
