"""Rows in memory: read, cut, ordered, told apart by task, and taken by the one pipeline like files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer import (
    add_task_prefix,
    create_instruct_dataset,
    curriculum_learning,
    prepare_dataset,
    text_difficulty,
)
from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.home import cache_dir
from llm_installer.data.batches import epoch_steps
from llm_installer.data.prepare import read
from llm_installer.data.python_rows import as_file, rows_in_memory
from llm_installer.data.store.views import prefixed
from llm_installer.planning.options import Options


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with data of several kinds."""
    (tmp_path / "a.csv").write_text("text,content\none two three,x\n  one two three  ,y\n,z\nfour,ü 東京\n", "utf-8")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": f"b {i}"}) + "\n" for i in range(5)), "utf-8")
    qa = [{"question": f"Q{i}?", "answer": f"A{i}"} for i in range(5)]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(one) + "\n" for one in qa), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(rows: list[dict[str, object]]) -> list[object]:
    return [row["text"] for row in rows]


def test_texts_are_stripped_and_empty_ones_and_copies_left_out(folder: Path) -> None:
    assert texts(prepare_dataset("a.csv")) == ["one two three", "four"]
    assert texts(prepare_dataset(folder / "a.csv", text_field="content")) == ["x", "y", "z", "ü 東京"]
    assert texts(prepare_dataset("a.csv", chunk_size=2)) == ["one two", "three", "four"]


def test_the_kind_of_a_file_can_be_said(folder: Path) -> None:
    (folder / "b.jsonl").rename("b.log")
    assert texts(prepare_dataset("b.log", file_type="jsonl")) == [f"b {i}" for i in range(5)]
    assert texts(prepare_dataset(".", text_field="content", file_type="csv"))[-1] == "ü 東京"
    for given_, says in (
        ({"file_type": "pdf"}, "file_type='pdf' is no kind of file that can be read; there are "),
        ({"chunk_size": -1}, "chunk_size=-1: it must be a whole number of words, or 0 to cut nothing"),
    ):
        with pytest.raises(UsageError) as raised:
            prepare_dataset("a.csv", **given_)  # type: ignore[arg-type]
        assert str(raised.value).startswith(says)


def test_a_field_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"^a.csv:2: there is no text in a field 'body'; the record has text, content$"):
        prepare_dataset("a.csv", text_field="body")


@pytest.mark.parametrize("task", ["qa.jsonl", Path("qa.jsonl")])
def test_one_task_alone_is_put_into_a_list(task: Any) -> None:
    with pytest.raises(UsageError, match=r"^tasks_list='qa.jsonl': it must be a list; put a single task into one"):
        create_instruct_dataset(1, task)


def test_tasks_are_mixed_with_as_many_rows_of_each(folder: Path) -> None:
    rows = create_instruct_dataset(3, ["qa.jsonl", folder / "b.jsonl"], seed=1)
    assert rows == create_instruct_dataset(3, ["qa.jsonl", "b.jsonl"], seed=1)
    assert rows != create_instruct_dataset(3, ["qa.jsonl", "b.jsonl"], seed=2)
    assert sorted(map(str, rows)) == sorted(map(str, create_instruct_dataset(3, ["b.jsonl", "qa.jsonl"], seed=2)))
    assert sorted(texts([row for row in rows if "text" in row])) == ["b 0", "b 1", "b 2"]
    assert sum("messages" in row for row in rows) == 3


def test_a_task_stands_before_what_is_asked() -> None:
    assert add_task_prefix({"text": "Good."}, "SENTIMENT") == {"text": "[TASK:SENTIMENT] Good."}
    assert add_task_prefix({"prompt": "a", "completion": "b"}, "X")["prompt"] == "[TASK:X] a"
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    found = add_task_prefix({"messages": turns}, "X")["messages"]
    assert found == [turns[0], {"role": "user", "content": "[TASK:X] u"}] and turns[1]["content"] == "u"
    for row, task, says in (({"image": 1}, "X", "A record with image has no prompt"), ({"text": "a"}, " ", "is empty")):
        with pytest.raises(UsageError, match=says):
            add_task_prefix(row, task)


def test_rows_in_memory_are_read_as_files_are(folder: Path) -> None:
    rows = [add_task_prefix({"text": f"row {i}"}, "A") for i in range(4)]
    file = as_file(rows)
    assert isinstance(file, Path) and file == as_file(iter(rows)) and file.is_relative_to(cache_dir())
    found = read(Options(data=str(file), validation_split=0.0), folder)
    expected = read(Options(data="b.jsonl", validation_split=0.0), folder).train[0]
    assert [one.messages[0].content for one in found.train] == [f"[TASK:A] row {i}" for i in range(4)]
    assert found.train[0].kind == expected.kind
    assert prefixed(expected, "TASK:A").messages[0].content == add_task_prefix({"text": "b 0"}, "A")["text"]
    assert as_file("a.csv") == "a.csv" and as_file(["a.csv"]) == ["a.csv"] and as_file(None) is None
    for data, error, says in (
        ([{"text": "a"}, "a.csv"], UsageError, "mix records and names of files"),
        ([{"text": {1}}], DataError, "cannot be written as JSON"),
        ([{"x": float("nan")}], DataError, "cannot be written as JSON"),
    ):
        with pytest.raises(error, match=says):
            as_file(data)


def test_own_difficulty_orders_rows_and_files(folder: Path) -> None:
    rows = [{"text": "a b c"}, {"text": "a"}, {"text": "a b"}, {"text": "x"}]
    assert texts(curriculum_learning(rows)) == ["a", "x", "a b", "a b c"]
    assert texts(curriculum_learning(rows, lambda text: -text_difficulty(text))) == ["a b c", "a b", "a", "x"]
    by_number = curriculum_learning("qa.jsonl", lambda text: -int(text.rpartition("A")[2]))
    assert by_number[0]["messages"][0]["content"] == "Q4?"  # type: ignore[index]
    assert texts(curriculum_learning(["b.jsonl"], lambda text: -int(text[2:])))[0] == "b 4"
    with pytest.raises(UsageError, match=r"^The difficulty of row 1 is None; the function has to return a number$"):
        curriculum_learning(rows, lambda text: None)  # type: ignore[arg-type,return-value]


def test_rows_in_their_own_order_stay_so_through_split_and_first_epoch(folder: Path) -> None:
    rows = curriculum_learning([{"text": "word " * (40 - i)} for i in range(40)])
    found = read(Options(data=str(as_file(rows)), order="given"), folder)
    sizes = [len(one.messages[0].content.split()) for one in found.train]
    assert sizes == sorted(sizes) and len(found.validation) == 4
    lengths = np.array(sizes[::-1])
    steps = epoch_steps(lengths, 8, 1, 0, order="given")
    assert np.concatenate(steps).tolist() == [*range(len(lengths))]
    assert epoch_steps(lengths, 8, 1, 1, order="given")[0].tolist() == epoch_steps(lengths, 8, 1, 1)[0].tolist()


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers() | st.none(), max_size=3)))
@settings(max_examples=40, deadline=None)
def test_whatever_rows_hold_is_in_the_file(rows: list[dict[str, object]]) -> None:
    assert rows_in_memory(rows) == rows
    try:
        file = as_file(rows)
    except DataError as error:
        assert "surrogates" in str(error)
        return
    if rows:
        assert isinstance(file, Path)
        assert [json.loads(line) for line in file.read_text("utf-8").split("\n")[:-1]] == rows
