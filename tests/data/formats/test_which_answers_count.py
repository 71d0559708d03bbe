"""Which answers of a conversation count: every key by which datasets say so, in every spelling; the rest is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.formats import convert
from llm_installer.data.formats.learning import LEARNED, MASKED
from llm_installer.data.store.load import DataRequest, Loaded, load_examples
from tests.generated import many

HERE = Origin("f", 1)
YES = [1, True, 1.0, "1", "1.0", "true", "True", " YES ", "on"]
NO = [0, False, 0.0, "0", "0.0", "-0", "false", "FALSE", "no", "off"]
UNSAID: list[object] = [None, "", " ", "null", float("nan"), [], {}]
DOUBTFUL: list[object] = [0.5, 2, -1, "0.3", "maybe", [0, 1, 1], {"begin": 3}]


def talk(**keys: object) -> dict[str, Any]:
    answer = {"role": "assistant", "content": "A1", **keys}
    rest = [{"role": "user", "content": "q2"}, {"role": "assistant", "content": "A2"}]
    return {"messages": [{"role": "user", "content": "q1"}, answer, *rest]}


def learned(record: object) -> list[str]:
    [found] = convert(record, HERE)
    assert isinstance(found, Example), found
    return [m.content for m in found.messages if m.role == "assistant" and m.supervised]


def load(folder: Path, *records: object, strict: bool = False) -> Loaded:
    file = folder / "my.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return load_examples(DataRequest("my.jsonl", folder, strict=strict), folder / "work")


SPELLINGS = ("weight", "loss_weight", "loss", "lossMask", "train", "Training", "is_trainable", "LEARN", "loss-scale")
MASKS = ("mask", "masked", "is_masked", "ignoreLoss", "Masked", "no_loss")


@pytest.mark.parametrize("key", [*SPELLINGS, *MASKS])
def test_each_key_says_it_in_each_spelling(key: str) -> None:
    no, yes = (YES, NO) if key in MASKS else (NO, YES)
    for value in no:
        assert learned(talk(**{key: value})) == ["A2"], value
    for value in [*yes, *UNSAID]:
        assert learned(talk(**{key: value})) == ["A1", "A2"], value
    for value in DOUBTFUL:
        assert learned(talk(**{key: value})) == ["A2"], value


@given(
    st.sampled_from(sorted(LEARNED | MASKED)),
    st.sampled_from([*YES, *NO]),
    st.randoms(use_true_random=False),
    st.booleans(),
)
@settings(max_examples=many(300), deadline=None)
def test_any_spelling_of_any_key(name: str, value: object, dice: Any, sharegpt: bool) -> None:
    """Case, underscores and hyphens anywhere in the name; also where one turn holds both sides, and at a call."""
    key = "".join(dice.choice([c, c.upper(), f"_{c}", f"-{c}"]) for c in name).lstrip("_-")
    counts = (value in YES) == (name in LEARNED)
    assert learned(talk(**{key: value})) == ["A1"] * counts + ["A2"]
    pairs = {"turns": [{"user": "q1", "assistant": "A1", key: value}, {"user": "q2", "assistant": "A2"}]}
    assert learned(pairs) == ["A1"] * counts + ["A2"]
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {}}', key: value}
    chat = [{"from": "human", "value": "q"}, call, {"from": "observation", "value": "r"}, {"from": "gpt", "value": "A"}]
    [found] = convert({"conversations": chat}, HERE)
    assert isinstance(found, Example)
    assert [m.supervised for m in found.messages] == [True, counts, True, True]


def test_keys_that_contradict_each_other_leave_the_answer_out() -> None:
    assert learned(talk(weight=1, masked=True)) == learned(talk(masked=False, train=False)) == ["A2"]
    assert learned(talk(weight=1, masked=False, train=True)) == ["A1", "A2"]


def test_parts_of_an_answer_cannot_be_chosen_and_that_is_said(tmp_path: Path) -> None:
    record = talk(train_detail=[{"begin_offset": 0, "end_offset": 1, "train": False}])
    assert learned(record) == ["A2"]
    assert "'train_detail' is a list at an answer" in load(tmp_path, record).warnings[0]


def test_a_weight_between_0_and_1_is_named_and_refused_by_strict(tmp_path: Path) -> None:
    found = load(tmp_path, talk(), talk(weight=0.5), talk(weight=0.5))
    assert found.warnings == (
        "my.jsonl: 'weight' is 0.5 at an answer, which is not trained on: an answer counts (1) or it does not (0) "
        "(2 of 3 records, the first at my.jsonl:2)",
    )
    with pytest.raises(DataError, match=r"^my\.jsonl:2: 'weight' is 0\.5 .*; correct it, or run without --strict$"):
        load(tmp_path, talk(), talk(weight=0.5), strict=True)


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    records = [talk(), talk(verdict="bad", Weight=1, name="Ann", id=7), talk(verdict=None), talk(verdict="good", x=1)]
    found = load(tmp_path, *records)
    assert found.warnings == (
        "my.jsonl: the key 'verdict' at turns is not known and not read (2 of 4 records, the first at my.jsonl:2)",
        "my.jsonl: the key 'x' at turns is not known and not read (1 of 4 records, the first at my.jsonl:4)",
    )
    as_text = {"messages": json.dumps(talk(verdict="bad")["messages"])}
    assert "'verdict'" in load(tmp_path, as_text).warnings[0]


def test_a_record_that_says_it_does_not_count_is_named(tmp_path: Path) -> None:
    found = load(tmp_path, {**talk(), "train": False}, {**talk(), "weight": 0.7, "mask": "User", "loss": 1.5})
    assert found.warnings == (
        "my.jsonl: 'train' of a record says that it does not count, and is read only at the turns of a conversation "
        "(1 of 2 records, the first at my.jsonl:1)",
    )


@pytest.mark.parametrize("key", ["weights", "loss_mask", "train", "isTrainable", "mask"])
def test_a_list_for_all_turns_of_a_record_is_named(key: str, tmp_path: Path) -> None:
    found = load(tmp_path, {**talk(), key: [0, 1]}, {**talk(), key: []})
    assert found.warnings == (
        f"my.jsonl: '{key}' of a record is a list and not read: say at each answer whether it counts (1) or does not "
        "(0) (1 of 2 records, the first at my.jsonl:1)",
    )


def test_a_part_that_does_not_count_leaves_its_answer_out_and_that_is_said(tmp_path: Path) -> None:
    record = talk(content=[{"type": "text", "text": "A0", "weight": 0}, {"type": "text", "text": "A1"}])
    assert learned(record) == ["A2"]
    assert "a part of an answer says that it does not count" in load(tmp_path, record).warnings[0]
    assert learned(talk(content=[{"type": "text", "text": "A1", "weight": 1}])) == ["A1", "A2"]


@pytest.mark.parametrize(
    "spelling", [{}, {"role": "ROLE", "content": "Content"}, {"tool_calls": "toolCalls"}, {"tool_calls": "Tool-Calls"},
                 {"reasoning_content": "reasoningContent"}, {"reasoning_content": "Reasoning Content"}],
)  # fmt: skip
def test_what_a_turn_has_is_read_in_every_spelling_of_its_keys(spelling: dict[str, str]) -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    turn = {"role": "assistant", "content": "A", "reasoning_content": "T", "tool_calls": [call]}
    turns = [{"role": "user", "content": "q"}, turn]
    [found] = convert({"messages": [{spelling.get(key, key): said for key, said in t.items()} for t in turns]}, HERE)
    assert isinstance(found, Example)
    last = found.messages[-1]
    assert (last.content, last.reasoning_content) == ("A", "T") and json.loads(last.tool_calls)[0]["function"]["name"]


@pytest.mark.parametrize("sides", [("HUMAN", "ASSISTANT"), ("Human", "Assistant"), ("User", "assistant")])
def test_turns_of_both_sides_in_every_spelling(sides: tuple[str, str]) -> None:
    assert learned({"turns": [dict(zip(sides, ("q", "A"), strict=True))]}) == ["A"]


def test_keys_of_turns_are_read_whatever_their_case() -> None:
    [found] = convert({"messages": [{"Role": "user", "Content": "Hi"}, {"Role": "Assistant", "Content": "Yo"}]}, HERE)
    assert isinstance(found, Example)
    assert [(m.role, m.content) for m in found.messages] == [("user", "Hi"), ("assistant", "Yo")]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "thought", "Thinking"])
def test_thoughts_in_every_spelling(key: str) -> None:
    [found] = convert({"messages": [{"role": "user", "content": "q"}, talk(**{key: "T"})["messages"][1]]}, HERE)
    assert isinstance(found, Example)
    assert found.messages[-1].reasoning_content == "T"


@pytest.mark.parametrize("key", ["reasoning", "Thinking", "reasoningContent", "Complex_CoT", "chain of thought"])
@pytest.mark.parametrize("names", [("question", "answer"), ("Prompt", "Response"), ("instruction", "output")])
def test_a_thought_beside_a_question_and_its_answer(key: str, names: tuple[str, str]) -> None:
    record = {names[0]: "q", names[1]: "A", key: ["T", "U"]}
    [found] = convert(record, HERE)
    assert isinstance(found, Example)
    assert found.messages == (Message("user", "q"), Message("assistant", "A", reasoning_content="T\n\nU"))


@pytest.mark.parametrize("value", ["on", "Off", True, False, "medium", "", None, [], " null "])
def test_how_much_was_thought_is_no_thought(value: object) -> None:
    for record in ({"question": "q", "answer": "A", "reasoning": value}, talk(reasoning=value, thinking=value)):
        [found] = convert(record, HERE)
        assert isinstance(found, Example) and not any(m.reasoning_content for m in found.messages)


def test_a_thought_is_not_learned_twice() -> None:
    [found] = convert({"question": "q", "answer": "<think>T</think>A", "reasoning": "T"}, HERE)
    assert isinstance(found, Example) and found.messages[-1] == Message("assistant", "<think>T</think>A")


PAIR = {"question": "q", "answer": "A"}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({**talk(), "thinking": "T"}, "'thinking' of a record is not read: put a thought at"),
        ({**PAIR, "thinking_trajectories": ["T"]}, "'thinking_trajectories' of a record is not read: put a thought"),
        ({**PAIR, "deepseekReasoning": "T"}, "'deepseekReasoning' of a record is not read: put a thought"),
        ({**PAIR, "choices": ["A", "B"]}, "'choices' of a record is not read, so that its question stands there"),
        ({**PAIR, "Options": {"A": "x"}}, "'Options' of a record is not read, so that its question stands there"),
        ({**talk(), "trainable_turns": [1]}, "'trainable_turns' of a record is not read: say at each answer"),
        ({**talk(), "train_on": "last"}, "'train_on' of a record is not read: say at each answer"),
        ({"instruction": "q", "text": "A"}, "'instruction' beside 'text' is not read; if they are a question and"),
        ({"text": "q", "output": "A"}, "'output' beside 'text' is not read; if they are a question and its answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_looks_as_if_it_should_be_read_is_named(record: dict[str, Any], says: str, tmp_path: Path) -> None:
    (warning,) = load(tmp_path, record).warnings
    assert warning.startswith(f"my.jsonl: {says}")


@pytest.mark.parametrize(
    "more",
    [{"reasoning": "on"}, {"reasoning_tokens": 7}, {"training_hours": 3}, {"choices": None}, {"options": []},
     {"reasoning_effort": "high"}, {"source": "x"}, {"train": True}],
)  # fmt: skip
def test_what_is_only_about_a_record_is_not_named(more: dict[str, Any], tmp_path: Path) -> None:
    assert load(tmp_path, {**talk(), **more}, {**PAIR, **more}, {"text": "a", "label": 1, **more}).warnings == ()


@pytest.mark.parametrize("key", ["arguments", "parameters", "args", "kwargs", "input", "params"])
def test_the_arguments_of_a_call_under_any_usual_name(key: str) -> None:
    call = {"name": "tide", key: {"place": "Skerry"}}
    [found] = convert({"messages": [{"role": "user", "content": "q"}, talk(tool_calls=[call])["messages"][1]]}, HERE)
    assert isinstance(found, Example)
    [made] = json.loads(found.messages[-1].tool_calls)
    assert made["function"] == {"name": "tide", "arguments": {"place": "Skerry"}}


@pytest.mark.parametrize("key", ["system", "systemPrompt", "System Message", "systemInstruction"])
def test_instructions_in_every_spelling(key: str) -> None:
    for record in ({"prompt": "q", "response": "A", key: "S"}, {**talk(), key: "S"}):
        [found] = convert(record, HERE)
        assert isinstance(found, Example) and found.messages[0] == Message("system", "S")


def test_thoughts_as_parts() -> None:
    parts = [{"type": "thinking", "thinking": "T"}, {"type": "text", "text": "A"}]
    [found] = convert({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": parts}]}, HERE)
    assert isinstance(found, Example)
    assert (found.messages[-1].content, found.messages[-1].reasoning_content) == ("A", "T")


def test_half_a_character_anywhere_at_a_turn_is_said_and_no_crash(tmp_path: Path) -> None:
    half = '[{"role": "user", "content": "\\ud83d"}]'
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "note": half, "weight": half}]
    deep: object = "x"
    for _ in range(900):
        deep = [deep]
    rows = [{"messages": turns}, {"prompt": half, "response": "b", "extra": deep}, {"prompt": "p", "response": half}]
    rows.append({"messages": [turns[0], {"role": "assistant", "content": "a", "note": deep}]})
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load_examples(DataRequest(str(file), base=tmp_path))
    assert len(loaded.train) + loaded.dropped_count == len(rows)


def test_the_cases(shared: Path, tmp_path: Path) -> None:
    found = load_examples(DataRequest("weights/keys.jsonl", shared / "cases"), tmp_path)
    said = [m.content for e in found.train for m in e.messages if m.role == "assistant" and m.supervised]
    assert not [text for text in said if text.startswith(("BAD", "half"))]
    assert [text for text in said if text.startswith("GOOD")] == [f"GOOD {letter}" for letter in "abcdefghij"]
    assert "null ok" in said
    blank = load_examples(DataRequest("tools_blank/t.jsonl", shared / "cases"), tmp_path)
    assert [e.messages[-1].content for e in blank.train] == [f"A{i}" for i in range(1, 13)]
    assert not any(e.tools or m.tool_calls for e in blank.train for m in e.messages)


NOTHING: list[object] = [None, "", " ", "null", "None", [], {}, "[]", "{}", [None], [""], [{}], '[" "]', [[]]]


@pytest.mark.parametrize("value", NOTHING, ids=repr)
@pytest.mark.parametrize("key", ["tools", "functions", "images", "image", "videos", "audio", "history"])
def test_nothing_in_every_spelling(key: str, value: object) -> None:
    record = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "A"}], key: value}
    [found] = convert(record, HERE)
    assert isinstance(found, Example), found
    assert not found.tools and not found.images and len(found.messages) == 2


@pytest.mark.parametrize("value", NOTHING, ids=repr)
@pytest.mark.parametrize("key", ["tool_calls", "function_call", "images"])
def test_nothing_at_a_turn_in_every_spelling(key: str, value: object) -> None:
    record = {
        "messages": [{"role": "user", "content": "q", key: value}, {"role": "assistant", "content": "A", key: value}]
    }
    [found] = convert(record, HERE)
    assert isinstance(found, Example), found
    assert not found.images and not found.messages[-1].tool_calls
