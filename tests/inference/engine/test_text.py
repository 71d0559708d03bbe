"""Text that grows token by token: joined it is the whole, no piece has half a character or a part of a stop text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llm_installer.inference.engine.text import UNFINISHED, Text
from llm_installer.install.tiny import MODEL_DIR

SHARED = Path(__file__).parents[4] / "shared"
Decode = Callable[[list[int]], str]


@cache
def decoder(folder: Path) -> tuple[Decode, Decode, int]:
    """(ids to text, text to ids, size of the vocabulary): byte-level BPE, and BPE with byte fallback and spaces."""
    backend = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    return (
        lambda ids: backend.decode(ids, skip_special_tokens=True),
        lambda text: backend.encode(text, add_special_tokens=False).ids,  # type: ignore[arg-type, return-value]
        backend.get_vocab_size(),
    )


FOLDERS = [MODEL_DIR, *([SHARED / "models" / "stories260K"] if SHARED.exists() else [])]
WRITTEN = st.text(st.sampled_from("ab e\n'é漢😀👩‍👩‍👧 \ufffd"), max_size=40)


def grown(text: Text, ids: list[int]) -> list[str]:
    pieces = [text.add(token) for token in ids]
    return [*pieces, text.end()]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@given(data=st.data())
def test_pieces_joined_are_the_whole(folder: Path, data: st.DataObject) -> None:
    decode, encode, size = decoder(folder)
    if data.draw(st.booleans()):
        ids = encode(data.draw(WRITTEN))  # type: ignore[arg-type]
    else:
        ids = data.draw(st.lists(st.integers(0, size - 1), max_size=30))
    pieces = grown(Text(decode), list(ids))  # type: ignore[arg-type]
    whole = decode(list(ids))  # type: ignore[arg-type]
    # Bytes that are no text take those before them along where a tokenizer falls back to bytes; they were said by then.
    assert "".join(pieces) == whole or UNFINISHED in whole
    assert not any(piece.endswith(UNFINISHED) for piece in pieces[:-1])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@given(text=WRITTEN, data=st.data())
def test_a_stop_text_ends_it_and_nothing_of_it_is_said(folder: Path, text: str, data: st.DataObject) -> None:
    decode, encode, _ = decoder(folder)
    ids = list(encode(text))  # type: ignore[arg-type]
    whole = decode(ids)
    stops = data.draw(st.lists(st.text(st.sampled_from("ab e\n'é漢😀"), min_size=1, max_size=4), max_size=3))
    if whole and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) - 1))
        stops.append(whole[at : at + data.draw(st.integers(1, 5))])
    grower = Text(decode, stops)
    said = "".join(grown(grower, ids))
    ends = [whole.find(stop) for stop in stops if stop in whole]
    # A stop that a later piece completes earlier in the text than another one has already ended it is not waited for.
    assert grower.stopped == bool(ends)
    assert whole.startswith(said)
    assert not any(stop in said for stop in stops)
    if not ends:
        assert said == whole


def test_what_may_become_a_stop_text_waits_until_it_cannot() -> None:
    text = Text(lambda ids: "".join(map(chr, ids)), ["STOP"])
    assert [text.add(ord(c)) for c in "aSTx"] == ["a", "", "", "STx"]
    assert text.end() == ""
    assert [text.add(ord(c)) for c in "ST"] == ["", ""] and text.end() == "ST"
