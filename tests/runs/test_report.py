"""report.md and what the console says of it: pure text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from llm_installer.core.changes import Changes, Pair, RowLoss
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.core.run.samples import Sample
from llm_installer.core.state import Result
from llm_installer.inference.before_after import Comparison
from llm_installer.inference.generate import Answer
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.registry import find_handler
from llm_installer.runs.report import NamedRow, Report, in_short, render, stands_out


@pytest.fixture
def report(tiny_llama: Path) -> Report:
    info = read_model_info(tiny_llama)
    facts = DataFacts(40, 5, "instruct", 50, 100)
    cpu = Hardware("cpu", "CPU", 1, 8 * GIB, 8 * GIB, False, 2)
    plan = make_plan(Options(data="x"), info, find_handler(info), cpu, facts, (256, "test"))
    losses = [RowLoss(i, i % 9 == 0, 4.0, 3.0 - i / 15) for i in range(45)]
    odd = Comparison("a | <b>\n*c*", "", Answer("x_y_z", True), Answer("`q`", False))
    said = Comparison("Which?", "It is red.", Answer("", False), Answer("It is red.", True))
    return Report(
        model="tiny",
        run="20261121-120000-fast",
        data="my.json",
        plan=plan,
        result=Result(Path("r"), Path("r/adapter"), 60, 40, 4.0, 1.5, "all epochs are done", True),
        changes=Changes(
            Pair(4.0, 1.0, 40), Pair(4.0, 1.5, 5), Pair(3.0, 3.6, 30, 0.1), tuple(losses), Pair(1.0, 2.9, 32, 0.04)
        ),
        rows=[NamedRow(f"my.json:{row.source + 1}", row) for row in losses],
        answers=[said, odd],
        validation=True,
        samples=[(0, [Sample("Who?", "I", True)]), (40, [Sample("Who?", "Tiny.", True)])],
        lora="./lora is now the adapter of this run.",
        talk="/models/tiny/start.sh",
        picture="training_history.png",
    )


def test_everything_promised_is_in_it(report: Report) -> None:
    text = render(report)
    for line in (
        "# tiny: run 20261121-120000-fast",
        "Trained on my.json for 60 steps. Stopped because all epochs are done.",
        "./lora is now the adapter of this run.",
        "    /models/tiny/start.sh",
        "![Loss over the run](training_history.png)",
        "| loss on 40 training rows | 4.0000 | 1.0000 | -3.000 | 54.6 -> 2.72 |",
        "| loss on 5 validation rows | 4.0000 | 1.5000 | -2.500 | 54.6 -> 4.48 |",
        "| loss on 30 sentences of general text | 3.0000 | 3.6000 | +0.600 | 20.1 -> 36.6 |",
        "| answers that end by themselves (2 asked) | 50% | 50% |   |   |",
        "| loss on 32 samples of text that the base wrote | 1.0000 | 2.9000 | +1.900 | 2.72 -> 18.2 |",
        "- General text (30 sentences): loss per token +0.60, beyond the noise of 0.20.",
        "- Text that the base wrote (32 samples): loss per token +1.90, beyond the noise of 0.08.",
        "Forgetting: much, but less than it learned (the loss on validation rows fell by 2.50).",
        "| prompt | Which? |",
        "| expected | It is red. |",
        "| base |   |",
        "| prompt | step 0 | step 40 |",
        "| Who? | I | Tiny. |",
        "## Rows with the highest loss\n",
        "| my.json:1 | 3.000 | 4.000 | validation |",
        "## Rows with the lowest loss: memorised",
        "| my.json:45 | 0.067 | 4.000 | training |",
        "Evaluated one by one: 45 rows, training and validation. 1 row with a loss of at most 0.1: memorised.",
        "| LoRA rank | 8 |",
    ):
        assert line in text, line
    worst, best = text.split("## Rows with the ")[1:]
    assert worst.count("my.json:") == 20 and best.split("## Plan")[0].count("my.json:") == 5


@pytest.mark.parametrize(
    ("losses", "far"),
    [
        ([2.0] * 30, False),
        ([2.0 + i / 30 for i in range(30)], False),
        ([0.05] * 29 + [0.4], False),
        ([2.0] * 29 + [5.0], True),
        ([0.05] * 29 + [1.5], True),
        ([], False),
    ],
)
def test_rows_are_called_wrong_only_where_they_stand_out(report: Report, losses: list[float], far: bool) -> None:
    rows = [NamedRow(f"my.json:{i}", RowLoss(i, False, 4.0, loss)) for i, loss in enumerate(sorted(losses)[::-1])]
    assert stands_out(rows) is far
    if rows:
        found = dataclasses.replace(report, rows=rows)
        assert ("likely wrong or hard" in render(found)) is ("likely wrong or hard" in " ".join(in_short(found))) is far


def test_what_people_write_is_no_markup(report: Report) -> None:
    text = render(report)
    assert r"| prompt | a \| \<b> \*c\* |" in text
    assert r"| base | x_y_z |" in text and r"| tuned | \`q\` |" in text


def test_it_says_how_long_the_run_was_to_take_and_took(report: Report) -> None:
    took = "Predicted about 4 to 6 minutes, took 5 minutes."
    assert f"\n{took}\n" in render(dataclasses.replace(report, took=took)) and "Predicted" not in render(report)


def test_without_answers_samples_and_picture_the_rest_is_there(report: Report) -> None:
    changes = dataclasses.replace(report.changes, validation=None)
    text = render(dataclasses.replace(report, answers=[], samples=[], picture="", changes=changes))
    for absent in ("side by side", "Your own", "![", "validation rows", "end by themselves"):
        assert absent not in text
    assert "## Plan" in text and "Forgetting: " in text and "\n\n\n" not in text


def test_training_rows_are_called_so(report: Report) -> None:
    assert "The questions are from training rows, for there are no validation rows." in render(
        dataclasses.replace(report, validation=False)
    )


def test_few_rows_are_not_in_both_lists(report: Report) -> None:
    text = render(dataclasses.replace(report, rows=report.rows[:8]))
    worst, best = text.split("## Rows with the ")[1:]
    assert (worst.count("my.json:"), best.split("## Plan")[0].count("my.json:")) == (3, 5)
    assert "lowest loss: the easiest" in text and "None of them is memorised." in text


def test_the_console_hears_the_shortest(report: Report) -> None:
    assert in_short(report) == [
        "General text (30 sentences): loss per token +0.60, beyond the noise of 0.20.",
        "Text that the base wrote (32 samples): loss per token +1.90, beyond the noise of 0.08.",
        "Forgetting: much, but less than it learned (the loss on validation rows fell by 2.50).",
        "Highest loss: my.json:1 (3.0), my.json:2 (2.9), my.json:3 (2.9).",
        "Memorised: 1 of the 45 rows evaluated one by one.",
    ]
