"""Where a record is not an example: nested question sets and trees of messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_installer.core.examples import Dropped, Example, Message, Origin
from llm_installer.data.formats import convert, detect, find_format
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.store.conversion import Conversion, Count, examples

HERE = Origin("squad.json", record=1)
ARTICLE = {
    "title": "T",
    "paragraphs": [
        {
            "context": "Ada wrote it.",
            "qas": [
                {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]},
                {"id": "2", "question": "When?", "answers": [], "is_impossible": True},
            ],
        },
        {"context": "Bo read it.", "qas": [{"id": "3", "question": "Who read?", "answers": [{"text": "Bo"}]}]},
    ],
}


def answer(prompt: str, said: str) -> Example:
    return Example((Message("user", prompt), Message("assistant", said)), HERE)


def test_each_question_of_an_article_is_an_example_or_accounted_for() -> None:
    assert detect(ARTICLE) is find_format("squad") is find_format("quac")
    assert convert(ARTICLE, HERE) == (
        answer("Context: Ada wrote it.\n\nQuestion: Who?", "Ada"),
        Dropped(HERE, "the question has no answer in its text"),
        answer("Context: Bo read it.\n\nQuestion: Who read?", "Bo"),
    )


def test_a_paragraph_alone() -> None:
    paragraphs: Any = ARTICLE["paragraphs"]
    assert detect(paragraphs[1]) is find_format("squad")
    assert convert(paragraphs[1], HERE) == (answer("Context: Bo read it.\n\nQuestion: Who read?", "Bo"),)


def test_an_article_without_questions_is_left_out_by_name() -> None:
    assert convert({"paragraphs": []}, HERE) == (Dropped(HERE, "it has no questions"),)


def row(number: int, parent: object, role: str, text: str, **more: Any) -> tuple[object, Origin]:
    record = {"message_id": f"m{number}", "parent_id": parent, "role": role, "text": text, "lang": "en", **more}
    return record, Origin("oasst.jsonl", number)


TREE = [
    row(2, "m1", "assistant", "Worse", rank=1),
    row(1, None, "prompter", "Hi"),
    row(3, "m1", "assistant", "Better", rank=0),
    row(4, "m3", "prompter", "And?"),
    row(5, "m4", "assistant", "Deleted", rank=0, deleted=True),
    row(6, "m4", "assistant", "Unranked"),
    row(7, "m4", "assistant", "Ranked", rank=2.0),
    row(8, "m7", "prompter", "Bye"),
]


def thread(origin: Origin, *said: str) -> Example:
    roles = ("user", "assistant")
    return Example(tuple(Message(roles[i % 2], text) for i, text in enumerate(said)), origin)  # type: ignore[arg-type]


def trees(rows: list[tuple[object, Origin]]) -> list[tuple[object, Origin]]:
    group = find_format("oasst").group
    assert group
    return list(group(rows))


def test_flat_messages_become_the_best_thread_of_each_tree() -> None:
    other = row(9, float("nan"), "prompter", "Yo"), row(10, "m9", "assistant", "Hey")
    rows = trees([*TREE, *other])
    assert [origin for _, origin in rows] == [Origin("oasst.jsonl", 1), Origin("oasst.jsonl", 9)]
    assert [convert(record, origin) for record, origin in rows] == [
        (thread(Origin("oasst.jsonl", 1), "Hi", "Better", "And?", "Ranked"),),
        (thread(Origin("oasst.jsonl", 9), "Yo", "Hey"),),
    ]


def test_messages_outside_of_any_tree_are_left_out_by_name() -> None:
    lost = row(11, "m99", "assistant", "Lost")
    twice = row(3, "m1", "assistant", "Again")
    loop = row(12, "m12", "assistant", "Loop")
    found = [convert(record, origin) for record, origin in trees([*TREE, lost, twice, loop])]
    reason = "its tree is incomplete in this file, or the message is there twice"
    assert [item for items in found for item in items if isinstance(item, Dropped)] == [
        Dropped(Origin("oasst.jsonl", 3), reason),
        Dropped(Origin("oasst.jsonl", 11), reason),
        Dropped(Origin("oasst.jsonl", 12), reason),
    ]
    assert sum(isinstance(item, Example) for items in found for item in items) == 1


def test_a_tree_as_published() -> None:
    best = {"role": "assistant", "text": "Better", "rank": 0, "replies": []}
    worse = {"role": "assistant", "text": "Worse", "rank": 1, "replies": []}
    tree = {
        "message_tree_id": "1",
        "tree_state": "ready",
        "prompt": {"role": "prompter", "text": "Hi", "replies": [worse, best]},
    }
    assert detect(tree) is find_format("oasst")
    assert trees([(tree, HERE)]) == [(tree, HERE)]
    assert convert(tree, HERE) == (thread(HERE, "Hi", "Better"),)


def test_a_deep_tree_needs_no_deep_stack() -> None:
    chain = [row(1, None, "prompter", "0")]
    chain += [row(i + 1, f"m{i}", ("prompter", "assistant")[i % 2], str(i)) for i in range(1, 5000)]
    ((record, origin),) = trees(chain)
    (example,) = convert(record, origin)
    assert isinstance(example, Example) and len(example.messages) == 5000


def test_rows_of_other_formats_do_not_wait_for_the_trees_of_their_file() -> None:
    def rows() -> Any:
        yield from (Row(value, origin) for value, origin in TREE)
        yield Row({"question": "Q", "answer": "A"}, HERE)
        yield Row("a line", HERE)
        pytest.fail("the conversion reads ahead")

    source = Source(Path("/mixed.jsonl"), "mixed.jsonl")
    found = examples(source, rows(), Conversion(Path("/"), ((source, ""),)), Count("mixed.jsonl"))
    items = [next(found)[1] for _ in range(2)]
    assert [item.messages[-1].content for item in items if isinstance(item, Example)] == ["A", "a line"]
