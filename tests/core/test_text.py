"""Sizes, counts, shortened texts, and commands that work for whoever reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_installer.core import hints
from llm_installer.core.text import counted, perplexity, short_path, shortened, size


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (900, "900 bytes"),
        (1024, "1 KiB"),
        (34 << 20, "34 MiB"),
        (1000 << 20, "1.0 GiB"),
        (1610612736, "1.5 GiB"),
        (250 << 30, "250 GiB"),
    ],
)
def test_sizes_are_in_powers_of_1024_and_say_so(count: int, said: str) -> None:
    assert size(count) == said


def test_counts_have_the_right_number() -> None:
    assert counted(1, "record") == "1 record"
    assert counted(0, "record") == "0 records"
    assert counted(2345, "record") == "2,345 records"
    assert counted(2, "entry", "entries") == "2 entries"


def test_texts_are_cut_on_one_line() -> None:
    assert shortened("a\n b\tc") == "a b c"
    assert shortened("x" * 301) == "x" * 297 + "..."
    assert len(shortened("word " * 200, 50)) == 50


def test_perplexity_of_a_hopeless_model_is_a_number() -> None:
    assert perplexity(0.0) == "1"
    assert perplexity(2.0) == "7.39"
    assert perplexity(10.0) == "22,026"
    assert "inf" not in perplexity(1e9)


def test_paths_are_as_their_reader_would_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "home" / "work"
    here.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert short_path(here) == "."
    assert short_path(here / "runs" / "a") == "./runs/a"
    assert short_path("runs/a") == "./runs/a"
    assert short_path(home / "LLM" / "x") == "~/LLM/x"
    assert short_path(tmp_path / "other") == str(tmp_path / "other")
    assert short_path(home) == str(home)


def test_a_script_is_named_so_that_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my models" / "tiny"
    folder.mkdir(parents=True)
    script = folder / "train.sh"
    script.write_text("#!/bin/sh\necho trained\n")
    script.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    for where, said in ((folder, "./train.sh"), (Path("/"), "~/'my models/tiny/train.sh'")):
        monkeypatch.chdir(where)
        assert hints.script(folder) == said
        done = subprocess.run(["sh", "-c", said], capture_output=True, text=True, check=True)
        assert done.stdout == "trained\n"


def test_the_program_is_named_as_it_can_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hints.COMMAND)
    monkeypatch.setenv("PATH", str(tmp_path))
    checkout = Path(hints.__file__).resolve().parents[2]
    monkeypatch.chdir(checkout)
    assert hints.program() == "./llm-installer"
    (tmp_path / hints.NAME).write_text("#!/bin/sh\n")
    os.chmod(tmp_path / hints.NAME, 0o755)
    assert hints.program() == "llm-installer"
    monkeypatch.setattr(hints, "__file__", str(tmp_path / "site-packages" / "llm_installer" / "core" / "hints.py"))
    monkeypatch.setenv("PATH", "")
    assert hints.program() == f"{sys.executable} -m llm_installer"
