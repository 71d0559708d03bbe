"""Records that teach nothing, odd conversations, odd values: left out with a reason, or put right as documented."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

import pytest

from llm_installer.core.examples import Dropped, Example, Message, Origin
from llm_installer.data.formats import convert, find_format

HERE = Origin("data.jsonl", 3)
ASKED = {"role": "user", "content": "Hi"}
ANSWERED = {"role": "assistant", "content": "Hello!"}


def said(role: Any, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def qa(answer: Any) -> dict[str, Any]:
    return {"question": "Q", "answer": answer}


DROPPED: list[tuple[object, str]] = [
    ({"instruction": "Greet", "output": ""}, "output is empty"),
    ({"instruction": "Greet", "output": " \n"}, "output is empty"),
    ({"instruction": "Greet", "output": None}, "output is empty"),
    ({"instruction": "Greet", "output": math.nan}, "output is empty"),
    ({"instruction": "Greet", "response": None}, "response is empty"),
    ({"instruction": None, "output": None}, "output is empty"),
    ({"instruction": "", "input": "", "output": "Hi"}, "instruction is empty"),
    ({"instruction": "Greet", "context": "C", "response": ""}, "response is empty"),
    ({"instruction": "", "context": "C", "response": "R"}, "instruction is empty"),
    ({"instruction": {"a": 1}, "output": "Hi"}, "instruction is an object where text is expected"),
    ({"instruction": "Greet", "output": ["Hi"]}, "output is a list where text is expected"),
    ({"instruction": "Greet", "input": b"x", "output": "Hi"}, "input is binary data where text is expected"),
    ({"prompt": "P", "completion": ""}, "completion is empty"),
    ({"input": "I", "output": None}, "output is empty"),
    ({"query": "", "response": "R"}, "query is empty"),
    ({"user": "U", "assistant": ""}, "assistant is empty"),
    ({"system": "S", "user": "U", "assistant": ""}, "assistant is empty"),
    ({"Human": "", "Assistant": "A"}, "Human is empty"),
    ({"text": ""}, "text is empty"),
    ({"text": None}, "text is empty"),
    ({"text": {"a": 1}}, "text is an object where text is expected"),
    (" \n", "text is empty"),
    (qa(None), "answer is empty"),
    (qa([]), "answer is empty"),
    (qa(["", None]), "answer is empty"),
    (qa({"value": ""}), "answer is empty"),
    (qa([{"nested": []}]), "answer is empty"),
    ({"question": [["x"]], "answer": "A"}, "question is a list where text is expected"),
    ({"question": "", "context": "C", "answer": "A"}, "question is empty"),
    ({"question": "Q", "answers": {"text": [], "answer_start": []}}, "the question has no answer in its text"),
    ({"question": "Q", "answers": []}, "the question has no answer in its text"),
    ({"question": "Q", "answers": ["A"], "is_impossible": True}, "the question has no answer in its text"),
    ({"question": "Q", "answers": [{"text": "CANNOTANSWER"}]}, "the question has no answer in its text"),
    ({"question": "Q", "answers": "{'text': array(['A'])}"}, "answers is text that is not JSON"),
    ({"messages": []}, "messages is empty"),
    ({"messages": None}, "messages is empty"),
    ({"messages": ""}, "messages is empty"),
    ({"messages": [ASKED]}, "no assistant turn"),
    ({"messages": [said("system", "S"), ASKED]}, "no assistant turn"),
    ({"messages": [ASKED, said("assistant", "")]}, "the answer is empty"),
    ({"messages": [ASKED, said("assistant", None, tool_calls=[])]}, "the answer is empty"),
    ({"messages": [ASKED, said("assistant", " "), ASKED, ANSWERED]}, "an assistant turn in the middle is empty"),
    ({"messages": {"role": "user"}}, "messages is an object where a list is expected"),
    ({"messages": "user: Hi"}, "messages is text where a list is expected"),
    ({"messages": "[{'role': 'user', 'content': 'Hi'}]"}, "messages is text where a list is expected"),
    ({"messages": 7}, "messages is a number where a list is expected"),
    ({"messages": [ASKED, 7]}, "turn 2 is a number where a turn is expected"),
    ({"messages": [{"content": "Hi"}]}, "turn 1 does not say who speaks, by 'role' or 'from'"),
    ({"messages": [{"user": "Hi"}]}, "turn 1 does not say who speaks, by 'role' or 'from'"),
    ({"messages": [said("narrator", "Then")]}, "turn 1 has the unknown role 'narrator'"),
    ({"messages": [said(["user"], "Hi")]}, "turn 1 does not say who speaks, by 'role' or 'from'"),
    ({"messages": [ASKED, said("assistant", {"a": 1})]}, "the content of turn 2 is an object where text is expected"),
    ({"messages": [ASKED, said("assistant", [{"text": "x"}])]}, "a part of turn 2 has no 'type'"),
    ({"messages": [said("user", [{"type": "poem"}])]}, "turn 1 has a part of the unknown type 'poem'"),
    (
        {"messages": [said("user", [{"type": "audio_url", "audio_url": "a.wav"}]), ANSWERED]},
        "turn 1 has a part of type audio_url, and only text and images can be trained on",
    ),
    (
        {"messages": [ASKED, ANSWERED], "videos": ["a.mp4"]},
        "the record has videos, and only text and images can be trained on",
    ),
    (
        {"messages": [ASKED, {**ANSWERED, "weight": 0}]},
        "none of its answers counts",
    ),
    (
        {"messages": [ASKED, {**ANSWERED, "weight": 0}, ANSWERED]},
        "an answer of weight 0 directly follows or precedes one that is trained on",
    ),
    (
        {"messages": [ASKED, ANSWERED], "label": None},
        "label is null, so the answer is not rated",
    ),
    (
        {"messages": [ASKED, said("assistant", None, tool_calls=[{"id": "1"}])]},
        "tool_calls of turn 2 is not a tool call with a 'name'",
    ),
    ({"messages": [ASKED, ANSWERED], "tools": "call me"}, "tools is text that is not JSON"),
    ({"messages": [ASKED, ANSWERED], "tools": 7}, "tools is a number where a list of tools is expected"),
    ({"messages": [ASKED, ANSWERED], "tools": ["weather"]}, "tools holds something that is not a tool with a 'name'"),
    ({"messages": [ASKED, ANSWERED], "label": False}, "label is false"),
    ({"prompt": "P", "completion": "C", "label": False}, "label is false"),
    ({"instruction": "P", "output": "C", "kto_tag": False}, "kto_tag is false"),
    ({"conversations": []}, "conversations is empty"),
    ({"conversations": [{"from": "human", "value": "Hi"}]}, "no assistant turn"),
    ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": ""}]}, "the answer is empty"),
    ({"conversations": ["Only a question"]}, "no assistant turn"),
    ({"turns": ["First question?", "Second question?"]}, "turns holds plain strings, which do not say who speaks"),
    ({"turns": []}, "turns is empty"),
    ({"prompt": "P", "chosen": "", "rejected": "R"}, "chosen is empty"),
    ({"chosen": [ASKED], "rejected": [ASKED]}, "no assistant turn"),
    ({"prompt": "P", "functions": [], "function_call": None}, "the answer is empty"),
    ({"prompt": "P", "functions": [], "function_call": "weather()"}, "function_call is not a tool call with a 'name'"),
    ({"image": "a.png", "caption": ""}, "caption is empty"),
    ({"image": None, "caption": "C"}, "image is empty"),
    ({"image": 7, "caption": "C"}, "image is a number where the path of an image is expected"),
    ({"image": "a.png", "question": "Q", "answer": ""}, "answer is empty"),
    (
        {"messages": [said("user", "<image><image>"), ANSWERED], "images": ["a.png"]},
        "the text has 2 <image> marks for 1 image",
    ),
    (
        {"messages": [said("user", [{"type": "image"}]), ANSWERED]},
        "the turns show 1 image without a path, and the record names 0",
    ),
    ({"messages": [ANSWERED], "images": ["a.png"]}, "there is no user turn that the images could belong to"),
    (
        {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "Hi"},
        "its tree is incomplete in this file, or the message is there twice",
    ),
    ({"message_tree_id": "1", "prompt": {"role": "prompter", "text": "Hi", "replies": []}}, "no assistant turn"),
    (
        {"message_tree_id": "1", "prompt": {"role": "prompter", "text": "Hi", "replies": [7]}},
        "a reply of the tree is not an object",
    ),
    ({"paragraphs": [7]}, "a paragraph is a number where an object is expected"),
    ({"context": "C", "qas": [7]}, "a question is a number where an object is expected"),
]


@pytest.mark.parametrize(
    ("record", "reason"), DROPPED, ids=[f"{i}-{reason[:40]}" for i, (_, reason) in enumerate(DROPPED)]
)
def test_is_left_out_with_its_reason(record: object, reason: str) -> None:
    assert convert(record, HERE) == (Dropped(HERE, reason),)


CALL = '[{"type": "function", "function": {"name": "f", "arguments": {}}}]'
TWO = CALL[:-1] + ', {"type": "function", "function": {"name": "g", "arguments": {}}}]'
F, G = {"name": "f", "arguments": "{}"}, {"name": "g"}

# What the rules at the top of turns.py say.
SETTLED: list[tuple[str, list[Any], list[Message]]] = [
    (
        "users in a row",
        [said("user", "One"), said("user", "Two"), ANSWERED],
        [Message("user", "One\n\nTwo"), Message("assistant", "Hello!")],
    ),
    (
        "assistants in a row",
        [ASKED, said("assistant", "One"), said("assistant", "Two")],
        [Message("user", "Hi"), Message("assistant", "One\n\nTwo")],
    ),
    (
        "systems in front",
        [said("system", "A"), said("system", "B"), ASKED, ANSWERED],
        [Message("system", "A\n\nB"), Message("user", "Hi"), Message("assistant", "Hello!")],
    ),
    (
        "system later",
        [ASKED, ANSWERED, said("system", "Be brief."), ASKED, ANSWERED],
        [
            Message("user", "Hi"),
            Message("assistant", "Hello!"),
            Message("user", "Be brief.\n\nHi"),
            Message("assistant", "Hello!"),
        ],
    ),
    (
        "assistant opens",
        [ANSWERED, ASKED, ANSWERED],
        [Message("assistant", "Hello!"), Message("user", "Hi"), Message("assistant", "Hello!")],
    ),
    ("user ends", [ASKED, ANSWERED, ASKED], [Message("user", "Hi"), Message("assistant", "Hello!")]),
    ("tool ends", [ASKED, ANSWERED, said("tool", "3")], [Message("user", "Hi"), Message("assistant", "Hello!")]),
    (
        "empty answer ends",
        [ASKED, ANSWERED, ASKED, said("assistant", "")],
        [Message("user", "Hi"), Message("assistant", "Hello!")],
    ),
    ("empty user", [said("user", ""), ASKED, ANSWERED], [Message("user", "Hi"), Message("assistant", "Hello!")]),
    ("empty system", [said("system", " "), ASKED, ANSWERED], [Message("user", "Hi"), Message("assistant", "Hello!")]),
    (
        "empty before full answer",
        [ASKED, said("assistant", ""), ANSWERED],
        [Message("user", "Hi"), Message("assistant", "Hello!")],
    ),
    (
        "parallel results stay apart",
        [ASKED, said("assistant", None, tool_calls=[F, G]), said("tool", "1"), said("tool", ""), ANSWERED],
        [
            Message("user", "Hi"),
            Message("assistant", "", TWO),
            Message("tool", "1"),
            Message("tool", ""),
            Message("assistant", "Hello!"),
        ],
    ),
    (
        "words before a call",
        [ASKED, ANSWERED, said("function_call", '{"name": "f", "arguments": {}}')],
        [Message("user", "Hi"), Message("assistant", "Hello!", CALL)],
    ),
    (
        "words after a call",
        [ASKED, said("assistant", None, tool_calls=[F]), ANSWERED],
        [Message("user", "Hi"), Message("assistant", "", CALL), Message("assistant", "Hello!")],
    ),
    (
        "two calls in one turn",
        [ASKED, said("tool_call", '[{"name": "f"}, {"name": "g"}]')],
        [Message("user", "Hi"), Message("assistant", "", TWO)],
    ),
    ("a call in words", [ASKED, said("function_call", "f(1)")], [Message("user", "Hi"), Message("assistant", "f(1)")]),
    (
        "spaces are kept",
        [said("user", " Hi\n"), said("assistant", "\tyes ")],
        [Message("user", " Hi\n"), Message("assistant", "\tyes ")],
    ),
]


@pytest.mark.parametrize(("turns", "expected"), [row[1:] for row in SETTLED], ids=[row[0] for row in SETTLED])
def test_odd_conversations(turns: list[Any], expected: list[Message]) -> None:
    for record in ({"messages": turns}, {"conversations": turns}):
        assert convert(record, HERE) == (Example(tuple(expected), HERE),)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (False, "false"),
        (True, "true"),
        (42, "42"),
        (3.0, "3.0"),
        (1e-7, "1e-07"),
        (decimal.Decimal("1.50"), "1.50"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (datetime.datetime(2020, 1, 2, 3, 4), "2020-01-02 03:04:00"),
        ("  kept  ", "  kept  "),
        ("0", "0"),
        ("None", "None"),
        ("nan", "nan"),
    ],
)
def test_values_are_written_as_json_would(value: object, text: str) -> None:
    for record in (
        {"question": "Q", "answer": value},
        {"prompt": "Q", "completion": value},
        {"instruction": "Q", "output": value},
    ):
        (example,) = convert(record, HERE)
        assert isinstance(example, Example) and example.messages[-1] == Message("assistant", text)
    (example,) = convert({"messages": [ASKED, said("assistant", value)]}, HERE)
    assert isinstance(example, Example) and example.messages[-1] == Message("assistant", text)


def test_a_forced_kto_reads_the_words_of_a_table() -> None:
    kto = find_format("kto")
    assert convert({"prompt": "P", "completion": "C", "label": "False"}, HERE, kto) == (
        Dropped(HERE, "label is false"),
    )
    assert isinstance(convert({"prompt": "P", "completion": "C", "label": "True"}, HERE, kto)[0], Example)
