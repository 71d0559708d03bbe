"""Patterns from files are compared with names of layers: those that could take for ever are known by their shape."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.core.patterns import is_quick

NAME = "base_model.model.model.language_model.layers.27.self_attn.q_proj"


@pytest.mark.parametrize(
    "pattern",
    [
        "q_proj",
        r".*\.(q|k)_proj",
        r"model\.layers\.(\d+)\.self_attn\.[qkv]_proj",
        r"^(?!.*visual).*(?:q_proj|k_proj).*",
        r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:k_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn))",
    ],
)
def test_what_people_write_is_quick(pattern: str) -> None:
    assert is_quick(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){30}x", "(?:x+x+)+y", "((ab)?c*)+", ".*" * 9 + "x"])
def test_what_may_take_for_ever_is_not(pattern: str) -> None:
    assert not is_quick(pattern)


PIECES = st.sampled_from(
    ["a", "e", ".", ".*", ".+?", "\\d+", "(a|e)", "(?:a|ee)?", "(a+)*", "[a-z]+", "(?=.*e)", "{2,}", "$"]
)


@given(st.lists(PIECES, max_size=7))
def test_whatever_is_called_quick_is_quick(pieces: list[str]) -> None:
    pattern = "".join(pieces)
    if is_quick(pattern):
        begun = time.process_time()
        with suppress(re.error):
            re.fullmatch(pattern, NAME + "e" * 40 + "!")
        assert time.process_time() - begun < 1, pattern
