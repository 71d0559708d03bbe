"""Arrow gives all objects of a column the same keys; the nulls that this adds are not what anybody wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.examples import Example, Origin
from llm_installer.data.formats import convert
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.sources import find_sources
from llm_installer.data.store.load import DataRequest, load_examples
from tests.generated import many


def rows(file: Path) -> list[Any]:
    return [row.value for source in find_sources(file.name, file.parent)[0] for row in read_rows(source)]


def test_the_case(shared: Path, tmp_path: Path) -> None:
    found = load_examples(DataRequest("arrow_tools/tools.parquet", shared / "cases"), tmp_path).train
    calls = [json.loads(m.tool_calls)[0]["function"] for e in found for m in e.messages if m.tool_calls]
    assert calls == [
        {"name": "tide", "arguments": {"place": "Skerry"}},
        {"name": "boat", "arguments": {"hour": 6}},
    ]
    tools = [
        {t["function"]["name"]: t["function"]["parameters"]["properties"] for t in json.loads(e.tools)} for e in found
    ]
    tide, boat = {"place": {"type": "string"}}, {"hour": {"type": "integer"}}
    assert tools == [{"tide": tide, "boat": boat}, {"boat": boat}]
    assert not any("null" in e.tools + "".join(m.tool_calls for m in e.messages) for e in found)


values = st.recursive(
    st.integers(0, 9) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("pqrs"), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), values, min_size=1), min_size=1, max_size=4))
@settings(max_examples=many(150), deadline=None)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[dict[str, Any]]) -> None:
    """Any objects that one table can hold come back as they were, in parquet; JSON lines are not touched."""
    try:
        table = pa.Table.from_pylist([{"n": number, "x": {"y": x}} for number, x in enumerate(written)])
        table = table.cast(table.schema)
        file = tmp_path_factory.mktemp("x") / "x.parquet"
        pq.write_table(table, file)
    except (pa.ArrowException, TypeError):
        return  # no table can hold them
    assert [row["x"]["y"] for row in rows(file)] == written


def test_nulls_of_columns_lists_and_json_stay(tmp_path: Path) -> None:
    records = [{"a": None, "b": [1, None], "c": {"x": None, "y": [{"z": None}]}}, {"a": "t", "b": None, "c": None}]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "x.parquet")
    assert rows(tmp_path / "x.parquet") == [{"a": None, "b": [1, None], "c": {"y": [{}]}}, records[1]]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert rows(tmp_path / "x.jsonl") == records


def test_objects_of_nulls_below_properties_are_padding_too(tmp_path: Path) -> None:
    kind = pa.struct([("p", pa.struct([("type", pa.string())])), ("q", pa.struct([("type", pa.string())]))])
    column = pa.array([{"p": {"type": "string"}, "q": {"type": None}}], kind)
    table = pa.table({"tools": pa.StructArray.from_arrays([column], ["properties"])})
    pq.write_table(table, tmp_path / "x.parquet")
    assert rows(tmp_path / "x.parquet") == [{"tools": {"properties": {"p": {"type": "string"}}}}]


def test_definitions_from_json_lose_their_padding_and_keep_a_null_default() -> None:
    """What was exported from a table to JSON lines has its nulls; a null default or argument may be meant."""
    given = {"p": {"type": "string", "default": None, "enum": None}, "default": None, "q": None}
    tool = {"name": "f", "strict": None, "parameters": {"type": "object", "properties": given}}
    call = {"name": "f", "arguments": {"p": None}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    [found] = convert({"messages": turns, "tools": [tool]}, Origin("f", 1))
    assert isinstance(found, Example)
    sound = {"type": "object", "properties": {"p": {"type": "string", "default": None}}}
    assert json.loads(found.tools) == [{"type": "function", "function": {"name": "f", "parameters": sound}}]
    assert json.loads(found.messages[-1].tool_calls)[0]["function"]["arguments"] == {"p": None}
