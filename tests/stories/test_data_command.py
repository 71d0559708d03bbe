"""`llm-installer data`: what training would do with a dataset, without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llm_installer.cli.main import cli
from llm_installer.core.errors import InstallerError


def data(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, words)])


def test_json_is_one_object_with_everything(write_rows: Callable[..., Path], tmp_path: Path) -> None:
    file = write_rows(20)
    file.write_text(file.read_text() + '\n{"instruction": "x", "output": ""}\n' + file.read_text().splitlines()[0])
    found = json.loads(data(file, "--json").stdout)
    assert found["examples"] == 21
    assert found["duplicates"] == 1
    assert found["train"] + found["validation"] == 20
    assert found["dropped"][0]["line"] == 21
    assert found["formats"] == {"alpaca": 22}
    assert found["tokens"] is None


def test_with_a_model_there_are_token_figures(installed: Path, write_rows: Callable[..., Path]) -> None:
    found = json.loads(data(write_rows(20), "--json", "--model", installed).stdout)["tokens"]
    assert 0 < found["supervised_share"] < 1
    assert found["quantiles"]["median"] <= found["quantiles"]["longest"] <= found["max_seq_length"]
    assert found["longest"][0][0].startswith(str(write_rows(20)))


def test_the_table_names_what_is_skipped(write_rows: Callable[..., Path]) -> None:
    file = write_rows(20)
    file.write_text(file.read_text() + '\n{"instruction": "x", "output": ""}')
    said = data(file).stdout
    assert "alpaca" in said and "Skipped" in said and f"{file.name}:21" in "".join(said.split())


def test_fix_writes_a_copy_that_trains(write_rows: Callable[..., Path], tmp_path: Path) -> None:
    file = write_rows(6)
    file.write_text(file.read_text() + '\n{"instruction": "x", "output": null}')
    out = tmp_path / "clean.jsonl"
    assert data(file, "--fix", out).exit_code == 0
    assert json.loads(data(out, "--json").stdout)["dropped"] == []
    assert len(out.read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("words", "says"), [(["missing.json"], "missing.json"), (["{tmp}/data.jsonl", "--show", "1"], "--model")]
)
def test_mistakes(words: list[str], says: str, tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    write_rows(2)
    done = data(*(w.format(tmp=tmp_path) for w in words))
    assert isinstance(done.exception, InstallerError)
    assert says in str(done.exception)
