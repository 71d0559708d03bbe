"""Hostile tables: CSV with every bad habit, and parquet files that hold what JSON cannot."""

from __future__ import annotations

import datetime
import io
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

CSV: tuple[tuple[str, str, tuple[int, ...] | str], ...] = (
    ("semicolon.csv", "prompt;completion\na,b;c\nd;e,f\n", (2, 1, 1, 0, 0)),
    ("tab.csv", "prompt\tcompletion\na,b\tc\nd\te\n", (2, 1, 1, 0, 0)),
    ("bar.csv", "prompt|completion\na|c\nd|e\n", (2, 1, 1, 0, 0)),
    ("comma.tsv", "prompt,completion\na,c\nd,e\n", (2, 1, 1, 0, 0)),
    ("embedded.csv", 'prompt,completion\n"a\nb","c\n\nd"\ne,f\n', (2, 1, 1, 0, 0)),
    ("embedded_crlf.csv", 'prompt,completion\r\n"a\r\nb",c\r\ne,f\r\n', (2, 1, 1, 0, 0)),
    ("quotes.csv", 'prompt,completion\n"say ""hi""",c\ne,"f, g"\n', (2, 1, 1, 0, 0)),
    ("open_quote.csv", 'prompt,completion\na,b\n"c,d\ne,f\n', "open_quote.csv:3: a cell begins with"),
    ("inner_quote.csv", 'prompt,completion\n"a"b,c\n', 'a " inside a quoted cell'),
    ("short.csv", "prompt,completion\na,b\nc\n", "short.csv:3: 1 cell where the first line names 2"),
    ("long.csv", "prompt,completion\na,b\nc,d,e\n", "long.csv:3: 3 cells where the first line names 2"),
    ("spaces_line.csv", "prompt,completion\na,b\n   \nc,d\n", "spaces_line.csv:3: 1 cell"),
    ("blank_lines.csv", "\n\nprompt,completion\n\na,b\n\n\nc,d\n\n", (2, 1, 1, 0, 0)),
    ("no_header.csv", "What is it?,A cat.\nWho?,Ada\n", "has no line with column names"),
    ("header_only.csv", "prompt,completion\n", "holds no records"),
    ("twice.csv", "prompt,prompt,completion\na,b,c\n", 'two columns have the name "prompt"'),
    ("unnamed.csv", "prompt,completion,\na,b,c\n", "column 3 has no name"),
    ("index.csv", ",prompt,completion\n0,a,b\n", "column 1 has no name"),
    ("upper.csv", "Prompt,Completion\na,b\n", (1, 1, 0, 0, 0)),
    ("spaces.csv", "prompt , completion\na , b\n", (1, 1, 0, 0, 0)),
    ("sep.csv", "sep=;\nprompt;completion\na;b\n", "sep=;"),
    ("huge_cell.csv", 'prompt,completion\na,"' + "word\n" * 300_000 + '"\nb,c\n', (2, 1, 1, 0, 0)),
    ("empty_cells.csv", "prompt,completion\na,\n,b\nc,d\n  ,  \n", (2, 1, 1, 0, 2)),
    ("wide.csv", ",".join(f"c{i}" for i in range(2000)) + "\n" + "," * 1999 + "\n", "no known format"),
    ("one_column.csv", "text\nOnce upon a time\nThe end\n", (2, 1, 1, 0, 0)),
    ("one_column_comma.csv", "text\nOnce, upon a time\n", "2 cells where the first line names 1"),
    (
        "lists.csv",
        'messages\n"[{""role"": ""user"", ""content"": ""a""}, {""role"": ""assistant"", ""content"": ""b""}]"\n',
        (1, 1, 0, 0, 0),
    ),
    ("python_lists.csv", "messages\n\"[{'role': 'user', 'content': 'a'}]\"\n", "no example"),
    ("kto.csv", "prompt,completion,label\na,b,True\nc,d,False\ne,f,true\n", (2, 1, 1, 0, 1)),
    ("na.csv", "prompt,completion\nSodium?,NA\nn,0\nm,false\n", (3, 2, 1, 0, 0)),
    ("formula.csv", "prompt,completion\n=1+1,\"=cmd|' /C calc'!A0\"\n", (1, 1, 0, 0, 0)),
    ("cr_inside.csv", "prompt,completion\na\rb,c\n", "a carriage return"),
    ("nbsp.csv", "\u00a0prompt,completion\na,b\n", (1, 1, 0, 0, 0)),
)


@pytest.mark.parametrize(("name", "content", "expected"), CSV, ids=[name for name, _, _ in CSV])
def test_csv(name: str, content: str, expected: tuple[int, ...] | str, here: Path, judge: Callable[..., None]) -> None:
    (here / name).write_text(content, encoding="utf-8", newline="")
    judge("can be trained on" if expected == "no example" else expected, name)


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
CALL = [{"name": "f", "arguments": {"at": datetime.datetime(2024, 1, 1), "blob": None}}]
COLUMNS: tuple[tuple[str, dict[str, Any], tuple[int, ...] | str], ...] = (
    ("nulls", {"prompt": ["a", None, "c", "d"], "completion": ["b", "b", None, ""]}, (2, 1, 1, 0, 2)),
    ("nan", {"prompt": ["a", "b", "c"], "answer": [1.0, math.nan, math.inf]}, (2, 1, 1, 0, 1)),
    ("ints", {"prompt": [1, 2], "answer": [0, -5]}, (2, 1, 1, 0, 0)),
    ("bools", {"prompt": ["a", "b"], "answer": [False, None]}, (1, 1, 0, 0, 1)),
    ("zero_rows", {"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())}, "holds no records"),
    ("no_columns", {}, "holds no records"),
    ("all_null", {"prompt": pa.nulls(2), "completion": pa.nulls(2)}, "can be trained on"),
    ("nested", {"messages": [TURNS, None, []]}, (1, 1, 0, 0, 2)),
    (
        "nested_nulls",
        {"messages": [[{"role": "user", "content": None}, {"role": "assistant", "content": "b"}]]},
        (1, 1, 0, 0, 0),
    ),
    ("null_turn", {"messages": [[None, *TURNS], TURNS]}, (1, 1, 0, 0, 1)),
    ("binary", {"prompt": ["a"], "completion": [b"\xff"]}, "binary data where text is expected"),
    ("dates", {"prompt": ["a", "b"], "answer": [datetime.date(2024, 1, 2), None]}, (1, 1, 0, 0, 1)),
    ("decimals", {"prompt": ["a", "b"], "answer": [Decimal("1.50"), Decimal("2.25")]}, (2, 1, 1, 0, 0)),
    ("durations", {"prompt": ["a"], "answer": [datetime.timedelta(1)]}, "timedelta where text is expected"),
    ("nanoseconds", {"prompt": ["a"], "answer": pa.array([1], pa.timestamp("ns"))}, (1, 1, 0, 0, 0)),
    (
        "far_dates",
        {"prompt": ["a"], "answer": pa.array([2**62], pa.timestamp("us"))},
        "is damaged, or not what its name says",
    ),
    (
        "far_days",
        {"prompt": ["a"], "answer": pa.array([2**31 - 1], pa.date32())},
        "is damaged, or not what its name says",
    ),
    (
        "zone",
        {"prompt": ["a"], "answer": pa.array([1], pa.timestamp("us", tz="Nowhere/Else"))},
        "is damaged, or not what its name says",
    ),
    ("dictionary", {"prompt": pa.array(["a", "b"]).dictionary_encode(), "completion": ["c", "d"]}, (2, 1, 1, 0, 0)),
    (
        "maps",
        {"prompt": ["a"], "answer": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string()))},
        "where text is expected",
    ),
    ("mixed_formats", {"messages": [TURNS, None], "prompt": [None, "p"], "completion": [None, "c"]}, (2, 1, 1, 0, 0)),
    ("dated_call", {"prompt": ["a"], "functions": ["[]"], "function_call": CALL}, (1, 1, 0, 0, 0)),
    (
        "nan_call",
        {"prompt": ["a"], "functions": ["[]"], "function_call": [{"name": "f", "arguments": {"x": math.nan}}]},
        "can be trained on",
    ),
    (
        "bytes_call",
        {"prompt": ["a"], "functions": ["[]"], "function_call": [{"name": "f", "arguments": {"x": b"\xff"}}]},
        "binary data",
    ),
    (
        "dated_tools",
        {"messages": [TURNS], "tools": [[{"name": "f", "since": datetime.date(2024, 1, 2)}]]},
        (1, 1, 0, 0, 0),
    ),
    (
        "null_label",
        {"prompt": ["a", "b"], "completion": ["c", "d"], "label": [False, None]},
        "label is null, so the answer",
    ),
    (
        "one_null_label",
        {"prompt": list("abc"), "completion": list("def"), "label": [True, None, False]},
        (1, 1, 0, 0, 2),
    ),
    ("index_column", {"__index_level_0__": [5, 6], "prompt": ["a", "b"], "completion": ["c", "d"]}, (2, 1, 1, 0, 0)),
)


def parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(("name", "columns", "expected"), COLUMNS, ids=[name for name, _, _ in COLUMNS])
def test_parquet(
    name: str, columns: dict[str, Any], expected: tuple[int, ...] | str, here: Path, judge: Callable[..., None]
) -> None:
    (here / "a.parquet").write_bytes(parquet(columns))
    judge(expected, "a.parquet")


WHOLE = parquet({"prompt": ["a", "b"], "completion": ["c", "d"]})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (WHOLE[:-1], "is damaged, or not what its name says"),
        (WHOLE[:100], "is damaged, or not what its name says"),
        (WHOLE[:4], "is damaged, or not what its name says"),
        (WHOLE[:30] + b"\xff" * 30 + WHOLE[60:], "is damaged, or not what its name says"),
        (b'{"prompt": "a", "completion": "b"}\n', "is damaged, or not what its name says"),
        (b"\x1f\x8b\x08" + b"\0" * 9, "compressed with gzip"),
    ],
    ids=["tail", "half", "magic", "middle", "json", "gzip"],
)
def test_damaged_parquet(content: bytes, expected: str, here: Path, judge: Callable[..., None]) -> None:
    (here / "a.parquet").write_bytes(content)
    judge(expected, "a.parquet")


def test_two_columns_of_one_name(here: Path, judge: Callable[..., None]) -> None:
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["prompt", "completion", "completion"])
    pq.write_table(table, here / "a.parquet")
    judge("two columns have the same name", "a.parquet")


def test_two_fields_of_one_name_inside(here: Path, judge: Callable[..., None]) -> None:
    inner = pa.StructArray.from_arrays(
        [pa.array(["user"]), pa.array(["a"]), pa.array(["b"])], names=["role", "content", "content"]
    )
    turns = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), inner)
    pq.write_table(pa.table({"messages": turns}), here / "a.parquet")
    judge("is damaged, or not what its name says", "a.parquet")


def test_text_that_is_no_text(here: Path, judge: Callable[..., None]) -> None:
    bad = pa.array([b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"prompt": ["a"], "completion": bad}), here / "a.parquet")
    judge("is damaged, or not what its name says", "a.parquet")
