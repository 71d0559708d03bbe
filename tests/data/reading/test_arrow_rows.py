"""Parquet and what datasets.save_to_disk writes."""

from __future__ import annotations

import datetime
import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.reading.sources import find_sources

ROOT = Path(__file__).parents[3]
RECORDS = [
    {"q": "NA", "n": None, "turns": [{"role": "user", "content": "\u00e9"}], "raw": b"\0\xff"},
    {"q": None, "n": 7, "turns": [], "raw": None},
]
SAVE = """
import datasets, sys
datasets.disable_progress_bars()
def made(*words): return datasets.Dataset.from_list([{"q": word, "n": None, "m": [{"r": "u"}]} for word in words])
made("a", "b", "c").select([2, 0]).save_to_disk(sys.argv[1] + "/one")
splits = {"train": made("a", "b", "c"), "validation": made("d"), "test": made("e")}
datasets.DatasetDict(splits).save_to_disk(sys.argv[1] + "/three", num_shards={"train": 2, "validation": 1, "test": 1})
datasets.DatasetDict(train_sft=made("a"), test_sft=made("b")).save_to_disk(sys.argv[1] + "/odd")
datasets.DatasetDict(test=made("a")).save_to_disk(sys.argv[1] + "/sole")
"""


def rows(data: str, base: Path) -> list[Row]:
    return [row for source in find_sources(data, base)[0] for row in read_rows(source)]


def write(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(RECORDS), path)
    return path


def test_parquet(tmp_path: Path) -> None:
    write(tmp_path / "x.PARQUET")
    found = rows("x.PARQUET", tmp_path)
    assert [row.value for row in found] == RECORDS
    assert [str(row.origin) for row in found] == ["x.PARQUET record 1", "x.PARQUET record 2"]


def test_packed_parquet(tmp_path: Path) -> None:
    content = write(tmp_path / "x.parquet").read_bytes()
    (tmp_path / "g.parquet.gz").write_bytes(gzip.compress(content))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("in/x.parquet", content)
    found = rows("g.parquet.gz,z.zip", tmp_path)
    assert [row.value for row in found] == RECORDS * 2
    assert str(found[-1].origin) == "z.zip!in/x.parquet record 2"


def test_parquet_is_read_in_batches(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array(range(10_000))})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=3_000)
    numbers = [(row.value, row.origin.record) for row in rows("x.parquet", tmp_path)]
    assert numbers == [({"n": n}, n + 1) for n in range(10_000)]


def test_dates_are_left_to_the_formats(tmp_path: Path) -> None:
    day = datetime.date(2024, 1, 2)
    pq.write_table(pa.table({"d": [day]}), tmp_path / "x.parquet")
    assert rows("x.parquet", tmp_path)[0].value == {"d": day}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.parquet is damaged, or not what its name says"),
        (b"PAR1 and nothing more", "x.parquet is damaged"),
        (b"hello", "x.parquet is damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_broken_parquet(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows("x.parquet", tmp_path)


def test_cut_parquet(tmp_path: Path) -> None:
    content = write(tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        rows("x.parquet", tmp_path)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["q", "q"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="two columns have the same name"):
        rows("x.parquet", tmp_path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    column = pa.array([b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"q": column}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet is damaged"):
        rows("x.parquet", tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    subprocess.run([sys.executable, "-c", SAVE, str(folder)], check=True, env=environment, capture_output=True)
    return folder


def value(word: str) -> dict[str, object]:
    return {"q": word, "n": None, "m": [{"r": "u"}]}


def test_a_saved_dataset(saved: Path) -> None:
    found = rows("one", saved)
    assert [row.value for row in found] == [value("c"), value("a")]
    assert [str(row.origin) for row in found] == ["one record 1", "one record 2"]
    assert {row.part for row in found} == {""}


def test_a_saved_dataset_with_splits(saved: Path) -> None:
    sources, notes = find_sources("three", saved)
    found = [(row.value, str(row.origin), row.part) for source in sources for row in read_rows(source)]
    assert found == [
        (value("a"), "three:train record 1", "train"),
        (value("b"), "three:train record 2", "train"),
        (value("c"), "three:train record 3", "train"),
        (value("d"), "three:validation record 1", "validation"),
    ]
    assert notes == ["three: not used: test; name one, as in three:test, to use it"]


def test_one_split_of_a_saved_dataset(saved: Path) -> None:
    [source] = find_sources("three:test", saved)[0]
    assert source == Source(saved / "three" / "test", "three:test", split="test")
    assert [(row.value, row.part) for row in read_rows(source)] == [(value("e"), "")]
    assert [row.part for row in rows("sole", saved)] == [""]


def test_saved_datasets_below_a_folder(saved: Path) -> None:
    (saved / "above").mkdir()
    (saved / "above" / "one").symlink_to(saved / "one")
    (saved / "above" / "x.jsonl").write_text('{"q": "x"}\n')
    assert [row.value for row in rows("above", saved)] == [value("c"), value("a"), {"q": "x"}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "odd",
            r"odd has no train split; name the one to train on, as in odd:train_sft \(there are train_sft, test_sft",
        ),
        ("three:dev", "three has no split named dev"),
        ("one:train", 'one is a single dataset without splits; give it without ":train"'),
    ],
)
def test_wrong_splits(saved: Path, data: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_sources(data, saved)


@pytest.mark.parametrize("state", ["", "[]", "{}", '{"_data_files": [{"filename": "gone.arrow"}]}'])
def test_a_damaged_saved_dataset(tmp_path: Path, state: str) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(state)
    with pytest.raises(DataError, match=r"^s.* is damaged"):
        rows("s", tmp_path)


@pytest.mark.parametrize("listing", ["", "[]", json.dumps({"splits": []})])
def test_a_damaged_list_of_splits(tmp_path: Path, listing: str) -> None:
    (tmp_path / "dataset_dict.json").write_text(listing)
    with pytest.raises(DataError, match=r"dataset_dict\.json is damaged"):
        find_sources(str(tmp_path), tmp_path)
