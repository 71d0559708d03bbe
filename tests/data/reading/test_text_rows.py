"""What a row of a plain text file is: decided from the file, or as asked; and nothing of the text is lost."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.cli.main import cli
from llm_installer.core.errors import UsageError
from llm_installer.data.prepare import read
from llm_installer.data.reading.text_rows import (
    LINES,
    PARAGRAPHS,
    PIECE,
    SMALLEST,
    WHOLE,
    by_line,
    by_paragraph,
    by_piece,
    choose,
)
from llm_installer.data.store.views import Pieces
from llm_installer.planning.options import Options
from tests.generated import many

SENTENCE = "The keeper lit the lamp at nine, and nobody on the island saw it go out again before the morning came. "
PROSE = "\n\n".join(textwrap.fill(SENTENCE * n, 64) for n in (3, 5, 2, 4, 6, 1))
PLAY = """First Citizen:
Before we proceed any further, hear me speak to
All of you here in the market and
Be still.

All:
Speak, speak to us now.

Second Citizen:
Would you proceed especially against
The man who never was our friend,
But only his own?

Menenius:
What work, my countrymen, is in hand? Where go you
With bats and clubs? The matter? Speak,
I pray you.

Coriolanus:
Thanks. What is the matter, you rogues,
That, rubbing the poor itch of your opinion,
Make you so?
"""
RECORDS = "\n\n".join(f"Q: Who keeps lamp {i}?\nA: Keeper {i} does.\nHe came in 19{i:02}." for i in range(8))
STANZA = "The sea is high again today,\nthe lamp is out and far away\nThe gulls come in, and grey\nis all"
POEM = "\n\n".join([STANZA] * 5)
GUIDE = "This is a sample text for training.\nEach line becomes a training example.\n"
LISTS = {
    "guide": GUIDE,
    "sentences": "\n".join(f"Keeper {i} came in 19{i:02}. He stayed for {i} years." for i in range(40)),
    "words": "\n".join(["apple", "banana", "carrot", "dill", "elder", "fennel"] * 6),
    "sections": "\n\n".join("\n".join([f"Section {i}", *["apple tree", "plum", "fig"][: 1 + i % 3]]) for i in range(9)),
    "transcripts": "\n".join(f"and then she went to the market number {i} with her mother" for i in range(30)),
    "log": "\n".join(f"2026-11-{i:02} 10:00:00 INFO server started on port {i}" for i in range(1, 29)),
    "articles": "\n".join(SENTENCE * 40 for _ in range(6)),
    "lines of a play": "\n".join(["we become rakes: the gods know. I speak this in", "hunger", "All of it."] * 9),
    "verses": "\n".join(["Before we proceed any further, hear me speak", "You are all resolved rather to die"] * 10),
    "one line": "Just this.",
    "nothing": "\n \n",
}  # fmt: skip


def lines(text: str) -> list[tuple[int, str]]:
    found = text.split("\n")
    return list(enumerate(found[:-1] if not found[-1] else found, 1))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        *((PROSE, WHOLE), (PLAY, WHOLE), (RECORDS, PARAGRAPHS), (POEM, PARAGRAPHS)),
        *((text, LINES) for text in LISTS.values()),
    ],
    ids=["prose", "play", "records", "poem", *LISTS],
)  # fmt: skip
def test_it_is_decided_from_the_text(text: str, rows: str) -> None:
    assert choose(lines(text)).rows == rows


@pytest.mark.parametrize("width", [40, 60, 72, 100])
@pytest.mark.parametrize("blank", [1, 2])
def test_wrapped_prose_is_running_text_at_every_width(width: int, blank: int) -> None:
    paragraphs = [textwrap.fill(SENTENCE * n, width) for n in (4, 3, 5)]
    assert choose(lines(("\n" * (blank + 1)).join(paragraphs))).rows == WHOLE
    assert choose(lines("\n".join(paragraphs))).rows == WHOLE


short = st.text(st.sampled_from("ab. C\u4e2d"), max_size=90)
texts = st.lists(short | st.just("word " * 300), max_size=120).map("\n".join)


@settings(max_examples=many(150), deadline=None)
@given(texts)
def test_nothing_of_a_text_is_lost(text: str) -> None:
    source = lines(text)
    pieces = list(by_piece(source))
    whole = "\n".join(line for _, line in source).rstrip("\n")
    assert "".join(piece.text for piece in pieces).rstrip("\n") == (whole if whole.strip() else "")
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True] * bool(pieces)
    for make in (by_line, by_paragraph, by_piece):
        found = list(make(source))
        assert all(piece.text.strip() for piece in found)
        assert [piece.line for piece in found] == sorted({piece.line for piece in found})
        kept = [line for piece in found for line in piece.text.split("\n") if line.strip()]
        assert kept == [line for _, line in source if line.strip()]
        assert all(source[piece.line - 1][1] == piece.text.split("\n")[0] for piece in found)


def test_pieces_are_cut_after_paragraphs_and_are_many_enough_to_hold_some_out() -> None:
    paragraph = textwrap.fill(SENTENCE * 8, 70) + "\n\n"
    short, long = list(by_piece(lines(paragraph * 24))), list(by_piece(lines(paragraph * 1200)))
    assert all(piece.text.endswith(".\n\n") for piece in (*short[:-1], *long[:-1]))
    assert len(short) >= 10 and all(SMALLEST <= len(piece.text) < 3 * SMALLEST for piece in short[:-1])
    assert all(PIECE <= len(piece.text) < PIECE + len(paragraph) for piece in long[:-1])


def read_text(folder: Path, text: str, **more: object) -> list[tuple[str, bool]]:
    file = folder / "book.txt"
    file.write_text(text, encoding="utf-8", newline="")
    given = read(Options(data=str(file), validation_split=0.0, **more), folder)  # type: ignore[arg-type]
    examples = sorted(given.train, key=lambda example: example.origin.line)
    return [(example.messages[0].content, example.ends) for example in examples]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_running_text_reaches_training_whole_and_ends_once(tmp_path: Path, end: str) -> None:
    text = PROSE + "\n\nThe end."
    found = read_text(tmp_path, text.replace("\n", end))
    assert "".join(said for said, _ in found) == text
    assert [ends for _, ends in found] == [False] * (len(found) - 1) + [True]


def test_it_is_as_asked(tmp_path: Path) -> None:
    assert len(read_text(tmp_path, PROSE, text_rows="lines")) == len([x for x in set(PROSE.split("\n")) if x])
    assert len(read_text(tmp_path, PROSE, text_rows="paragraphs")) == 6
    assert len(read_text(tmp_path, GUIDE)) == 2
    assert [said for said, _ in read_text(tmp_path, GUIDE, text_rows="whole")] == [GUIDE.rstrip("\n")]


def test_words_are_counted_within_pieces_and_only_the_last_ends(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(PROSE, encoding="utf-8")
    given = read(Options(data=str(tmp_path / "book.txt"), validation_split=0.0, chunk_words=20), tmp_path)
    assert isinstance(given.train, Pieces)
    assert sum(example.ends for example in given.train) == 1


def test_the_reason_is_said_with_how_to_change_it(tmp_path: Path) -> None:
    for name, text in (("book.txt", PROSE), ("list.txt", GUIDE), ("more.txt", GUIDE + "More.")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    notices = json.loads(CliRunner().invoke(cli, ["data", str(tmp_path), "--json"]).output)["notices"]
    book, entries = sorted(notice for notice in notices if "--text-rows" in notice)
    assert "book.txt: it is read as one text, in rows as long as the model reads, because its lines break" in book
    assert book.endswith("; --text-rows lines changes that")
    assert "list.txt and 1 more text file: each line is a row, because its lines stand for themselves" in entries
    said, *_ = read(Options(data=str(tmp_path / "book.txt"), text_rows="lines"), tmp_path).loaded.notices
    assert said.endswith("book.txt: each line is a row, because you set it")


def test_it_is_refused_where_there_is_no_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b"}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"--text-rows says how \.txt files are read, and there is none"):
        read(Options(data=str(tmp_path / "a.jsonl"), text_rows="whole"), tmp_path)
