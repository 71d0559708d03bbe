"""How an evaluation looks on terminals of 60 to 200 columns, in a report, and with hostile text in it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from llm_installer.evals.metrics import METRICS
from llm_installer.evals.picture import limits
from llm_installer.evals.report import report
from llm_installer.evals.result import Column, Difference, EvalResult, Flip, Flips, Group, Interval
from llm_installer.evals.writing import as_object
from llm_installer.ui.console import Console, Terminal

RUN = "run 20261121-100000-medium"


def made(*more: str) -> EvalResult:
    """The base, a run, and further systems."""
    names = ("base", RUN, *more)
    scores = {name: 0.5 for name in METRICS}
    columns = tuple(Column(n, (n != "base" and n) or "", scores, {"f1": Interval(0.4, 0.6)}, 60, 0, 900) for n in names)
    apart = Difference("loss", RUN, "base", 0.12, Interval(0.08, 0.16), 0.001, 0.001, 60, 60, 0.04)
    flip = Flip("test.jsonl:5", "What\x1b[2J colour?", "red", "blue\nor so", "red " * 90)
    groups = (Group("a.jsonl", 40, {n: scores for n in names}), Group("b.jsonl", 20, {n: scores for n in names}))
    flips = (Flips("base", RUN, (flip,), ()),)
    prompt = "<|im_start|>user\nWhat\\u001b colour?<|im_end|>\n<|im_start|>assistant\n"
    tasks = {n: {"arc_easy, acc": 0.5} for n in names}
    return EvalResult(
        Path("evals/1"), "tiny", "test.jsonl", 60, columns, (apart, replace(apart, metric="acc", prompts=5)),
        prompt, groups, flips, ("a note",), tasks,
    )  # fmt: skip


def shown(found: EvalResult, width: int, terminal: bool = True) -> str:
    out = io.StringIO()
    Console(rich=Terminal(file=out, width=width, force_terminal=terminal, color_system=None)).show(found)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("more", [(), ("run 20261122-090000-fast", "./another")])
def test_nothing_runs_over_the_edge_of_a_terminal(width: int, more: tuple[str, ...]) -> None:
    text = shown(made(*more), width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "95% interval" in " ".join(text.split())
    words = set(text.split())
    for title in (METRICS[name].title for name in METRICS):
        assert set(title.split()) <= words
    for name in ("base", RUN, *more):
        assert set(name.split()) <= words
    assert "\x1b" not in text and "What\\u001b[2J colour?" in text


@pytest.mark.parametrize(
    ("given", "axis"),
    [
        ((0.0, 0.0, True), (0.0, 5.0)),
        ((-0.05, 0.05, True), (0.0, 5.05)),
        ((100.0, 100.0, True), (95.0, 100.0)),
        ((-2.0, 40.0, True), (0.0, 40.0)),
        ((-2.0, 140.0, False), (-2.0, 140.0)),
    ],
)
def test_the_axis_of_a_share_lies_between_0_and_100(
    given: tuple[float, float, bool], axis: tuple[float, float]
) -> None:
    low, high, share = given
    assert limits(low, high, share=share) == axis


def test_a_pipe_gets_one_line_a_row() -> None:
    lines = shown(made(), 60, terminal=False).splitlines()
    assert f"  {made().differences[0]}" in lines
    assert any(line.split() == ["perplexity", "0.50", "0.50"] for line in lines)


def test_the_report_and_the_object_say_the_same() -> None:
    found = made()
    text, held = report(found), as_object(found)
    assert "| F1, % | 50.0 (40.0 to 60.0) | 50.0 (40.0 to 60.0) |" in text
    assert f"- {found.differences[0]}" in text and "\x1b" not in text
    assert "| a.jsonl | 40 |" in text and "1 row turned right" in text and "| arc\\_easy" not in text
    assert held["differences"][0]["said"] == str(found.differences[0])
    assert held["differences"][1]["verdict"] == "too few" and "folder" not in held
