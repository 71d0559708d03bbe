"""Hostile texts through a tokenizer: what somebody typed stays text and comes back letter for letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.install.installer import install

HERE = Origin("a.jsonl", 1)
TEXTS = {
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "right to left": "\u0645\u0631\u062d\u0628\u0627 \u202eabc\u202c \u05e9\u05dc\u05d5\u05dd",
    "combining": "e\u0301\u0323 a\u030a Z\u0351\u0343\u036b",
    "separators": "a\u2028b\u2029c\x85d\x0be",
    "nul": "a\0b",
    "noncharacters": "a\ufdd0b\uffff",
    "private": "a\U000f0000b",
    "spaces": "  a \u00a0\u3000 b\t\t",
    "template": "{{ 7 * 7 }} {% raw %} {# x #}",
    "long": "word " * 3000,
}


@pytest.fixture(scope="module")
def encoder(tiny_llama: Path) -> Encoder:
    return Encoder(load_tokenizer(tiny_llama))


def controls(encoder: Encoder) -> list[int]:
    return [i for i, token in encoder.tokenizer.added_tokens_decoder.items() if token.special]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("side", ["user", "assistant"])
def test_texts_come_back(name: str, side: str, encoder: Encoder) -> None:
    asked, answer = (TEXTS[name], "fine") if side == "user" else ("Say it", TEXTS[name])
    (row,) = encoder.encode(Example((Message("user", asked), Message("assistant", answer)), HERE))
    learned = encoder.tokenizer.decode(
        row.ids[row.supervised], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    assert answer.strip() in learned
    assert asked.strip() in encoder.tokenizer.decode(row.ids, clean_up_tokenization_spaces=False)


def test_typed_control_tokens_stay_text_everywhere(encoder: Encoder) -> None:
    call = json.dumps([{"type": "function", "function": {"name": "f", "arguments": {"x": "TYPED"}}}])

    def row(said: str, inside: bool) -> list[int]:
        calls = call.replace("TYPED", said) if inside else ""
        turns = (Message("user", "a" if inside else said), Message("assistant", "b" if inside else said, calls))
        return [i for r in encoder.encode(Example(turns, HERE)) for i in r.ids.tolist() if i in controls(encoder)]

    assert encoder.control_tokens.asked
    for inside in (False, True):
        for token in encoder.control_tokens.asked:
            assert row(token, inside) == row("x", inside), (token, inside)


def test_hostile_texts_through_the_command(here: Path, tiny_llama: Path, judge: Callable[..., None]) -> None:
    model = install(str(tiny_llama), say=lambda text: None).root
    rows = [{"prompt": f"{i}", "answer": text} for i, text in enumerate(TEXTS.values())]
    rows += [{"prompt": text, "answer": "fine"} for text in TEXTS.values()]
    (here / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judge((20, 18, 2, 0, 0), "a.jsonl", "--model", str(model))
