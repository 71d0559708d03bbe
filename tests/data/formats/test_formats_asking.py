"""What the user says about the format: --dataset-format, --columns, and the sentences when it cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.examples import Dropped, Example, Message, Origin
from llm_installer.data.formats import FORMATS, convert, detect, find_format, parse_columns, unknown_shape

HERE = Origin("my.csv", 7)


@pytest.mark.parametrize(
    ("record", "found", "nearest", "columns"),
    [
        (
            {"Question": "Q", "Best Answer": "A"},
            "the record has the keys 'Question', 'Best Answer'",
            "qa (question and answer); vision_qa (image and question and answer); "
            "orca (system_prompt and question and response)",
            "prompt=Question,answer=KEY",
        ),
        (
            {"Instruction ": "Q", "Input ": "", "Output ": "A"},
            "the record has the keys 'Instruction ', 'Input ', 'Output '",
            "alpaca (instruction and output); pair (input and output); dolly (instruction and context and output)",
            'prompt="Instruction ",answer="Output ",context="Input "',
        ),
        (
            {" Messages": []},
            "the record has the keys ' Messages'",
            "openai (messages); kto (messages and label as true or false)",
            'messages=" Messages"',
        ),
        (
            {"TEXT ": "x"},
            "the record has the keys 'TEXT '",
            "text (text); pair (text and summary); vision (image and text)",
            'text="TEXT "',
        ),
        (
            {"foo": 1, "bar": 2},
            "the record has the keys 'foo', 'bar'",
            "openai (messages); alpaca (instruction and output); qa (question and answer)",
            "prompt=KEY,answer=KEY",
        ),
        (
            {"Prompt ": 1, "Completion": 2},
            "the record has the keys 'Prompt ', 'Completion'",
            "completion (prompt and completion); conversational (prompt as a list and completion as a list); "
            "kto (prompt and completion and label as true or false)",
            'prompt="Prompt ",answer=Completion',
        ),
        (
            {"turns": "Hi"},
            "the record has the keys 'turns'",
            "multi_turn (turns as a list)",
            "messages=turns",
        ),
        (
            {},
            "the record has no keys",
            "openai (messages); alpaca (instruction and output); qa (question and answer)",
            "prompt=KEY,answer=KEY",
        ),
    ],
)
def test_an_unknown_shape_is_answered_with_what_to_type(
    record: dict[str, Any], found: str, nearest: str, columns: str
) -> None:
    assert detect(record) is None
    with pytest.raises(DataError) as error:
        convert(record, HERE)
    assert str(error.value) == str(unknown_shape(record, HERE))
    assert str(error.value) == (
        f"my.csv:7: no known format fits: {found}; the nearest are {nearest}; say which key is which with --columns "
        f"'{columns}', and add --dataset-format NAME to read it as one of these"
    )


def test_a_record_of_many_keys_is_named_by_a_few() -> None:
    sentence = str(unknown_shape({f"column {i}": i for i in range(100)}, HERE))
    assert "'column 11' and 88 more; the nearest are openai" in sentence and len(sentence) < 600


@pytest.mark.parametrize(("record", "kind"), [([1], "a list"), (None, "null"), (7, "a number"), (b"", "binary data")])
def test_what_is_no_record_is_refused(record: object, kind: str) -> None:
    assert detect(record) is None
    with pytest.raises(DataError) as error:
        convert(record, HERE)
    assert str(error.value) == (
        f"my.csv:7: the record is {kind} where text or an object with named keys is expected; "
        'write it as {"prompt": "...", "completion": "..."} or in another format'
    )


@pytest.mark.parametrize("key", ["prompt", "a b", "a,b", "it's", 'say "x"', "a=b", "é"])
def test_what_the_refusal_suggests_can_be_typed(key: str) -> None:
    columns = parse_columns('prompt="' + key.replace('"', '""') + '",answer=A')
    assert columns == {"prompt": key, "answer": "A"}
    assert convert({key: "Q", "A": "R"}, HERE, None, columns) == (
        Example((Message("user", "Q"), Message("assistant", "R")), HERE),
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("alpaca", "alpaca"),
        ("Alpaca", "alpaca"),
        ("wizardlm", "alpaca"),
        ("vicuna", "sharegpt"),
        ("chatml", "openai"),
        ("claude", "anthropic"),
        ("guanaco", "text"),
        ("mistral", "text"),
        ("code-alpaca", "code_alpaca"),
        (" llama_chat ", "llama_chat"),
        *((row.name, row.name) for row in FORMATS),
    ],
)
def test_formats_are_found_by_name(name: str, found: str) -> None:
    assert find_format(name).name == found


def test_an_unknown_name_names_the_closest_and_all() -> None:
    with pytest.raises(
        UsageError, match=r"unknown dataset format 'alpacca' \(did you mean alpaca\?\); .* one of oasst, .*, text$"
    ):
        find_format("alpacca")
    with pytest.raises(UsageError, match="unknown dataset format 'x'; --dataset-format takes one of"):
        find_format("x")


def test_a_forced_format_on_another_shape_is_refused() -> None:
    with pytest.raises(DataError) as error:
        convert({"question": "Q", "answer": "A"}, HERE, find_format("completion"))
    assert str(error.value) == (
        "my.csv:7: the format completion needs the keys prompt and completion, or prompt and canonical_solution, but "
        "the record has the keys 'question', 'answer'; omit --dataset-format to have the format detected"
    )
    with pytest.raises(DataError, match=r"my.csv:7: the format alpaca needs .* but the record is text;"):
        convert("a line", HERE, find_format("alpaca"))
    with pytest.raises(DataError, match="but the record has no keys;"):
        convert({}, HERE, find_format("text"))


def test_a_forced_format_wins_over_the_detected_one() -> None:
    record = {"instruction": "I", "output": "O", "text": "T"}
    assert convert(record, HERE, find_format("text")) == (Example((Message("assistant", "T"),), HERE, "text"),)
    assert convert("a line", HERE, find_format("text")) == (Example((Message("assistant", "a line"),), HERE, "text"),)


@pytest.mark.parametrize(
    ("typed", "columns"),
    [
        ("prompt=Question,answer=Answer", {"prompt": "Question", "answer": "Answer"}),
        ('prompt=Question,answer="Best Answer"', {"prompt": "Question", "answer": "Best Answer"}),
        ("prompt=Question,answer=Best Answer", {"prompt": "Question", "answer": "Best Answer"}),
        (" prompt = q , answer = a ", {"prompt": "q", "answer": "a"}),
        ("prompt='a, b',answer=\"c=d\"", {"prompt": "a, b", "answer": "c=d"}),
        ('answer="say ""x""",prompt=p', {"prompt": "p", "answer": 'say "x"'}),
        ("PROMPT=q,Answer=a", {"prompt": "q", "answer": "a"}),
        ("messages=chat", {"messages": "chat"}),
        ("text=body", {"text": "body"}),
        ("image=pic,answer=caption", {"image": "pic", "answer": "caption"}),
    ],
)
def test_columns_are_read(typed: str, columns: dict[str, str]) -> None:
    assert parse_columns(typed) == columns


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "--columns '' names nothing to train on: give prompt and answer, image and answer, messages, or text"),
        ("prompt=q", "names nothing to train on"),
        ("answer=a", "names nothing to train on"),
        (
            "prompt=q,anwser=a",
            "--columns has no target 'anwser' (did you mean answer?); it takes prompt, answer, context,",
        ),
        ("xyz=q", "--columns has no target 'xyz'; it takes prompt,"),
        ("prompt", "--columns cannot be read at 'prompt'; write it as --columns prompt=KEY,answer=KEY"),
        ("prompt=,answer=a", "--columns cannot be read at 'prompt=,answer=a'"),
        ("prompt=q;answer=a,", "names nothing to train on"),
        ('prompt="q"x,answer=a', '--columns cannot be read at \'prompt="q"x'),
        ("prompt=q,prompt=r,answer=a", "--columns names 'prompt' twice; name it once"),
    ],
)
def test_columns_that_cannot_be_meant(typed: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_columns(typed)
    assert sentence in str(error.value)


def example(*said: tuple[Any, str], **more: Any) -> tuple[Example]:
    return (Example(tuple(Message(role, text) for role, text in said), HERE, **more),)


@pytest.mark.parametrize(
    ("columns", "forced", "expected"),
    [
        ({"prompt": "Q", "answer": "Best Answer"}, None, example(("user", "q"), ("assistant", "a"))),
        (
            {"prompt": "Q", "answer": "Best Answer", "context": "Text", "system": "S"},
            None,
            example(("system", "s"), ("user", "Context: t\n\nQuestion: q"), ("assistant", "a")),
        ),
        (
            {"prompt": "Q", "answer": "Best Answer", "context": "Text"},
            "alpaca",
            example(("user", "q\n\nt"), ("assistant", "a")),
        ),
        (
            {"prompt": "Q", "answer": "Best Answer", "context": "Text"},
            "dolly",
            example(("user", "q\n\nContext: t"), ("assistant", "a")),
        ),
        (
            {"prompt": "Q", "answer": "Best Answer"},
            "completion",
            example(("user", "q"), ("assistant", "a"), kind="completion"),
        ),
        ({"prompt": "Q", "answer": "Best Answer"}, "anthropic", example(("user", "q"), ("assistant", "a"))),
        (
            {"prompt": "Q", "answer": "Best Answer", "system": "S"},
            "orca",
            example(("system", "s"), ("user", "q"), ("assistant", "a")),
        ),
        ({"text": "Text"}, None, example(("assistant", "t"), kind="text")),
        ({"messages": "Talk"}, None, example(("user", "q"), ("assistant", "a"))),
        ({"messages": "Talk"}, "sharegpt", example(("user", "q"), ("assistant", "a"))),
        (
            {"image": "Pic", "answer": "Best Answer"},
            None,
            example(("user", "<image>"), ("assistant", "a"), images=("p.png",)),
        ),
        (
            {"image": "Pic", "prompt": "Q", "answer": "Best Answer"},
            None,
            example(("user", "<image>\nq"), ("assistant", "a"), images=("p.png",)),
        ),
    ],
)
def test_columns_are_used(columns: dict[str, str], forced: str | None, expected: tuple[Example]) -> None:
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    record = {"Q": "q", "Best Answer": "a", "Text": "t", "S": "s", "Pic": "p.png", "Talk": talk, "text": "never"}
    assert convert(record, HERE, find_format(forced) if forced else None, columns) == expected


def test_columns_that_are_not_there() -> None:
    with pytest.raises(DataError) as error:
        convert({"q": "Q"}, HERE, None, {"prompt": "q", "answer": "a"})
    assert (
        str(error.value)
        == "my.csv:7: --columns names 'a', but the record has the keys 'q'; give a key that the record has"
    )
    with pytest.raises(DataError, match="--columns names 'a', but the record is text;"):
        convert("line", HERE, None, {"prompt": "a", "answer": "b"})
    with pytest.raises(DataError, match="the format preference needs the keys"):
        convert({"q": "Q", "a": "A"}, HERE, find_format("preference"), {"prompt": "q", "answer": "a"})


def test_columns_without_an_answer_are_left_out() -> None:
    assert convert({"q": "Q", "a": None}, HERE, None, {"prompt": "q", "answer": "a"}) == (
        Dropped(HERE, "answer is empty"),
    )
