"""<image> in the text of a record without images: skipped and said, or kept as text and said, never silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats import convert
from llm_installer.data.store.load import DataRequest, load_examples
from tests.generated import many

HERE = Origin("f", 1)


def talk(asked: str, answered: str = "A cat.", **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return {"messages": turns, **more}


def reason(record: object) -> str:
    [found] = convert(record, HERE)
    return found.reason if isinstance(found, Dropped) else ""


LOST = "the text has 1 <image> mark, and the record names no image"
RECORDS = [
    talk("<image>\nWhat is it?"),
    talk("What is it? <image>"),
    talk("<image>What?", images=[]),
    talk("<image>What?", image=None),
    talk("<image>What?", system="Be brief."),
    {"conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]},
    {"conversations": ["<image> What?", "A cat."]},
    {"instruction": "<image>What?", "input": "", "output": "A cat."},
    {"instruction": "What?", "input": "<image>", "output": "A cat."},
    {"question": "<image>What?", "answer": "A cat."},
    {"prompt": "<image>What?", "response": "A cat."},
    {"prompt": "<image>What? It is", "completion": " a cat."},
    {"prompt": "<image>What?", "chosen": "A cat.", "rejected": "A dog."},
    {"messages": [{"role": "system", "content": "<image>"}, *talk("Hi")["messages"]]},
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: json.dumps(record)[:60])
def test_a_picture_that_is_not_there_is_said_by_row(record: dict[str, Any], tmp_path: Path) -> None:
    assert reason(record) == LOST
    (tmp_path / "my.jsonl").write_text(json.dumps(talk("Hi", "Hello!")) + "\n" + json.dumps(record) + "\n")
    found = load_examples(DataRequest("my.jsonl", tmp_path), tmp_path / "work")
    assert [(str(d.origin), d.reason) for d in found.dropped] == [("my.jsonl:2", LOST)]


def test_in_a_sentence_too_when_one_ends_it() -> None:
    assert (
        reason(talk("Compare <image> with <image>.")) == "the text has 2 <image> marks, and the record names no image"
    )
    assert reason(talk("First:\n- <image>\n- the second")) == LOST


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (talk("<image><image>What?", images=["a.png"]), "the text has 2 <image> marks for 1 image"),
        (talk("<image>What?", images=["a.png", "b.png"]), "the text has 1 <image> mark for 2 images"),
        (talk("<image>What?", "<image>", images=["a.png"]), "the text has 2 <image> marks for 1 image"),
        (
            {
                "messages": [
                    {"role": "user", "content": "<image><image>", "images": ["a"]},
                    {"role": "assistant", "content": "A"},
                ]
            },
            "turn 1 has 2 <image> marks for 1 image",
        ),
    ],
)
def test_counts_that_differ_are_said(record: dict[str, Any], expected: str) -> None:
    assert reason(record) == expected


@given(st.integers(0, 4), st.integers(0, 4), st.booleans())
@settings(max_examples=many(60), deadline=None)
def test_any_counts(marks: int, images: int, beside_the_turn: bool) -> None:
    paths = [f"{number}.png" for number in range(images)]
    record = talk("<image>" * marks + "Which?", **({} if beside_the_turn else {"images": paths}))
    if beside_the_turn:
        record["messages"][0]["images"] = paths
    [found] = convert(record, HERE)
    if marks in (0, images):
        assert isinstance(found, Example) and found.images == tuple(paths)
        assert found.messages[0].content.count("<image>") == images
    else:
        assert isinstance(found, Dropped) and "<image> mark" in found.reason


CODE = [
    talk("An <image> tag"),
    talk("Where does <image> stand in a feed?"),
    talk("What does `<image>` do in SVG?"),
    talk("Explain:\n```xml\n<image>\n  <url>a.png</url>\n```"),
    talk("A feed has <image><url>a.png</url></image> in it. Why?"),
    talk("How do I show a picture?", "Use <image> in SVG."),
    {"text": "An <image> in running text"},
]


@pytest.mark.parametrize("record", CODE, ids=lambda record: json.dumps(record)[:60])
def test_code_and_answers_stay_text_and_that_is_said(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my.jsonl").write_text(json.dumps(record) + "\n")
    found = load_examples(DataRequest("my.jsonl", tmp_path), tmp_path / "work")
    assert len(found.train) == 1 and not found.dropped
    assert found.warnings == (
        "my.jsonl: <image> in the text of a record without images is trained on as text "
        "(1 of 1 record, the first at my.jsonl:1)",
    )


def test_images_of_a_turn_are_read() -> None:
    turns = [
        {"role": "user", "content": "What?", "images": ["a.png"]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And this?"}], "image": "b.png"},
        {"role": "assistant", "content": "A dog."},
    ]
    [found] = convert({"messages": turns}, HERE)
    assert isinstance(found, Example)
    assert found.images == ("a.png", "b.png")
    assert [m.content for m in found.messages[::2]] == ["<image>\nWhat?", "<image>And this?"]
