"""Hostile records: missing and odd values, roles, empty answers, tools, images, and prompts that repeat."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Rows = list[Any]
GOOD = {"prompt": "good", "completion": "yes"}


def chat(*turns: tuple[str, Any], **beside: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": said} for role, said in turns], **beside}


def pairs(*pairs: tuple[str, str]) -> Rows:
    return [{"prompt": prompt, "completion": answer} for prompt, answer in pairs]


CASES: tuple[tuple[str, Rows, tuple[int, ...] | str], ...] = (
    ("empty answer", [GOOD, {"prompt": "a", "completion": ""}], (1, 1, 0, 0, 1)),
    ("blank answer", [GOOD, {"prompt": "a", "completion": " \n\u00a0\u3000"}], (1, 1, 0, 0, 1)),
    ("null answer", [GOOD, {"prompt": "a", "completion": None}], (1, 1, 0, 0, 1)),
    ("zero answer", [GOOD, {"prompt": "a", "completion": 0}], (2, 1, 1, 0, 0)),
    ("false answer", [GOOD, {"prompt": "a", "completion": False}], (2, 1, 1, 0, 0)),
    (
        "word answers",
        [{"prompt": str(i), "completion": w} for i, w in enumerate(("NA", "n/a", "null."))],
        (3, 2, 1, 0, 0),
    ),
    ("list answer", [GOOD, {"prompt": "a", "completion": ["b"]}], (1, 1, 0, 0, 1)),
    ("object answer", [GOOD, {"prompt": "a", "completion": {"b": 1}}], (1, 1, 0, 0, 1)),
    ("empty list answer", [GOOD, {"question": "a", "answers": []}], (1, 1, 0, 0, 1)),
    ("no prompt", [GOOD, {"instruction": "", "input": "", "output": "b"}], (1, 1, 0, 0, 1)),
    ("only input", [GOOD, {"instruction": "", "input": "a", "output": "b"}], (2, 1, 1, 0, 0)),
    ("empty prompts", pairs(("", "a"), ("", "b"), ("", "c")), (3, 2, 1, 0, 0)),
    ("zero-width answer", pairs(("a", "\u200b"), ("b", "c")), (2, 1, 1, 0, 0)),
    ("missing key", [GOOD, {"prompt": "a"}], (1, 1, 0, 0, 1)),
    ("missing keys", [{"prompt": "a"}, {"prompt": "b"}], "no known format"),
    ("misspelt key", [{"promt": "a", "completion": "b"}], "no known format"),
    ("null messages", [GOOD, {"messages": None}], (1, 1, 0, 0, 1)),
    ("empty messages", [GOOD, {"messages": []}], (1, 1, 0, 0, 1)),
    ("text messages", [GOOD, {"messages": "hello"}], (1, 1, 0, 0, 1)),
    ("object messages", [GOOD, {"messages": {"role": "user"}}], (1, 1, 0, 0, 1)),
    (
        "json messages",
        [GOOD, {"messages": json.dumps(chat(("user", "a"), ("assistant", "b"))["messages"])}],
        (2, 1, 1, 0, 0),
    ),
    ("python messages", [GOOD, {"messages": "[{'role': 'user', 'content': 'a'}]"}], (1, 1, 0, 0, 1)),
    ("null turn", [GOOD, {"messages": [None]}], (1, 1, 0, 0, 1)),
    ("number turn", [GOOD, {"messages": [1, 2]}], (1, 1, 0, 0, 1)),
    ("no role", [GOOD, {"messages": [{"content": "a"}, {"role": "assistant", "content": "b"}]}], (1, 1, 0, 0, 1)),
    ("null role", [GOOD, chat((None, "a"), ("assistant", "b"))], (1, 1, 0, 0, 1)),  # type: ignore[arg-type]
    ("unknown role", [GOOD, chat(("narrator", "a"), ("assistant", "b"))], (1, 1, 0, 0, 1)),
    (
        "role aliases",
        [
            chat((" Human ", "a"), ("GPT", "b")),
            chat(("prompter", "c"), ("model", "d")),
            chat(("USER", "e"), ("bot", "f")),
        ],
        (3, 2, 1, 0, 0),
    ),
    ("only user", [GOOD, chat(("user", "a"))], (1, 1, 0, 0, 1)),
    ("only system", [GOOD, chat(("system", "a"))], (1, 1, 0, 0, 1)),
    ("user last", [GOOD, chat(("user", "a"), ("assistant", "b"), ("user", "c"))], (2, 1, 1, 0, 0)),
    (
        "empty middle",
        [GOOD, chat(("user", "a"), ("assistant", ""), ("user", "c"), ("assistant", "d"))],
        (1, 1, 0, 0, 1),
    ),
    ("empty last", [GOOD, chat(("user", "a"), ("assistant", ""))], (1, 1, 0, 0, 1)),
    ("two users", [GOOD, chat(("user", "a"), ("user", "b"), ("assistant", "c"))], (2, 1, 1, 0, 0)),
    ("audio", [GOOD, chat(("user", [{"type": "input_audio", "data": "x"}]), ("assistant", "b"))], (1, 1, 0, 0, 1)),
    ("parts", [GOOD, chat(("user", [{"type": "text", "text": "a"}]), ("assistant", "b"))], (2, 1, 1, 0, 0)),
    ("part without type", [GOOD, chat(("user", [{"text": "a"}]), ("assistant", "b"))], (1, 1, 0, 0, 1)),
    (
        "weight zero",
        [GOOD, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}],
        (1, 1, 0, 0, 1),
    ),
    ("bad label", [{"prompt": "a", "completion": "b", "label": False}, GOOD], (1, 1, 0, 0, 1)),
    (
        "call without name",
        [GOOD, {"prompt": "a", "functions": [], "function_call": {"arguments": {}}}],
        (1, 1, 0, 0, 1),
    ),
    ("tools not json", [GOOD, chat(("user", "a"), ("assistant", "b"), tools="[{")], (1, 1, 0, 0, 1)),
    ("tools of numbers", [GOOD, chat(("user", "a"), ("assistant", "b"), tools=[1])], (1, 1, 0, 0, 1)),
    ("empty tools", [GOOD, chat(("user", "a"), ("assistant", "b"), tools="  ")], (2, 1, 1, 0, 0)),
    (
        "nan in a call",
        [GOOD, {"prompt": "a", "functions": [], "function_call": '{"name": "f", "arguments": {"x": NaN}}'}],
        (1, 1, 0, 0, 1),
    ),
    ("no image", [GOOD, {"image": "no.png", "question": "a", "answer": "b"}], (1, 1, 0, 0, 1)),
    ("image on the web", [GOOD, {"image": "https://x.org/a.png", "question": "a", "answer": "b"}], (1, 1, 0, 0, 1)),
    ("broken address", [GOOD, {"image": "http://[", "question": "a", "answer": "b"}], (1, 1, 0, 0, 1)),
    ("long image name", [GOOD, {"image": "a" * 5000, "question": "a", "answer": "b"}], (1, 1, 0, 0, 1)),
    ("image of nobody", [GOOD, {"image": "~nobody-here/a.png", "question": "a", "answer": "b"}], (1, 1, 0, 0, 1)),
    ("image with nul", [GOOD, {"image": "a\0b", "question": "a", "answer": "b"}], (1, 1, 0, 0, 1)),
    ("image is a folder", [GOOD, {"image": ".", "question": "a", "answer": "b"}], (1, 1, 0, 0, 1)),
    ("image is a number", [GOOD, {"image": 5, "question": "a", "answer": "b"}], (1, 1, 0, 0, 1)),
    ("too many marks", [GOOD, chat(("user", "<image><image>"), ("assistant", "b"), images=["a.png"])], (1, 1, 0, 0, 1)),
    (
        "articles without questions",
        [GOOD, {"paragraphs": []}, {"paragraphs": None}, {"paragraphs": [{"qas": []}]}],
        (1, 1, 0, 0, 3),
    ),
    ("nothing but empty articles", [{"paragraphs": []}], "it has no questions"),
    (
        "questions without answers",
        [
            GOOD,
            {
                "paragraphs": [
                    {
                        "context": "c",
                        "qas": [{"question": "a", "answers": []}, {"question": "b", "answers": [{"text": "x"}]}],
                    }
                ]
            },
        ],
        (2, 1, 1, 0, 1),
    ),
    ("half a tree", [GOOD, {"message_id": "1", "parent_id": "0", "role": "assistant", "text": "x"}], (1, 1, 0, 0, 1)),
    (
        "messages without an id",
        [GOOD, {"message_id": "", "parent_id": None, "role": "prompter", "text": "x"}],
        (1, 1, 0, 0, 1),
    ),
    (
        "tree in a circle",
        [
            GOOD,
            {"message_id": "1", "parent_id": "2", "role": "assistant", "text": "x"},
            {"message_id": "2", "parent_id": "1", "role": "prompter", "text": "x"},
        ],
        (1, 1, 0, 0, 2),
    ),
    (
        "mixed formats",
        [GOOD, {"text": "a"}, chat(("user", "b"), ("assistant", "c")), {"question": "d", "answer": "e"}],
        (4, 3, 1, 0, 0),
    ),
    ("one row", [GOOD], (1, 1, 0, 0, 0)),
    ("two rows", pairs(("a", "b"), ("c", "d")), (2, 1, 1, 0, 0)),
    ("all the same", [GOOD] * 50, (50, 1, 0, 49, 0)),
    ("one prompt, many answers", pairs(*((("same", str(i))) for i in range(20))), (20, 20, 0, 0, 0)),
    ("two prompts, many answers", pairs(*((f"p{i % 2}?", str(i)) for i in range(20))), (20, 10, 10, 0, 0)),
    (
        "one crowd",
        pairs(*([("crowd", str(i)) for i in range(90)] + [(f"p{i}", "x") for i in range(10)])),
        (100, 95, 5, 0, 0),
    ),
    (
        "prompts in other clothes",
        pairs(("What is it?", "a"), ("what is IT", "b"), (" \uff37hat   is it!", "c")),
        (3, 3, 0, 0, 0),
    ),
    ("signs between numbers", pairs(("7 + 2", "9"), ("7 - 2", "5")), (2, 1, 1, 0, 0)),
    ("only punctuation", pairs(("?", "a"), ("!", "b")), (2, 1, 1, 0, 0)),
    ("repeated lines and rows", [{"text": "a"}, {"text": "a"}, {"text": "b"}, GOOD, GOOD], (5, 2, 1, 2, 0)),
    ("repeated rows and lines", [GOOD, GOOD, {"text": "a"}, {"text": "a"}, {"text": "b"}], (5, 2, 1, 2, 0)),
)


@pytest.mark.parametrize(("rows", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_records(rows: Rows, expected: tuple[int, ...] | str, here: Path, judge: Callable[..., None]) -> None:
    (here / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judge(expected, "a.jsonl")


@pytest.mark.parametrize(
    ("train", "held_out", "expected"),
    [
        (pairs(("a", "1"), ("b", "2")), pairs(("A!", "3"), ("c", "4")), (4, 2, 1, 0, 0)),
        (pairs(("a", "1"), ("a", "1")), pairs(("a", "1")), (3, 1, 0, 1, 0)),
        (pairs(("a", "1")), pairs(("b", "")), (1, 1, 0, 0, 1)),
        (pairs(("a", "")), pairs(("b", "1")), "every example is reserved for validation"),
    ],
    ids=["some", "all", "empty", "no train"],
)
def test_validation_that_is_trained_on(
    train: Rows, held_out: Rows, expected: tuple[int, ...] | str, here: Path, judge: Callable[..., None]
) -> None:
    for name, rows in (("a.jsonl", train), ("b.jsonl", held_out)):
        (here / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judge(expected, "a.jsonl", "--validation-data", "b.jsonl")
