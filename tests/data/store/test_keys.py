"""Variants of one prompt are recognised, and what differs in meaning stays apart."""

from __future__ import annotations

import pytest

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.store.keys import normalise, prompt_key, row_key


def chat(prompt: str, answer: str, system: str = "", images: tuple[str, ...] = ()) -> Example:
    turns = (Message("user", prompt), Message("assistant", answer))
    return Example((Message("system", system), *turns) if system else turns, Origin("f"), images=images)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "what is  the capital of france"),
        ("What is the capital of France?", "WHAT IS THE CAPITAL OF FRANCE!?"),
        ("Say \u201chi\u201d \u2014 now", 'say "hi" - now'),
        ("\uff21\uff22\uff23", "abc"),
        ("e-mail me", "email me"),
        ("Stra\u00dfe", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("List 3 things: a, b", "list 3 things a b"),
        ("1, 2, 3", "1 2 3"),
        ("line\none", "line one\t"),
    ],
)
def test_variants_fold_together(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 7 + 2?", "What is 7 - 2?"),
        ("What is 1.5 doubled?", "What is 15 doubled?"),
        ("add 1 23", "add 12 3"),
        ("7\u00d72", "7\u00f72"),
        ("\u0928\u093f", "\u0928\u0940"),
        ("\U0001f600", "\U0001f622"),
        ("cat", "dog"),
    ],
)
def test_meaning_stays_apart(one, other):
    assert prompt_key(chat(one, "x")) != prompt_key(chat(other, "x"))


def test_signs_alone_are_a_prompt():
    assert prompt_key(chat("???", "x")) != prompt_key(chat("!!!", "x"))


@pytest.mark.parametrize("system", ["", "You are a poet."])
def test_an_empty_prompt_is_known_by_its_answer(system):
    poems = [chat(" \n", answer, system) for answer in ("roses are red", "the sea is blue", "Roses are red!")]
    first, second, variant = (prompt_key(poem) for poem in poems)
    assert first != second and first == variant


def test_an_image_is_part_of_the_prompt():
    asked = [prompt_key(chat("What is this?", "x", images=(name,))) for name in ("a.png", "b.png", "a.png")]
    assert asked[0] != asked[1] and asked[0] == asked[2]
    assert prompt_key(chat("", "a cat", images=("a.png",))) == prompt_key(chat("", "a dog", images=("a.png",)))


def test_text_is_known_by_all_of_it():
    texts = [Example((Message("assistant", t),), Origin("f"), "text") for t in ("once on", "twice on", "Once, on")]
    first, second, variant = (prompt_key(text) for text in texts)
    assert first != second and first == variant


@pytest.mark.parametrize(
    "other",
    [
        chat("q", "A"),
        chat("q ", "a"),
        chat("q", "a", system="s"),
        chat("q", "a", images=("i.png",)),
        Example(chat("q", "a").messages, Origin("f"), "completion"),
        Example(chat("q", "a").messages, Origin("f"), tools="[]"),
        Example((Message("user", "q"), Message("assistant", "a", "[]")), Origin("f")),
    ],
)
def test_only_identical_rows_are_duplicates(other):
    same = Example(chat("q", "a").messages, Origin("elsewhere", 9))
    assert row_key(chat("q", "a")) == row_key(same) != row_key(other)
