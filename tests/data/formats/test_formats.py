"""Every format in every spelling: a record in, exactly this Example out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.formats import FORMATS, Format, convert, detect

HERE = Origin("data.jsonl", 3)
CALL = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]
TOOL = {"name": "weather", "parameters": {"type": "object"}}
TOOLS = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]'
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]


Said = str | tuple[str, list[Any]] | tuple[str, dict[str, Any]]


def turns(*said: Said) -> tuple[Message, ...]:
    """Messages out of "u: Hi", "a: Hello!", "s: ...", "t: ...", or (the same, tool calls or other fields)."""
    roles: dict[str, Any] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    pairs = [(item, {}) if isinstance(item, str) else item for item in said]
    fields = [(text, {"tool_calls": json.dumps(more)} if isinstance(more, list) else more) for text, more in pairs]
    return tuple(Message(roles[text[0]], text[3:], **more) for text, more in fields)


def chat(*said: Said, tools: str = "", images: tuple[str, ...] = ()) -> Example:
    return Example(turns(*said), HERE, "chat", tools, images)


def completion(prompt: str, answer: str) -> Example:
    return Example((Message("user", prompt), Message("assistant", answer)), HERE, "completion")


def text(said: str) -> Example:
    return Example((Message("assistant", said),), HERE, "text")


INSTRUCT: list[tuple[str, object, Example]] = [
    (
        "alpaca",
        {"instruction": "Translate", "input": "Hello", "output": "Bonjour"},
        chat("u: Translate\n\nHello", "a: Bonjour"),
    ),
    ("alpaca", {"instruction": "Greet", "input": "", "output": "Hi"}, chat("u: Greet", "a: Hi")),
    ("alpaca", {"instruction": "Greet", "input": None, "output": "Hi"}, chat("u: Greet", "a: Hi")),
    ("alpaca", {"instruction": "", "input": "Hello", "output": "Bonjour"}, chat("u: Hello", "a: Bonjour")),
    ("alpaca", {"instruction": "Greet", "output": "Hi"}, chat("u: Greet", "a: Hi")),
    ("alpaca", {"instruction": "Greet", "response": "Hi"}, chat("u: Greet", "a: Hi")),
    ("alpaca", {"instruction": "Greet", "completion": "Hi"}, chat("u: Greet", "a: Hi")),
    ("alpaca", {"instruction": "Greet", "answer": "Hi"}, chat("u: Greet", "a: Hi")),
    ("alpaca", {"instruction": "Greet", "output": "Hi", "text": "### Greet\nHi"}, chat("u: Greet", "a: Hi")),
    (
        "alpaca",
        {"system": "Be kind.", "instruction": "Greet", "output": "Hi"},
        chat("s: Be kind.", "u: Greet", "a: Hi"),
    ),
    ("alpaca", {"system": "", "instruction": "Greet", "input": "", "output": "3.3"}, chat("u: Greet", "a: 3.3")),
    (
        "alpaca",
        {"instruction": "3", "input": "4", "output": "5", "history": [["1", "2"]], "system": "S"},
        chat("s: S", "u: 1", "a: 2", "u: 3\n\n4", "a: 5"),
    ),
    ("alpaca", {"instruction": "3", "output": "5", "history": '[["1", "2"]]'}, chat("u: 1", "a: 2", "u: 3", "a: 5")),
    ("alpaca", {"instruction": "3", "output": "5", "history": ""}, chat("u: 3", "a: 5")),
    (
        "alpaca",
        {"instruction": "What?", "output": "A cat", "image": "c.png"},
        chat("u: <image>\nWhat?", "a: A cat", images=("c.png",)),
    ),
    (
        "dolly",
        {"instruction": "Who?", "context": "Ada wrote it.", "response": "Ada"},
        chat("u: Who?\n\nContext: Ada wrote it.", "a: Ada"),
    ),
    ("dolly", {"instruction": "Who?", "context": "", "response": "Ada", "category": "qa"}, chat("u: Who?", "a: Ada")),
    ("dolly", {"instruction": "Who?", "context": "Text", "output": "Ada"}, chat("u: Who?\n\nContext: Text", "a: Ada")),
    (
        "code_alpaca",
        {"instruction": "Add", "input": "a, b", "output": "a + b", "lang": "python"},
        chat("u: Add\n\n```python\na, b\n```", "a: ```python\na + b\n```"),
    ),
    (
        "code_alpaca",
        {"instruction": "Add", "input": "", "output": "```c\na+b;\n```", "lang": "c"},
        chat("u: Add", "a: ```c\na+b;\n```"),
    ),
    ("code_alpaca", {"instruction": "Greet", "input": "", "output": "Hei", "lang": "no"}, chat("u: Greet", "a: Hei")),
    (
        "orca",
        {"system_prompt": "Be brief.", "question": "2+2?", "response": "4"},
        chat("s: Be brief.", "u: 2+2?", "a: 4"),
    ),
    ("orca", {"id": "x", "system_prompt": "", "question": "2+2?", "answer": "4"}, chat("u: 2+2?", "a: 4")),
    ("qa", {"question": "2+2?", "answer": "4"}, chat("u: 2+2?", "a: 4")),
    (
        "qa",
        {"question": "Who?", "answer": "Ada", "context": "Ada wrote."},
        chat("u: Context: Ada wrote.\n\nQuestion: Who?", "a: Ada"),
    ),
    ("qa", {"question": "Who?", "answer": "Ada", "context": " "}, chat("u: Who?", "a: Ada")),
    ("qa", {"question": "Who?", "answers": ["", "Ada", "Ada L."]}, chat("u: Who?", "a: Ada")),
    ("qa", {"question": "Who?", "answer": ["Ada"]}, chat("u: Who?", "a: Ada")),
    (
        "qa",
        {
            "id": "1",
            "title": "T",
            "context": "C",
            "question": "Who?",
            "answers": {"text": ["Ada", "A"], "answer_start": [0, 1]},
        },
        chat("u: Context: C\n\nQuestion: Who?", "a: Ada"),
    ),
    ("qa", {"question": "Who?", "answers": '{"text": ["Ada"], "answer_start": [0]}'}, chat("u: Who?", "a: Ada")),
    ("qa", {"question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}, chat("u: Who?", "a: Ada")),
    ("qa", {"question": "Who?", "answer": {"value": "Ada", "aliases": ["A"]}}, chat("u: Who?", "a: Ada")),
    ("qa", {"query": "Who?", "answer": "Ada"}, chat("u: Who?", "a: Ada")),
    ("qa", {"question": "Who?", "response": "Ada"}, chat("u: Who?", "a: Ada")),
    ("qa", {"problem": "2+2?", "solution": "4", "answer": "4!"}, chat("u: 2+2?", "a: 4")),
    ("qa", {"problem": "2+2?", "solution": "4"}, chat("u: 2+2?", "a: 4")),
    ("qa", {"system": "S", "question": "Q", "answer": "A"}, chat("s: S", "u: Q", "a: A")),
    ("chat", {"user": "Hi", "assistant": "Hello!"}, chat("u: Hi", "a: Hello!")),
    ("llama_chat", {"system": "S", "user": "Hi", "assistant": "Hello!"}, chat("s: S", "u: Hi", "a: Hello!")),
    ("anthropic", {"human": "Hi", "assistant": "Hello!"}, chat("u: Hi", "a: Hello!")),
    ("anthropic", {"Human": "Hi", "Assistant": "Hello!"}, chat("u: Hi", "a: Hello!")),
    ("pair", {"query": "Hi", "response": "Hello!"}, chat("u: Hi", "a: Hello!")),
    ("pair", {"system": "S", "query": "Hi", "response": "Hello!"}, chat("s: S", "u: Hi", "a: Hello!")),
    ("pair", {"prompt": "Hi", "answer": "Hello!"}, chat("u: Hi", "a: Hello!")),
    ("pair", {"input": "Hi", "response": "Hello!"}, chat("u: Hi", "a: Hello!")),
    ("pair", {"source": "Hi", "target": "Salut"}, chat("u: Hi", "a: Salut")),
    ("pair", {"inputs": "Hi", "targets": "Salut"}, chat("u: Hi", "a: Salut")),
    ("pair", {"input_text": "Hi", "target_text": "Salut"}, chat("u: Hi", "a: Salut")),
    ("pair", {"dialogue": "A: Hi", "summary": "A greets."}, chat("u: A: Hi", "a: A greets.")),
    ("pair", {"text": "Long", "summary": "Short"}, chat("u: Long", "a: Short")),
]

PLAIN: list[tuple[str, object, Example]] = [
    ("completion", {"prompt": "The weather is", "completion": " sunny."}, completion("The weather is", " sunny.")),
    ("pair", {"prompt": "Hi", "response": "Hello!"}, chat("u: Hi", "a: Hello!")),
    ("pair", {"input": "Hi", "output": "Hello!"}, chat("u: Hi", "a: Hello!")),
    (
        "completion",
        {"task_id": "1", "prompt": "def f():\n", "canonical_solution": "    return 1\n"},
        completion("def f():\n", "    return 1\n"),
    ),
    ("completion", {"prompt": "", "completion": "All of it"}, completion("", "All of it")),
    ("completion", {"prompt": "P", "completion": "C", "text": "P C"}, completion("P", "C")),
    ("pair", {"prompt": "Hi", "response": "Hello!", "system": "S"}, chat("s: S", "u: Hi", "a: Hello!")),
    ("pair", {"prompt": "Hi", "response": "Hello!", "system": None, "history": []}, chat("u: Hi", "a: Hello!")),
    (
        "pair",
        {"input": "What?", "output": "A logo.", "image": "l.png"},
        chat("u: <image>\nWhat?", "a: A logo.", images=("l.png",)),
    ),
    ("conversational", {"prompt": TALK[:1], "completion": TALK[1:]}, chat("u: Hi", "a: Hello!")),
    ("text", {"text": "Once upon a time"}, text("Once upon a time")),
    ("text", {"text": "### Human: Hi### Assistant: Hello!"}, text("### Human: Hi### Assistant: Hello!")),
    ("text", {"text": "<s>[INST] Hi [/INST] Hello!</s>"}, text("<s>[INST] Hi [/INST] Hello!</s>")),
    ("text", {"text": "Words", "url": "https://example.org", "timestamp": "2019"}, text("Words")),
    ("text", " A line of text.\n", text(" A line of text.\n")),
    ("text", '{"messages": []}', text('{"messages": []}')),
]

CONVERSATIONS: list[tuple[str, object, Example]] = [
    ("openai", {"messages": TALK}, chat("u: Hi", "a: Hello!")),
    ("openai", {"messages": json.dumps(TALK)}, chat("u: Hi", "a: Hello!")),
    ("openai", {"messages": SHARED}, chat("u: Hi", "a: Hello!")),
    ("openai", {"messages": TALK, "prompt": "Hi", "topic": "greeting"}, chat("u: Hi", "a: Hello!")),
    ("openai", {"messages": [{**turn, "prompt": "P", "response": "R"} for turn in TALK]}, chat("u: Hi", "a: Hello!")),
    ("openai", {"messages": TALK, "system": "S"}, chat("s: S", "u: Hi", "a: Hello!")),
    (
        "openai",
        {"messages": [{"role": "system", "content": "S"}, *TALK], "system": "S"},
        chat("s: S", "u: Hi", "a: Hello!"),
    ),
    ("openai", {"messages": [{"role": "developer", "content": "S"}, *TALK]}, chat("s: S", "u: Hi", "a: Hello!")),
    ("openai", {"messages": [{**turn, "name": None, "tool_calls": None} for turn in TALK]}, chat("u: Hi", "a: Hello!")),
    (
        "openai",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                TALK[1],
            ]
        },
        chat("u: Hi", "a: Hello!"),
    ),
    (
        "openai",
        {
            "messages": [
                {"role": "user", "content": "Weather in Oslo?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": '{"t": 3}'},
                {"role": "assistant", "content": "3 degrees."},
            ],
            "tools": [{"type": "function", "function": TOOL}],
        },
        chat(
            "u: Weather in Oslo?",
            ("a: ", [{"id": "c1", **CALL[0]}]),
            ('t: {"t": 3}', {"tool_call_id": "c1"}),
            "a: 3 degrees.",
            tools=TOOLS,
        ),
    ),
    (
        "openai",
        {
            "messages": [
                *TALK[:1],
                {"role": "assistant", "content": "Wrong.", "weight": 0},
                {"role": "user", "content": "No."},
                {"role": "assistant", "content": "Hello!", "weight": 1, "reasoning_content": "Be polite."},
                {"role": "user", "content": "Bye"},
                {"role": "assistant", "content": "What?", "train": False},
            ]
        },
        chat(
            "u: Hi", ("a: Wrong.", {"supervised": False}), "u: No.", ("a: Hello!", {"reasoning_content": "Be polite."})
        ),
    ),
    ("kto", {"messages": TALK, "label": "true", "note": None}, chat("u: Hi", "a: Hello!")),
    (
        "openai",
        {
            "messages": [
                {"role": "user", "content": "Weather?"},
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                },
                {"role": "function", "name": "weather", "content": "3"},
                {"role": "assistant", "content": "3 degrees."},
            ],
            "functions": [TOOL],
        },
        chat("u: Weather?", ("a: ", CALL), "t: 3", "a: 3 degrees.", tools=TOOLS),
    ),
    ("sharegpt", {"conversations": SHARED}, chat("u: Hi", "a: Hello!")),
    ("sharegpt", {"id": "identity_0", "conversations": SHARED}, chat("u: Hi", "a: Hello!")),
    ("sharegpt", {"conversation": SHARED}, chat("u: Hi", "a: Hello!")),
    ("sharegpt", {"id": "x", "items": SHARED}, chat("u: Hi", "a: Hello!")),
    ("sharegpt", {"conversations": TALK}, chat("u: Hi", "a: Hello!")),
    ("sharegpt", {"conversations": json.dumps(SHARED), "source": "csv"}, chat("u: Hi", "a: Hello!")),
    (
        "sharegpt",
        {"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello!"}]},
        chat("u: Hi", "a: Hello!"),
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "Human", "value": "Hi"}, {"from": "GPT", "value": "Hello!"}]},
        chat("u: Hi", "a: Hello!"),
    ),
    ("sharegpt", {"conversations": SHARED, "system": "S", "tools": "[]"}, chat("s: S", "u: Hi", "a: Hello!")),
    ("sharegpt", {"conversation": [{"input": "Hi", "output": "Hello!"}], "source": "x"}, chat("u: Hi", "a: Hello!")),
    ("sharegpt", {"conversations": [{"human": "Hi", "assistant": "Hello!"}]}, chat("u: Hi", "a: Hello!")),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "S"},
                {"from": "human", "value": "Weather?"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
                {"from": "observation", "value": '{"t": 3}'},
                {"from": "gpt", "value": "3 degrees."},
            ],
            "tools": json.dumps([TOOL]),
        },
        chat("s: S", "u: Weather?", ("a: ", CALL), 't: {"t": 3}', "a: 3 degrees.", tools=TOOLS),
    ),
    (
        "lima",
        {"conversations": ["Hi", "Hello!", "Bye", "See you."], "source": "x"},
        chat("u: Hi", "a: Hello!", "u: Bye", "a: See you."),
    ),
    ("lima", {"dialog": ["Hi", "Hello!"]}, chat("u: Hi", "a: Hello!")),
    (
        "multi_turn",
        {"turns": [{"user": "Hi", "assistant": "Hello!"}, {"user": "Bye", "assistant": "See you."}]},
        chat("u: Hi", "a: Hello!", "u: Bye", "a: See you."),
    ),
    ("multi_turn", {"turns": TALK}, chat("u: Hi", "a: Hello!")),
    ("multi_turn", {"turns": [["Hi", "Hello!"]]}, chat("u: Hi", "a: Hello!")),
    (
        "function_calling",
        {
            "prompt": "Weather?",
            "functions": [TOOL],
            "function_call": {"name": "weather", "arguments": {"city": "Oslo"}},
        },
        chat("u: Weather?", ("a: ", CALL), tools=TOOLS),
    ),
    (
        "function_calling",
        {
            "messages": TALK[:1],
            "functions": json.dumps([TOOL]),
            "function_call": '{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}',
        },
        chat("u: Hi", ("a: ", CALL), tools=TOOLS),
    ),
    (
        "function_calling",
        {
            "id": 0,
            "query": "Weather?",
            "answers": '[{"name": "weather", "arguments": {"city": "Oslo"}}]',
            "tools": json.dumps([TOOL]),
        },
        chat("u: Weather?", ("a: ", CALL), tools=TOOLS),
    ),
    (
        "function_calling",
        {"prompt": "Hi", "functions": [TOOL], "function_call": None, "response": "Hello!"},
        chat("u: Hi", "a: Hello!", tools=TOOLS),
    ),
]

PREFERENCES: list[tuple[str, object, Example]] = [
    ("preference", {"prompt": "Hi", "chosen": "Hello!", "rejected": "No."}, chat("u: Hi", "a: Hello!")),
    (
        "preference",
        {"system": "S", "question": "Hi", "chosen": "Hello!", "rejected": "No."},
        chat("s: S", "u: Hi", "a: Hello!"),
    ),
    (
        "preference",
        {"instruction": "Greet", "input": "Ada", "chosen": "Hello!", "rejected": "No."},
        chat("u: Greet\n\nAda", "a: Hello!"),
    ),
    ("preference", {"chosen": TALK, "rejected": TALK}, chat("u: Hi", "a: Hello!")),
    ("preference", {"prompt": "Hi", "chosen": TALK, "rejected": TALK}, chat("u: Hi", "a: Hello!")),
    ("preference", {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": TALK[1:]}, chat("u: Hi", "a: Hello!")),
    (
        "preference",
        {"conversations": SHARED[:1], "chosen": SHARED[1], "rejected": SHARED[1]},
        chat("u: Hi", "a: Hello!"),
    ),
    ("preference", {"chosen_messages": TALK, "rejected_messages": TALK}, chat("u: Hi", "a: Hello!")),
    (
        "preference",
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "No."},
        text("\n\nHuman: Hi\n\nAssistant: Hello!"),
    ),
    ("kto", {"messages": TALK, "label": True}, chat("u: Hi", "a: Hello!")),
    ("kto", {"prompt": "Hi", "completion": "Hello!", "label": True}, completion("Hi", "Hello!")),
    ("kto", {"prompt": TALK[:1], "completion": TALK[1:], "label": True}, chat("u: Hi", "a: Hello!")),
    ("kto", {"conversations": SHARED, "kto_tag": True}, chat("u: Hi", "a: Hello!")),
    ("kto", {"instruction": "Hi", "output": "Hello!", "label": True}, chat("u: Hi", "a: Hello!")),
    ("completion", {"prompt": "Hi", "completion": "Hello!", "label": 0}, completion("Hi", "Hello!")),
]

VISION: list[tuple[str, object, Example]] = [
    ("vision", {"image": "sun.jpg", "caption": "A sunset"}, chat("u: <image>", "a: A sunset", images=("sun.jpg",))),
    ("vision", {"image": "sun.jpg", "text": "A sunset"}, chat("u: <image>", "a: A sunset", images=("sun.jpg",))),
    ("vision", {"file_name": "0001.png", "text": "A sunset"}, chat("u: <image>", "a: A sunset", images=("0001.png",))),
    (
        "vision",
        {"images": ["a.png", "b.png"], "caption": "Two"},
        chat("u: <image>\n<image>", "a: Two", images=("a.png", "b.png")),
    ),
    (
        "vision",
        {"image": {"bytes": b"\x89PNG", "path": "a.png"}, "caption": "Raw"},
        chat("u: <image>", "a: Raw", images=("data:application/octet-stream;base64,iVBORw==",)),
    ),
    (
        "vision",
        {"image": b"\x89PNG", "caption": "Raw"},
        chat("u: <image>", "a: Raw", images=("data:application/octet-stream;base64,iVBORw==",)),
    ),
    (
        "vision",
        {"image": {"bytes": None, "path": "a.png"}, "caption": "P"},
        chat("u: <image>", "a: P", images=("a.png",)),
    ),
    (
        "vision_qa",
        {"image": "c.png", "question": "What?", "answer": "A cat"},
        chat("u: <image>\nWhat?", "a: A cat", images=("c.png",)),
    ),
    (
        "vision_qa",
        {"image": "c.png", "question": "What?", "answers": ["A cat"]},
        chat("u: <image>\nWhat?", "a: A cat", images=("c.png",)),
    ),
    (
        "pair",
        {"query": "What?", "response": "A cat", "images": ["http://x.org/c.png"]},
        chat("u: <image>\nWhat?", "a: A cat", images=("http://x.org/c.png",)),
    ),
    (
        "sharegpt",
        {
            "id": "1",
            "image": "c.png",
            "conversations": [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": "A cat"}],
        },
        chat("u: What?\n<image>", "a: A cat", images=("c.png",)),
    ),
    ("sharegpt", {"id": "1", "image": None, "conversations": SHARED}, chat("u: Hi", "a: Hello!")),
    (
        "openai",
        {
            "messages": [{"role": "user", "content": "<image>Who?"}, {"role": "assistant", "content": "Ada"}],
            "images": ["1.jpg"],
        },
        chat("u: <image>Who?", "a: Ada", images=("1.jpg",)),
    ),
    ("openai", {"messages": TALK, "images": '["1.jpg"]'}, chat("u: <image>\nHi", "a: Hello!", images=("1.jpg",))),
    (
        "openai",
        {"messages": [{"role": "user", "content": "An <image> tag"}, TALK[1]]},
        chat("u: An <image> tag", "a: Hello!"),
    ),
    *(
        (
            "openai",
            {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "Who?"}]}, TALK[1]]},
            chat("u: <image>Who?", "a: Hello!", images=("1.jpg",)),
        )
        for part in (
            {"type": "image_url", "image_url": {"url": "1.jpg"}},
            {"type": "image_url", "image_url": "1.jpg", "text": None},
            {"type": "image_url", "value": "1.jpg"},
            {"type": "image", "image": "1.jpg"},
            {"type": "image", "path": "1.jpg"},
        )
    ),
    (
        "openai",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "Who?"}]},
                TALK[1],
            ],
            "images": [{"bytes": b"a", "path": None}],
        },
        chat("u: <image>Who?", "a: Hello!", images=("data:application/octet-stream;base64,YQ==",)),
    ),
]

# Words of other formats inside values, and columns of other formats that are null.
TREACHEROUS: list[tuple[str, object, Example]] = [
    ("alpaca", {"instruction": "Summarise the text", "output": "text"}, chat("u: Summarise the text", "a: text")),
    (
        "alpaca",
        {"instruction": "List messages, role and content", "input": "conversations from value", "output": "turns"},
        chat("u: List messages, role and content\n\nconversations from value", "a: turns"),
    ),
    (
        "dolly",
        {"instruction": "Answer", "context": "the text of a question", "response": "answer"},
        chat("u: Answer\n\nContext: the text of a question", "a: answer"),
    ),
    (
        "qa",
        {"question": "What is an image caption?", "answer": "A prompt completion"},
        chat("u: What is an image caption?", "a: A prompt completion"),
    ),
    (
        "completion",
        {"prompt": "[INST] instruction output", "completion": "[1, 2]"},
        completion("[INST] instruction output", "[1, 2]"),
    ),
    ("qa", {"question": "Parse", "answer": "[1, 2]"}, chat("u: Parse", "a: [1, 2]")),
    ("qa", {"question": "Which?", "answer": "NA"}, chat("u: Which?", "a: NA")),
    ("alpaca", {"instruction": "Greet", "output": "Hi", "messages": None, "text": None}, chat("u: Greet", "a: Hi")),
    ("openai", {"messages": TALK, "chosen": None, "rejected": None, "label": None}, chat("u: Hi", "a: Hello!")),
]

TABLE = INSTRUCT + PLAIN + CONVERSATIONS + PREFERENCES + VISION + TREACHEROUS


@pytest.mark.parametrize(
    ("name", "record", "expected"), TABLE, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(TABLE)]
)
def test_converts_to_exactly_this(name: str, record: object, expected: Example) -> None:
    found = detect(record)
    assert found is not None and found.name == name
    assert convert(record, HERE) == (expected,)
    assert convert(record, HERE, found) == (expected,), "forcing the detected format changes nothing"


def test_every_format_of_the_table_is_tried() -> None:
    nested = {"oasst", "squad"}  # one record is not one example: test_formats_nested.py
    assert {name for name, *_ in TABLE} == {row.name for row in FORMATS} - nested


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_the_example_in_the_table_is_of_its_format(row: Format) -> None:
    record = json.loads(row.example.replace("[...]", "[]"))
    found = detect(record)
    assert found and found.name == row.name
    assert row.note and "\n" not in row.note + row.example + row.notice


def test_names_and_synonyms_are_unique() -> None:
    names = [name for row in FORMATS for name in (row.name, *row.synonyms)]
    assert len(names) == len(set(names))
