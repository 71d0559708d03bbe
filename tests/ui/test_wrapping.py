"""Lines are broken between words, and within a script without spaces; paths, options and other words stay whole."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.text import Text

from llm_installer.ui.console import Console
from llm_installer.ui.tables import facts
from llm_installer.ui.training import answers
from llm_installer.ui.wrapping import wrapped

CHINESE = (
    "\u8fd9\u5ea7\u5c9b\u53eb\u505a\u706f\u7b3c\u5c9b\uff0c\u56e0\u4e3a\u5efa\u7acb\u8005\u628a\u706f\u7b3c\u6302\u5728\u552f\u4e00\u7684\u6811\u4e0a\u3002"
    * 3
)
JAPANESE = (
    "\u3053\u306e\u5cf6\u306f\u30e9\u30f3\u30bf\u30f3\u30db\u30eb\u30e0\u3068\u547c\u3070\u308c\u3066\u3044\u307e\u3059\u3002"
    * 4
)
TERMINAL = RichConsole(file=io.StringIO(), force_terminal=True, color_system=None)
WHOLE = (
    "/data/\u8bad\u7ec3\u6570\u636e\u7684\u6587\u4ef6\u5939/\u7b2c\u4e00\u4e2a\u6587\u4ef6",
    "\u6570\u636e\u7684\u6587\u4ef6\u5939/\u7b2c\u4e00\u4e2a\u6587\u4ef6",
    "\u5f88\u957f\u5f88\u957f\u7684\u6587\u4ef6\u540d\u5b57.jsonl",
    "--a-very-long-option-of-many-words",
    "https://example.org/a/very/long/address/that/stays",
    "Donaudampfschifffahrtsgesellschaftskapit\u00e4n",
)


def lines(text: str, width: int) -> list[str]:
    return [line.plain for line in wrapped(TERMINAL, Text(text), width)]


@pytest.mark.parametrize("text", [CHINESE, JAPANESE])
@pytest.mark.parametrize("width", [20, 41, 60])
def test_a_text_without_spaces_fills_its_lines(text: str, width: int) -> None:
    found = lines(text, width)
    assert "".join(found) == text and all(width - 4 <= cell_len(line) <= width for line in found[:-1])
    assert not [line for line in found if line[0] in "\uff0c\u3002\u30fc"], "no line begins with what closes"
    assert cell_len(found[-1]) <= width


@pytest.mark.parametrize("word", WHOLE)
def test_what_is_typed_or_a_word_stays_whole(word: str) -> None:
    assert lines(f"see {word} there", 16) == ["see", word, "there"]


def test_a_sentence_keeps_the_latin_words_in_it_whole() -> None:
    found = lines("\u4f7f\u7528GPU\u8bad\u7ec3\uff0c\u6216\u8005\u7528--max-examples\u9009\u9879\u3002" * 3, 20)
    assert max(map(cell_len, found)) <= 20
    assert sum(line.count("--max-examples") for line in found) == sum(line.count("GPU") for line in found) == 3


@given(
    st.text(st.sampled_from("ab -/.\u8fd9\u5c9b\u3002\uff0c\u300c\u300d\u30fc\u0301\ud55c"), max_size=60),
    st.integers(1, 30),
)
def test_nothing_but_spaces_is_lost_at_any_width(text: str, width: int) -> None:
    assert "".join("".join(lines(text, width)).split()) == "".join(text.split())


@pytest.mark.parametrize("width", [60, 80])
def test_an_answer_without_spaces_keeps_its_indent(width: int) -> None:
    file = io.StringIO()
    rich = RichConsole(file=file, width=width, force_terminal=True, color_system=None)
    Console(rich=rich).parts([answers(CHINESE, JAPANESE, base=CHINESE), facts(("name", "one"), ("other", CHINESE))])
    shown = file.getvalue().splitlines()
    assert max(map(cell_len, shown)) <= width
    assert sum(line.startswith(" " * 8) for line in shown) >= 4 and all(line.startswith(" ") for line in shown)
