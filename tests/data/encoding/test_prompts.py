"""The file of --eval-prompts: every way to write it, and every mistake named with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Message
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.prompts import MOST_PROMPTS, read_prompts
from llm_installer.data.encoding.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def encoder(tiny_llama: Path) -> Encoder:
    return Encoder(load_tokenizer(tiny_llama))


TURNS = [
    {"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Who are you?"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("p.txt", "\ufeffWho are you?\r\n\n  What is red? \n", ["Who are you?", "What is red?"]),
        ("p.json", json.dumps(["Who?", {"prompt": "What?"}, {"messages": TURNS}]), ["Who?", "What?", "Who are you?"]),
        ("p.jsonl", '"Who?"\n\n{"prompt": "What?"}\n' + json.dumps(TURNS), ["Who?", "What?", "Who are you?"]),
    ],
)
def test_every_way_to_write_them(tmp_path: Path, encoder: Encoder, name: str, text: str, shown: list[str]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_prompts(tmp_path / name, encoder, "chat", 100)
    assert [p.text for p in found] == shown
    assert list(found[0].ids) == encoder.prompt_ids([Message("user", shown[0])])
    if "What?" in shown:
        turns = [Message(t["role"], t["content"]) for t in TURNS]  # type: ignore[arg-type]
        assert list(found[2].ids) == encoder.prompt_ids(turns)


def test_a_model_of_plain_text_goes_on_with_the_text(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "p.txt").write_text("Once upon a time")
    (prompt,) = read_prompts(tmp_path / "p.txt", encoder, "text", 100)
    assert list(prompt.ids) == encoder.text_ids("Once upon a time")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.txt", "\n \n", "holds no prompts"),
        ("p.csv", "a", "is not a file of prompts; give a .txt, .json or .jsonl file"),
        ("p.json", "{}", "not a list"),
        ("p.json", "[1", "not valid JSON"),
        ("p.json", '["a", 3]', "p.json record 2: not a prompt"),
        ("p.jsonl", '"a"\n{"text": "b"}', "p.jsonl:2: not a prompt"),
        ("p.jsonl", '"a"\n{', "p.jsonl:2: not valid JSON"),
        ("p.json", '[{"messages": [{"role": "robot", "content": "x"}]}]', "roles are system, user, assistant"),
        ("p.json", '[{"messages": [{"role": "assistant", "content": "x"}]}]', "end with the one to answer"),
        ("p.txt", "word " * 200, "leave room for an answer; shorten it"),
        ("p.txt", "a\n" * (MOST_PROMPTS + 1), f"at most {MOST_PROMPTS} are answered"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, encoder: Encoder, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_prompts(tmp_path / name, encoder, "chat", 100)
    assert says in str(caught.value) and name in str(caught.value)


def test_what_cannot_be_read_is_named(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfea\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        read_prompts(tmp_path / "bytes.txt", encoder, "chat", 100)
    with pytest.raises(DataError, match="No such file"):
        read_prompts(tmp_path / "none.txt", encoder, "chat", 100)
