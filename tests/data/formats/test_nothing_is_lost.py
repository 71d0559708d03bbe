"""Words of a record that could be trained on are trained on, or it is said that they are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats import convert, find_format
from llm_installer.data.formats.remarks import remarks, talk
from llm_installer.data.formats.unread import unread

HERE = Origin("data.jsonl", 3)
PAIR = {"question": "q", "answer": "A"}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def reply(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def made(record: object, **how: Any) -> Example:
    [found] = convert(record, HERE, **how)
    assert isinstance(found, Example), found
    return found


def reason(record: object, **how: Any) -> str:
    [found] = convert(record, HERE, **how)
    assert isinstance(found, Dropped), found
    return found.reason


def texts(example: Example) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example.messages]


@pytest.mark.parametrize("key", ["text", "value", "content"])
def test_a_part_has_its_text_under_any_of_three_keys(key: str) -> None:
    parts = [{"type": "thinking", key: "T"}, {"type": "text", "text": "A"}, {"type": "text", key: "B"}]
    answer = made({"messages": [user("q"), reply(parts)]}).messages[-1]
    assert (answer.content, answer.reasoning_content) == ("AB", "T")


def test_a_summary_of_a_thought_is_a_thought() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "T"}]}
    answer = made({"messages": [user("q"), reply([thought, {"type": "output_text", "text": "A"}])]}).messages[-1]
    assert (answer.content, answer.reasoning_content) == ("A", "T")


@pytest.mark.parametrize("between", ["\n\n", "None", "[]", "null", " "])
def test_what_looks_like_nothing_is_text_in_a_part(between: str) -> None:
    parts = [{"type": "text", "text": text} for text in ("A", between, "B")]
    assert made({"messages": [user("q"), reply(parts)]}).messages[-1].content == f"A{between}B"


def test_a_part_that_says_nothing_loses_no_row() -> None:
    empty = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "gAAA", "status": "completed"}
    parts = [
        empty,
        {"type": "output_text", "text": "A", "status": "completed"},
        {"type": "text", "status": "completed"},
    ]
    assert made({"messages": [user("q"), reply(parts)]}).messages[-1].content == "A"


def test_pictures_within_a_part_keep_their_paths() -> None:
    inner = [{"type": "text", "text": "see "}, {"type": "image", "image": "a.png"}]
    found = made({"messages": [user([{"type": "text", "content": inner}]), reply("A")]})
    assert found.images == ("a.png",) and found.messages[0].content == "see <image>"


@pytest.mark.parametrize("prompt", ["[3, 1, 2]", '["a", "b"]', "[]"])
def test_a_question_that_is_a_list_in_json_stays_a_question(prompt: str) -> None:
    assert texts(made({"prompt": prompt, "chosen": "A", "rejected": "B"})) == [("user", prompt), ("assistant", "A")]


def test_a_chosen_conversation_with_a_system_turn_of_its_own_gets_no_second() -> None:
    asked = [{"role": "system", "content": "S "}, user("q")]
    chosen = [{"role": "system", "content": "S"}, user("q"), reply("A")]
    found = made({"prompt": asked, "chosen": chosen, "rejected": chosen})
    assert texts(found) == [("system", "S"), ("user", "q"), ("assistant", "A")]


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "Is it good?", "output": "negative", "label": "negative"},
        {"title": "T", "paragraphs": [{"context": "C A", "qas": [{"question": "q", "answers": [{"text": "A"}]}]}]},
    ],
)
def test_what_is_no_verdict_and_no_text_is_not_warned_of(record: dict[str, Any]) -> None:
    assert list(unread(record, made(record))) == []


@pytest.mark.parametrize(
    ("label", "kept"), [("good", True), ("chosen", True), (1, True), ("bad", False), (False, False)]
)
def test_verdicts_in_words(label: object, kept: bool) -> None:
    [found] = convert({"prompt": "q", "completion": "A", "label": label}, HERE, forced=find_format("kto"))
    assert isinstance(found, Example) is kept


def test_a_part_with_its_text_under_an_unknown_key_is_not_half_a_row() -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "id": "1", "body": "B"}]
    assert (
        reason({"messages": [user("q"), reply(parts)]}) == "a part of turn 2 has its text at 'body' and not at 'text'"
    )
    assert (
        texts(made({"messages": [user("q"), reply([{"type": "text"}, {"type": "text", "text": "A"}])]}))[-1][1] == "A"
    )


def test_arguments_that_are_null_give_way_to_those_under_another_key() -> None:
    call = {"name": "tide", "arguments": None, "parameters": {"place": "Skerry"}}
    [found] = json.loads(made({"messages": [user("q"), reply("", tool_calls=[call])]}).messages[-1].tool_calls)
    assert found["function"]["arguments"] == {"place": "Skerry"}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "chosen": "A", "rejected": "B"},
        {"prompt": "q", "functions": [{"name": "sky"}], "function_call": {"name": "sky", "arguments": {}}},
    ],
)
def test_a_thought_beside_a_chosen_answer_or_a_call(record: dict[str, Any]) -> None:
    record = {**record, "reasoning": "T"}
    example = made(record)
    assert example.messages[-1].reasoning_content == "T"
    assert list(unread(record, example)) == []


@pytest.mark.parametrize("key", ["prompt", "messages", "conversations"])
def test_the_turns_before_a_chosen_answer_may_be_json_text(key: str) -> None:
    record = {key: json.dumps([user("q")]), "chosen": "A", "rejected": "B"}
    assert texts(made(record)) == [("user", "q"), ("assistant", "A")]


@pytest.mark.parametrize("key", ["user", "human", "request", "problem", "Query"])
def test_a_question_before_a_chosen_answer_under_other_names(key: str) -> None:
    assert texts(made({key: "q", "chosen": "A", "rejected": "B"})) == [("user", "q"), ("assistant", "A")]


def test_a_chosen_answer_after_a_history_alone() -> None:
    found = made({"history": [["p", "q"]], "chosen": "A", "rejected": "B"})
    assert "".join(content for _, content in texts(found)) == "pq\n\nA"


def test_what_goes_before_a_chosen_conversation_stays_once() -> None:
    system = {"role": "system", "content": "S"}
    rows: list[tuple[list[Any], list[Any]]] = [
        ([system, user("q")], [user("q"), reply("A")]),
        ([system, user("q")], [system, user("q"), reply("A")]),
        ([system], [user("q"), reply("A")]),
    ]
    for prompt, chosen in rows:
        found = made({"prompt": prompt, "chosen": chosen, "rejected": [reply("B")]})
        assert texts(found) == [("system", "S"), ("user", "q"), ("assistant", "A")]
    long = made({"prompt": [user("p"), reply("o"), user("q")], "chosen": [user("q"), reply("A")], "rejected": []})
    assert [content for _, content in texts(long)] == ["p", "o", "q", "A"]


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"prompt": ["q1", "q2"], "completion": ["a1", "a2"]}, "prompt"),
        ({"prompt": "q", "chosen": ["a1", "a2"], "rejected": ["b1", "b2"]}, "chosen"),
    ],
)
def test_columns_of_texts_are_no_conversation(record: dict[str, Any], key: str) -> None:
    assert reason(record) == f"{key} holds plain strings, which do not say who speaks"


def test_a_verdict_that_is_neither_good_nor_bad_is_not_good() -> None:
    kto = find_format("kto")
    assert all(made({"prompt": "q", "completion": "A", "label": label}, forced=kto) for label in (1, "1", True, "yes"))
    assert reason({"prompt": "q", "completion": "A", "label": 0}, forced=kto) == "label is false"
    assert reason({"prompt": "q", "completion": "A", "label": "meh"}, forced=kto) == "label is neither true nor false"


@pytest.mark.parametrize("verdict", [{"label": 0}, {"Label": "0"}, {"desirable": False}, {"label": "bad"}])
def test_a_verdict_that_is_not_read_is_named(verdict: dict[str, Any]) -> None:
    record = {**PAIR, **verdict}
    [said] = unread(record, made(record))
    assert said.startswith(f"'{next(iter(verdict))}' of a record is ") and "its answer is trained on" in said
    assert list(unread({**PAIR, "label": 1}, made({**PAIR, "label": 1}))) == []


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "response": "A", "context": "C"},
        {"user": "q", "assistant": "A", "Context": "C"},
        {**PAIR, "passage": "C"},
        {**PAIR, "documents": ["q", "C"]},
        {"instruction": "q", "inputs": "C", "output": "A"},
        {"instruction": "q", "context": "D", "input": "Read me", "output": "A"},
    ],
)
def test_a_text_that_a_question_is_about_is_named_where_it_is_not_read(record: dict[str, Any]) -> None:
    [said] = unread(record, made(record))
    assert "is not read, so that its question stands there without it" in said


@pytest.mark.parametrize(
    "record",
    [{**PAIR, "context": "C"}, {**PAIR, "input": "q"}, {"instruction": "q", "input": " C\n", "output": "A"},
     {**PAIR, "context": None}, {**PAIR, "document": ""}],
)  # fmt: skip
def test_a_text_that_is_read_is_not_named(record: dict[str, Any]) -> None:
    assert list(unread(record, made(record))) == []


def test_a_thought_beside_plain_text_is_named() -> None:
    record = {"text": "A", "reasoning": "T"}
    [said] = unread(record, made(record))
    assert said.startswith("'reasoning' beside 'text' is not read")


@pytest.mark.parametrize("key", ["system", "context", "tool_calls", "images"])
def test_what_a_turn_of_both_sides_loses_is_named(key: str) -> None:
    record = {"turns": [{"user": "q", "assistant": "A", key: "x"}]}
    assert list(remarks(record, talk(record))) == [f"the key '{key}' at turns is not known and not read"]
    assert list(remarks(record, talk({"turns": [{"user": "q", "assistant": "A", "id": 1}]}))) == []


def test_results_of_tools_that_are_objects_are_json_text_where_asked() -> None:
    result = {"role": "tool", "content": {"temp": 5}}
    record = {"messages": [user("q"), reply("", tool_calls=[{"name": "f", "arguments": {}}]), result, reply("five")]}
    assert reason(record) == "the content of turn 3 is an object where text is expected"
    assert texts(made(record, answers_as="json"))[2] == ("tool", '{"temp": 5}')
