"""Real files of every format: each record is an example or left out for the right reason, by exact counts."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet  # type: ignore[import-untyped]
import pytest

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats import convert, detect

DATA = Path(__file__).parents[3].parent / "shared" / "data"
UNANSWERED = "the question has no answer in its text"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")

# File, and how many of its records are of which format and became what.
FILES: list[tuple[str, dict[tuple[str, str], int]]] = [
    ("alpaca/alpaca_en_demo.json", {("alpaca", "chat"): 999}),
    ("alpaca/alpaca_zh_demo.json", {("alpaca", "chat"): 1000}),
    ("alpaca/alpaca_fixture_axolotl.json", {("alpaca", "chat"): 2}),
    ("alpaca/identity.json", {("alpaca", "chat"): 91}),
    ("alpaca/instruct_response_torchtune.json", {("alpaca", "chat"): 2}),
    ("alpaca/msswift_alpaca.jsonl", {("alpaca", "chat"): 3}),
    ("completion/HumanEval.jsonl.gz", {("completion", "completion"): 164}),
    ("completion/msswift_alpaca.csv", {("alpaca", "chat"): 3}),
    ("completion/msswift_query_response.jsonl", {("pair", "chat"): 3}),
    ("completion/t0_quoref_find_answer.jsonl", {("completion", "completion"): 200}),
    ("openai/kto_en_demo.json", {("kto", "chat"): 150, ("kto", "label is false"): 150}),
    ("openai/msswift_chatml.jsonl", {("openai", "chat"): 3}),
    ("openai/torchtune_hh_rlhf_tiny.json", {("preference", "chat"): 1}),
    ("openai/turkish_dialogues_test.jsonl", {("openai", "chat"): 525}),
    ("openai/v1_dpo_demo.jsonl", {("preference", "chat"): 10}),
    ("parquet/turkish_dialogues_train.parquet", {("openai", "chat"): 3950}),
    ("qa/gsm8k_test.jsonl", {("qa", "chat"): 1319}),
    ("qa/gsm8k_train.jsonl", {("qa", "chat"): 7473}),
    ("qa/quac_sample.json", {("squad", "chat"): 12}),
    ("qa/squad_v1_allennlp.json", {("squad", "chat"): 5}),
    ("qa/squad_v2_flat_sample.json", {("qa", "chat"): 8, ("qa", UNANSWERED): 6}),
    ("qa/torchtitan_sft_data.json", {("qa", "chat"): 10}),
    ("sharegpt/axolotl_conversation.json", {("sharegpt", "chat"): 1}),
    ("sharegpt/fastchat_dummy_conversation.json", {("sharegpt", "chat"): 500}),
    ("sharegpt/glaive_toolcall_en_demo.json", {("sharegpt", "chat"): 109, ("sharegpt", "chat with tools"): 191}),
    ("sharegpt/msswift_conversations_user_assistant.jsonl", {("sharegpt", "chat"): 3}),
    ("sharegpt/torchtune_chat_tiny.json", {("sharegpt", "chat"): 1}),
    ("text/c4_demo.jsonl", {("text", "text"): 300}),
    ("text/mlx_wikisql_test.jsonl", {("text", "text"): 100}),
    ("text/mlx_wikisql_train.jsonl", {("text", "text"): 1000}),
    ("text/mlx_wikisql_valid.jsonl", {("text", "text"): 100}),
    ("text/tinyshakespeare.txt", {("text", "text"): 32777, ("text", "text is empty"): 7223}),
    ("text/wiki_demo.txt", {("text", "text"): 30}),
    ("vision/mllm_demo.json", {("openai", "chat with images"): 6}),
    ("vision/msswift_multi_modal_images_url.jsonl", {("pair", "chat with images"): 3}),
    ("vision/torchtune_vqa_tiny.json", {("pair", "chat with images"): 1}),
    ("vision/v1_multimodal_demo.jsonl", {("openai", "chat with images"): 24}),
]


def records(path: Path) -> Iterator[Any]:
    """The raw records, read as simply as can be: how files are read well is the readers' own test."""
    if path.suffix == ".parquet":
        yield from pyarrow.parquet.read_table(path).to_pylist()
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    elif path.suffix == ".json" and path.parent.name != "toolcall":
        document = json.loads(path.read_text(encoding="utf-8"))
        yield from document if isinstance(document, list) else document.get("data", [document])
    else:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = content.decode().removesuffix("\n").split("\n")
        yield from lines if path.suffix == ".txt" else (json.loads(line) for line in lines if line)


def outcome(item: Example | Dropped) -> str:
    if isinstance(item, Dropped):
        return item.reason
    return item.kind + (" with images" if item.images else "") + (" with tools" if item.tools else "")


@pytest.mark.parametrize(("name", "expected"), FILES, ids=[name for name, _ in FILES])
def test_every_record_of_the_file(name: str, expected: dict[tuple[str, str], int]) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for number, record in enumerate(records(DATA / name), 1):
        row = detect(record)
        assert row, record
        for item in convert(record, Origin(name, record=number)):
            found[row.name, outcome(item)] += 1
            if isinstance(item, Example):
                check(item)
    assert found == expected


def check(example: Example) -> None:
    """What holds for every example, whatever it was made from."""
    last = example.messages[-1]
    assert last.role == "assistant" and (last.content.strip() or last.tool_calls)
    for message in example.messages:
        assert message.content.strip() not in ("None", "nan", "NaN")
        assert not message.content.startswith(("{'", "[{'"))
        for call in json.loads(message.tool_calls or "[]"):
            assert call["type"] == "function" and isinstance(call["function"]["arguments"], dict)
    for tool in json.loads(example.tools or "[]"):
        assert tool["type"] == "function" and tool["function"]["name"]
    if example.images:
        assert sum(message.content.count("<image>") for message in example.messages) == len(example.images)


def test_all_files_are_in_the_table() -> None:
    here = {str(path.relative_to(DATA)) for path in DATA.rglob("*.*")}
    data = {name for name in here if not name.endswith((".jpg", ".png", "SOURCES.tsv"))}
    assert data == {name for name, _ in FILES} | {"toolcall/bfcl_v4_parallel_multiple.json"}


def test_questions_without_answers_are_refused_with_what_to_type() -> None:
    refused = 0
    for record in records(DATA / "toolcall/bfcl_v4_parallel_multiple.json"):
        with pytest.raises(DataError, match="the record has the keys 'id', 'question', 'function'; the nearest are qa"):
            convert(record, Origin("bfcl.json", refused + 1))
        refused += 1
    assert refused == 200


def first(name: str, place: int = 0) -> Example:
    (example,) = convert(list(records(DATA / name))[place], Origin(name))
    assert isinstance(example, Example)
    return example


def test_a_tool_conversation_in_full() -> None:
    example = first("sharegpt/glaive_toolcall_en_demo.json")
    assert [message.role for message in example.messages] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    assert example.messages[3].content == ""
    assert json.loads(example.messages[3].tool_calls) == [
        {
            "type": "function",
            "function": {"name": "search_recipes", "arguments": {"ingredients": ["chicken", "bell peppers", "rice"]}},
        }
    ]
    assert json.loads(example.tools)[0]["function"]["name"] == "search_recipes"


def test_images_stay_at_their_places() -> None:
    example = first("vision/mllm_demo.json")
    assert example.images == ("mllm_demo_data/1.jpg", "mllm_demo_data/1.jpg")
    assert [message.content for message in example.messages[::2]] == [
        "<image>Who are they?",
        "What are they doing?<image>",
    ]
    assert first("vision/v1_multimodal_demo.jsonl").messages == example.messages


def test_csv_cells_are_text() -> None:
    assert [m.content for m in first("completion/msswift_alpaca.csv").messages] == ["00000", "11111\n\n22222", "3.3"]
    assert [m.content for m in first("completion/msswift_alpaca.csv", 1).messages] == ["aaaaa", "ccccc"]
