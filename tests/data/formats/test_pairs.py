"""Two texts in a record: which are questions and answers, which go on without a template, and what is said about it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.errors import UsageError
from llm_installer.core.examples import Dropped, Example, Message, Origin
from llm_installer.core.model_info import read_model_info
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.formats import convert, detect, find_format
from llm_installer.data.formats.columns import columns_by_file
from llm_installer.data.formats.special import RATED
from llm_installer.data.store.load import DataRequest, Loaded, load_examples
from tests.generated import many

HERE = Origin("f", 1)
QUESTION, ANSWER = "What is the island called?", "The island is called Skerry."
ASKS = ("prompt", "input", "query", "question", "instruction", "request", "inputs", "input_text", "user", "human")
SAYS = {
    "question": ("answer", "answers", "response", "output", "reply", "target"),
    "instruction": ("output", "response", "completion", "answer"),
    "user": ("assistant",),
    "human": ("assistant",),
}
USUAL = ("response", "answer", "output", "reply", "target", "targets", "completion")
PAIRS = [(asks, says) for asks in ASKS for says in SAYS.get(asks, USUAL) if (asks, says) != ("prompt", "completion")]


def only(record: object, **more: Any) -> Example:
    [found] = convert(record, HERE, **more)
    assert isinstance(found, Example), found
    return found


def load(folder: Path, data: str, **more: Any) -> Loaded:
    return load_examples(DataRequest(data, folder, **more), folder / "work")


@given(st.sampled_from(PAIRS), st.sampled_from([str.lower, str.upper, str.title, str.swapcase]), st.booleans())
@settings(max_examples=many(200), deadline=None)
def test_pairs_under_any_usual_name_in_any_case_are_chats(names: tuple[str, str], case: Any, more: bool) -> None:
    record = {case(names[0]): QUESTION, case(names[1]): ANSWER, **({"id": "7", "Source": "x"} if more else {})}
    assert only(record) == Example((Message("user", QUESTION), Message("assistant", ANSWER)), HERE)


def test_only_the_guides_completion_goes_on_without_a_template() -> None:
    for record in ({"prompt": "It is", "completion": " so."}, {"Prompt": "It is", "Completion": " so."}):
        assert only(record) == Example((Message("user", "It is"), Message("assistant", " so.")), HERE, "completion")
    row = detect({"prompt": "def f():\n", "canonical_solution": "    pass\n"})
    assert row and row.name == "completion"


@pytest.mark.parametrize("names", ["prompt response", "input output", "Query Reply", "prompt completion"])
def test_each_reading_can_be_asked_for(names: str) -> None:
    record = dict(zip(names.split(), (QUESTION, ANSWER), strict=True))
    turns = (Message("user", QUESTION), Message("assistant", ANSWER))
    assert only(record, forced=find_format("completion")) == Example(turns, HERE, "completion")
    assert only(record, forced=find_format("pair")) == Example(turns, HERE, "chat")


def test_the_guides_table_goes_through_the_template(tmp_path: Path, tiny_llama: Path) -> None:
    (tmp_path / "my.csv").write_text(f'input,output\n"{QUESTION}","{ANSWER}"\n')
    found = load(tmp_path, "my.csv")
    encoder = load_encoder(read_model_info(tiny_llama, "tiny"), False)
    [row] = encoder.encode(found.train[0])
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    shown = encoder.tokenizer.decode(row.ids)
    assert shown == str(encoder.tokenizer.apply_chat_template(messages, tokenize=False)).rstrip()
    assert QUESTION + ANSWER not in shown
    assert found.notices == (
        "In records of format pair, questions and answers go through the chat template; if each text goes on where its "
        "prompt ends, add --dataset-format completion",
    )
    assert find_format("completion").notice and not found.warnings


def test_questions_and_answers_under_the_names_of_completions_are_warned_of(tmp_path: Path) -> None:
    rows = [(QUESTION, ANSWER), ("The weather is", " fine."), ("2 + 2 =", " 4"), ("A list:\n", "one"), ("(", "a)")]
    rows += [
        ("\u6cd5\u56fd\u7684\u9996\u90fd", "\u662f\u5df4\u9ece"),
        ("Wer?", "Ich"),
        ("x = ", "1"),
        ("", "All of it"),
    ]
    file = tmp_path / "my.jsonl"
    file.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
    assert load(tmp_path, "my.jsonl").warnings == (
        "my.jsonl: the completion follows its prompt without a space between; if they are a question and its answer, "
        "add --dataset-format pair (2 of 9 records, the first at my.jsonl:1)",
    )
    assert load(tmp_path, "my.jsonl", dataset_format="completion").warnings == ()
    assert load(tmp_path, "my.jsonl", dataset_format="pair").warnings == ()


def test_columns_match_whatever_their_case() -> None:
    columns = {"prompt": "question", "answer": "BEST ANSWER"}
    assert only({"Question": "q", "Best Answer": "a", "best": 1}, columns=columns).messages[1].content == "a"
    exact = {"prompt": "Q", "answer": "a"}
    assert [m.content for m in only({"Q": "1", "q": "2", "a": "3", "A": "4"}, columns=exact).messages] == ["1", "3"]
    with pytest.raises(Exception, match="--columns names 'Qu', but the record has the keys"):
        convert({"QU": "1", "qu": "2", "a": "3"}, HERE, None, {"prompt": "Qu", "answer": "a"})


def test_columns_for_each_file(tmp_path: Path) -> None:
    for name, keys in (
        ("a.csv", ("Ask", "Say")),
        ("b.csv", ("Frage", "Antwort, kurz")),
        ("c.csv", ("prompt", "answer")),
    ):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([keys, [f"question in {name}", f"answer in {name}"]])
    typed = 'a.csv:prompt=Ask,answer=say,b.csv:prompt=Frage,answer="Antwort, kurz"'
    found = load(tmp_path, "a.csv,b.csv,c.csv", columns=typed)
    assert [(e.messages[0].content, e.messages[1].content) for e in found.train] == [
        (f"question in {name}", f"answer in {name}") for name in ("a.csv", "b.csv", "c.csv")
    ]
    mixed = load(tmp_path, "a.csv,b.csv", columns='prompt=Ask,answer=Say,b.csv:prompt=Frage,answer="Antwort, kurz"')
    assert len(mixed.train) == 2 and not mixed.dropped
    with pytest.raises(UsageError, match=r"--columns: 'd\.csv' matches none of the files; name one of: a\.csv, b\.csv"):
        load(tmp_path, "a.csv,b.csv", columns="d.csv:prompt=Ask,answer=Say")
    with pytest.raises(UsageError, match="names nothing to train on"):
        load(tmp_path, "a.csv,b.csv", columns="a.csv:prompt=Ask,b.csv:prompt=Frage,answer=x")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("prompt=Q,answer=A", {"": {"prompt": "Q", "answer": "A"}}),
        ("prompt=a:b,answer=A", {"": {"prompt": "a:b", "answer": "A"}}),
        ("x.csv: prompt=Q , answer=A", {"x.csv": {"prompt": "Q", "answer": "A"}}),
        ("y/x.zip!z.csv:text=T", {"y/x.zip!z.csv": {"text": "T"}}),
        ('text="a,b",x.csv:text="c""d"', {"": {"text": "a,b"}, "x.csv": {"text": 'c"d'}}),
        ("x.csv:prompt=Q,x.csv:answer=A", {"x.csv": {"prompt": "Q", "answer": "A"}}),
    ],
)
def test_columns_are_told_apart(typed: str, expected: dict[str, dict[str, str]]) -> None:
    assert columns_by_file(typed, ["x.csv", "y/x.zip!z.csv"], Path("/base")) == expected


@pytest.mark.parametrize("names", RATED)
def test_pairs_that_are_labelled_false_are_not_trained_on(names: str) -> None:
    record = dict(zip(names.split(), ("q", "a"), strict=True))
    assert [m.content for m in only({**record, "label": True}).messages] == ["q", "a"]
    [found] = convert({**record, "Label": "False"}, HERE)
    assert isinstance(found, Dropped) and found.reason == "label is false"


OBJECT = {"name": "Person 0", "age": 20, "pet": None}


def test_answers_that_are_objects(shared: Path, tmp_path: Path) -> None:
    request = DataRequest("object_all/all.jsonl", shared / "cases")
    with pytest.raises(Exception, match="add --answers-as json to train on them as JSON text"):
        load_examples(request, tmp_path)
    found = load_examples(DataRequest(request.data, request.base, answers_as="json"), tmp_path)
    assert len(found.train) == 20 and not found.dropped
    assert [m.content for m in found.train[0].messages] == ["Extract: Person 0 is 20.", json.dumps(OBJECT)]


@pytest.mark.parametrize(
    "record",
    [
        {"question": "q", "answer": OBJECT},
        {"prompt": "q", "completion": OBJECT},
        {"Input": "q", "Output": OBJECT},
        {"user": "q", "assistant": OBJECT},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": OBJECT}]},
        {"conversations": [{"From": "human", "Value": "q"}, {"From": "gpt", "Value": OBJECT}]},
        {"turns": [{"user": "q", "assistant": OBJECT}]},
        {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": OBJECT}]},
    ],
    ids=lambda record: " ".join(record),
)
def test_objects_as_json_wherever_an_answer_is(record: dict[str, Any]) -> None:
    found = only(record, answers_as="json")
    assert [m.content for m in found.messages] == ["q", json.dumps(OBJECT)]


def test_what_is_no_answer_stays_as_it_is_with_json() -> None:
    [found] = convert({"instruction": OBJECT, "output": "A"}, HERE, answers_as="json")
    assert "instruction is an object" in str(found)
    parts = [{"type": "text", "text": "A"}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts}]
    assert [m.content for m in only({"messages": talk}, answers_as="json").messages] == ["A", "A"]
    assert only({"question": "q", "answer": ["A", "B"]}, answers_as="json").messages[1].content == "A"
    assert only({"question": "q", "answers": {"text": ["A"]}}, answers_as="json").messages[1].content == "A"
    assert only({"instruction": "q", "output": ["A", "B"]}, answers_as="json").messages[1].content == '["A", "B"]'


def test_objects_among_texts_are_warned_of(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "output": answer} for answer in ("A", OBJECT, ["B"])]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load(tmp_path, "my.jsonl").warnings == (
        "2 answers are objects or lists, and skipped; to train on them as JSON text, add --answers-as json",
    )
    with pytest.raises(Exception, match=r"my\.jsonl:2: output is an object .*; add --answers-as json to train on it"):
        load(tmp_path, "my.jsonl", strict=True)
