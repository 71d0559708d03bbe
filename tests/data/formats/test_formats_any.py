"""Whatever a record holds, the answer is an example, a reason or a sentence; and no text in it is a Python repr."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats import FORMATS, convert, detect

HERE = Origin("any.jsonl", 1)
KEYS = sorted({key for row in FORMATS for shape in row.required for key in shape})
BESIDE = ["system", "history", "images", "image", "tools", "functions", "videos", "context", "input", "lang", "rank"]
INNER = ["role", "content", "from", "value", "text", "type", "image_url", "tool_calls", "function_call", "name"]
WORDS = [
    "",
    " ",
    "user",
    "assistant",
    "system",
    "gpt",
    "human",
    "tool",
    "function_call",
    "image",
    "text",
    "Hi",
    "[]",
    "[1",
    "{}",
    '{"name": "f"}',
    '[{"role": "user", "content": "Hi"}]',
    "<image>",
    "python",
    "a.png",
    "0",
]


def value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.randrange(10 if depth < 4 else 7)
    if kind < 4:
        return dice.choice(WORDS)
    if kind < 7:
        return dice.choice([None, True, False, 0, 7, 1.5, float("nan"), float("inf"), b"x"])
    if kind == 7:
        return {dice.choice(INNER): value(dice, depth + 1) for _ in range(dice.randrange(4))}
    return [value(dice, depth + 1) for _ in range(dice.randrange(4))]


TALK = [{"role": "user", "content": "Hi"}, {"from": "gpt", "value": "Hello!"}]


def record(dice: random.Random) -> dict[str, Any]:
    """The keys of a format with sound values, some of them replaced, and other keys beside them."""
    shape = dice.choice(dice.choice(FORMATS).required)
    sound_values: dict[str, list[Any]] = {
        "": ["Hi", TALK],
        "list": [TALK],
        "turns": [TALK],
        "texts": [["Hi", "Hello!"]],
        "bool": [True],
    }
    fields: dict[str, Any] = {key: dice.choice(sound_values.get(kind, [{}])) for key, kind in shape.items()}
    for key in [*dice.sample([*shape], dice.randrange(2)), *dice.sample([*BESIDE, *KEYS], dice.randrange(3))]:
        fields[key] = value(dice)
    return fields


@pytest.mark.parametrize("seed", range(20))
def test_any_record_is_taken_left_out_or_refused(seed: int) -> None:
    dice = random.Random(seed)
    taken = 0
    rows: list[tuple[Any, Origin]] = [(record(dice), HERE) for _ in range(500)]
    flat = [row for row in rows if (found := detect(row[0])) and found.group]
    (group,) = (format.group for format in FORMATS if format.group)
    for row, origin in [*(row for row in rows if row not in flat), *group(flat)]:
        found = detect(row)
        forced = dice.choice([found, found, None, dice.choice(FORMATS)])
        try:
            items = convert(row, origin, forced)
        except DataError as error:
            assert str(error).startswith("any.jsonl:1: ") and "\n" not in str(error)
            continue
        for item in items:
            assert isinstance(item, Dropped) or sound(item)
            taken += isinstance(item, Example)
    assert taken > 50, "the records are too odd to test anything"


def sound(example: Example) -> bool:
    last = example.messages[-1]
    assert last.role == "assistant" and (last.content.strip() or last.tool_calls)
    for message in example.messages:
        assert isinstance(message.content, str) and message.content not in ("None", "nan", "True", "False")
        assert not message.content.startswith(("{'", "['", "[{'", "b'"))
        assert message.role == "assistant" or not message.tool_calls
        json.loads(message.tool_calls or "[]")
    json.loads(example.tools or "[]")
    assert all(isinstance(path, str) and path for path in example.images)
    return True


def test_a_mixed_file_is_read_row_by_row() -> None:
    rows = [row.example.replace("[...]", "[]") for row in FORMATS] * 2
    names = [found.name if (found := detect(json.loads(text))) else "" for text in rows]
    assert names == [row.name for row in FORMATS] * 2
