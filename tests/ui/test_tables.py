"""Columns on a terminal: no width breaks a word that has a place somewhere."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console as RichConsole

from llm_installer.install.installed import Installed
from llm_installer.ui.console import Console
from llm_installer.ui.models import Models
from llm_installer.ui.runs import Differences, short_ids
from llm_installer.ui.tables import Columns
from tests.generated import many
from tests.ui.terminal import words


def drawn(value: object, width: int) -> str:
    file = io.StringIO()
    rich = RichConsole(file=file, width=width or 80, force_terminal=bool(width), color_system=None)
    if isinstance(value, Columns | Differences):
        Console(rich=rich).parts([value])
    else:
        Console(rich=rich).show(value)
    return file.getvalue()


def model(name: str, adapter: str) -> Installed:
    return Installed(Path(name), name, name, "135M", 1, 300 << 20, "2026-11-27", adapter, complete=True)


@pytest.mark.parametrize("width", range(60, 130))
def test_the_list_of_models_breaks_no_adapter(width: int) -> None:
    found = Models([model("SmolLM2-135M-Instruct", "runs/20261127-070000-medium/adapter"), model("tiny", "")])
    text = drawn(found, width)
    assert max(map(len, text.splitlines())) <= width
    assert "runs/20261127-070000-medium/adapter" in text and words(text) == words(drawn(found, 0))
    beside = text.splitlines()[0].endswith("  adapter") and "parameters" in text.splitlines()[0]
    assert beside == (width >= 92), "below the others only where it has no place beside them"


@settings(max_examples=many(60), deadline=None)
@given(
    st.lists(st.tuples(*[st.lists(st.integers(1, 30), min_size=1, max_size=4)] * 4), min_size=1, max_size=4),
    st.sampled_from([None, 0, 1]),
)
def test_a_word_that_has_a_place_below_is_not_broken(lengths: list[tuple[list[int], ...]], below: int | None) -> None:
    rows = [[" ".join("x" * length for length in cell) for cell in row] for row in lengths]
    first, second = (max(max(row[i]) for row in lengths) for i in (0, 1))
    rest = [max(max(row[i]) for row in lengths) for i in (2, 3)]
    width = 1 + first + second + sum(rest) + 3 * 2
    text = drawn(Columns(rows, below=below), width)
    assert max(map(len, text.splitlines())) <= width


RUNS = ("20261126-090000-medium", "20261127-100000-medium")
PATH = "/home/somebody/projects/island/data/{}.jsonl"


@pytest.mark.parametrize("width", range(60, 121, 5))
def test_two_runs_are_named_wherever_their_values_stand(width: int) -> None:
    rows = [("data", PATH.format("one"), PATH.format("other")), ("learning_rate", "0.001", "0.002")]
    text = drawn(Differences(RUNS, rows), width)
    assert max(map(len, text.splitlines())) <= width
    assert PATH.format("one") in text and PATH.format("other") in text
    labels = [label for label in ("090000-medium", "100000-medium") for line in text.splitlines() if label in line]
    beside = RUNS[0] in text
    assert beside == (width >= 110) and len(labels) == (2 if beside else 4)


@pytest.mark.parametrize(
    ("ids", "short"),
    [
        (RUNS, ("090000-medium", "100000-medium")),
        (("20261126-090000-medium", "20261127-090000-medium"), ("20261126-090000-medium", "20261127-090000-medium")),
        (("mine", "20261127-090000-medium"), ("mine", "090000-medium")),
        (("a-b-c-d", "x-b-c-d"), ("a-b-c-d", "x-b-c-d")),
    ],
)
def test_short_ids_tell_two_runs_apart(ids: tuple[str, str], short: tuple[str, str]) -> None:
    assert short_ids(*ids) == short
