"""Mistakes in keywords are one sentence in the words of Python, before anything is looked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from llm_installer import api
from llm_installer.core.errors import UsageError

ANY: Any = api


@pytest.mark.parametrize(
    "call",
    [
        partial(ANY.merge, "tiny", run=""),
        partial(ANY.merge, "tiny", to=" "),
        partial(ANY.export, "tiny", lora=""),
        partial(ANY.export, "tiny", out=""),
        partial(ANY.push, "tiny", ""),
        partial(ANY.push, "tiny", run=""),
        partial(ANY.load, "tiny", run=""),
        partial(ANY.evaluate, "tiny", "a.jsonl", run=""),
    ],
)
def test_a_name_that_is_empty_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"^\w+='\s?': it is empty; give a value, or leave it out$"):
        call()


@pytest.mark.parametrize(
    "call", [partial(ANY.export, "tiny"), partial(ANY.push, "tiny"), partial(ANY.evaluate, "tiny")]
)
def test_an_unknown_keyword_is_refused_with_the_nearest(call: Callable[..., object]) -> None:
    with pytest.raises(UsageError, match=r"^There is no option 'rum'; did you mean 'run'\?$"):
        call(rum="last")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seed": -1}, "seed=-1: "),
        ({"seed": "x"}, "seed='x': "),
        ({"answers_as": "xml"}, "answers_as='xml': "),
        ({"max_examples": 0}, "max_examples=0: "),
    ],
)
def test_evaluate_takes_what_the_command_takes(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ANY.evaluate("tiny", "a.jsonl", **given)
