"""Texts in pieces and prompts with a task's name: exact, whole, and where they belong."""

from __future__ import annotations

import pytest

from llm_installer.core.examples import Example, Kind, Message, Origin
from llm_installer.data.store.views import Pieces, Prefixed, prefixed


def example(*turns: tuple[str, str], kind: Kind = "chat", file: str = "a.json") -> Example:
    return Example(tuple(Message(role, text) for role, text in turns), Origin(file, 1), kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("one two three four five", ["one two ", "three four ", "five"]),
        ("  one\n\ntwo\tthree \n", ["  one\n\ntwo\t", "three \n"]),
        ("one two", ["one two"]),
        (" \n", [" \n"]),
        ("", [""]),
        ("a\u00a0b c\u2003d", ["a\u00a0b ", "c\u2003d"]),
    ],
)
def test_pieces_are_words_with_their_space_and_nothing_is_lost(text: str, pieces: list[str]) -> None:
    def split(words: int) -> list[str]:
        plain = example(("assistant", text), kind="text")
        return [piece.messages[0].content for piece in Pieces([plain], words)]

    assert split(2) == pieces
    for words in (1, 2, 3, 100):
        assert "".join(split(words)) == text


def test_only_plain_text_is_cut() -> None:
    chat = example(("user", "one two three"), ("assistant", "four five six"))
    text = example(("assistant", "a b c d e"), kind="text")
    pieces = Pieces([text, chat, text], 2)
    assert [p.messages[0].content for p in pieces] == ["a b ", "c d ", "e", "one two three", "a b ", "c d ", "e"]
    assert pieces[3] is chat and pieces.texts == 2 and pieces.source.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert pieces[1:3] == [pieces[1], pieces[2]] and pieces[-1] == pieces[6]
    assert len(Pieces([], 2)) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            example(("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "R"), ("assistant", "B")),
            ["S", "[QA] Q", "A", "R", "B"],
        ),
        (example(("user", "Q "), ("assistant", "A"), kind="completion"), ["[QA] Q ", "A"]),
        (example(("assistant", "T"), kind="text"), ["[QA] T"]),
        (example(("system", "S"), ("assistant", "A")), ["S", "A"]),
    ],
    ids=["chat", "completion", "text", "no user"],
)
def test_the_prefix_stands_before_the_first_user_turn(before: Example, after: list[str]) -> None:
    assert [m.content for m in prefixed(before, "QA").messages] == after


def test_only_rows_of_the_named_file_are_marked() -> None:
    rows = [example(("user", "Q"), ("assistant", "A"), file=f) for f in ("a.json", "b.json")]
    marked = Prefixed(rows, {"b.json": "QA"})
    assert marked[0] is rows[0] and marked[1].messages[0].content == "[QA] Q"
    assert [r.messages[0].content for r in marked[1:]] == ["[QA] Q"] and len(marked) == 2
