"""The words of a report: every form of the evaluation line, the end, folding, and whole appends."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from llm_installer.core.state import Evaluation, RunState
from llm_installer.core.text import clock
from llm_installer.training.reporters.lines import (
    append_whole,
    end_fields,
    evaluation_fields,
    fold,
    perplexity_text,
    start_fields,
    wrap,
)


def state_at(number: int, best: float | None, patience: int) -> RunState:
    history = [Evaluation(10 * i, 0.5, 1.0, 1.0, 1e-4, 1.0, 1.0, 1.0) for i in range(number + 1)]
    return RunState(step=10 * number, best_loss=best, evaluations_without_improvement=patience, history=history)


GUIDE = "Evaluation #7 | Time: 00:15:32 | Train Loss: 0.5234 | Val Loss: 0.6123 | Best Val: 0.5890 | Patience: 1/3"
TEXT = "Train Loss: 1.8234 | Val Loss: 2.1123 | Perplexity: 8.3 | Best Val: 2.0890"


@pytest.mark.parametrize(
    ("changes", "losses", "best", "expected"),
    [
        ({}, (0.5234, 0.6123), 0.589, GUIDE),
        ({"perplexity": True}, (1.8234, 2.1123), 2.089, f"Evaluation #7 | Time: 00:15:32 | {TEXT} | Patience: 1/3"),
        (
            {"validation_rows": 0},
            (0.5234, None),
            0.5,
            "Evaluation #7 | Time: 00:15:32 | Train Loss: 0.5234 | Best Train: 0.5000 | Patience: 1/3",
        ),
        (
            {"validation_rows": 0, "perplexity": True, "patience": 0},
            (math.log(4), None),
            0.5,
            "Evaluation #7 | Time: 00:15:32 | Train Loss: 1.3863 | Perplexity: 4.0 | Best Train: 0.5000",
        ),
        (
            {"perplexity": True},
            (math.nan, math.inf),
            None,
            "Evaluation #7 | Time: 00:15:32 | Train Loss: - | Val Loss: inf | Perplexity: inf | Best Val: - "
            "| Patience: 1/3",
        ),
    ],
)
def test_evaluation_line_is_the_guides(make_header, changes, losses, best, expected):
    evaluation = Evaluation(70, 3.5, *losses, 1e-4, 1.0, 1.0, 932.9)
    fields = evaluation_fields(make_header(**changes), evaluation, state_at(7, best, 1), best=False)
    assert " | ".join(fields) == expected


def test_half_an_evaluation_says_why(make_header):
    evaluation = Evaluation(70, 3.5, 0.5234, 0.6123, 1e-4, 1.0, 1.0, 932.9, 0.0312)
    state = RunState(step=70, best_loss=0.589, base_loss=1.2, evaluations_without_improvement=1.5, history=[evaluation])
    line = " | ".join(evaluation_fields(make_header(), evaluation, state, best=False))
    assert line == GUIDE.replace("#7", "#1").replace("1/3", "1.5/3, within the noise of 0.031")


def test_new_best_is_marked_behind_the_line(make_header):
    evaluation = Evaluation(70, 3.5, 0.5234, 0.6123, 1e-4, 1.0, 1.0, 932.9)
    assert " | ".join(evaluation_fields(make_header(), evaluation, state_at(7, 0.589, 1), best=True)) == (
        f"{GUIDE} | New best"
    )


def test_a_best_that_is_worse_than_the_base_model_is_no_new_best(make_story):
    story = make_story()
    story.losses = ((2.0, 2.1), (2.2, 2.4), (2.1, 2.1), (1.9, 2.0), (1.8, 2.2))
    said = []
    for number in range(5):
        evaluation = story.evaluation(number)
        best = story.state.record(evaluation)
        said.append(evaluation_fields(story.header, evaluation, story.state, best)[-1])
    worse = "Not better than the base model"
    assert said == ["Patience: 0/3", worse, worse, "New best", "Patience: 1/3"]
    assert story.state.best_step == 30, "the choice of the weights is as it was"


def test_step_zero_is_the_base_model(make_header):
    evaluation = Evaluation(0, 0.0, 2.0, 2.1, 0.0, 0.0, 0.0, 3.0)
    assert " | ".join(evaluation_fields(make_header(), evaluation, state_at(0, None, 0), best=False)) == (
        "Evaluation #0 (before training) | Time: 00:00:03 | Train Loss: 2.0000 | Val Loss: 2.1000 | Best Val: - "
        "| Patience: 0/3"
    )


def test_evaluations_are_counted_without_the_base_model_even_if_it_was_not_measured(make_header):
    state = state_at(2, 1.0, 0)
    del state.history[0]
    assert evaluation_fields(make_header(), state.history[-1], state, best=False)[0] == "Evaluation #2"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "00:00:00"), (59.99, "00:00:59"), (3600 * 25 + 61, "25:01:01"), (3600 * 100, "100:00:00")],
)
def test_clock(seconds, expected):
    assert clock(seconds) == expected


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(0.0, "1.0"), (20.0, "4.9e+08"), (701.0, "inf"), (math.inf, "inf"), (math.nan, "-"), (None, "-")],
)
def test_perplexity_never_overflows(loss, expected):
    assert perplexity_text(loss) == expected


def test_start_says_what_is_trained(make_header):
    assert start_fields(make_header()) == [
        "Training tiny",
        "lora, fast",
        "1,234 training rows, 137 validation rows",
        "up to 80 steps",
    ]
    resumed = start_fields(make_header(validation_rows=0, total_steps=0, start_step=1200))
    assert resumed[2:] == ["1,234 training rows", "until stopped (resumed after step 1,200)"]


def test_end_says_how_and_what(make_story):
    story = make_story()
    story.state.step = 40
    for number in range(5):
        story.state.record(story.evaluation(number))
    assert " | ".join(end_fields(story.header, story.state, story.result())) == (
        "Trained 40 steps in 00:08:22 | Ended: no improvement | Best Val: 1.4000 at step 20 | Base model: 2.1000"
    )
    assert " | ".join(end_fields(story.header, story.state, None)) == (
        "Training ended early, at step 40 | Best Val: 1.4000 at step 20 | Base model: 2.1000"
    )


def test_end_before_anything_was_measured(make_header):
    assert end_fields(make_header(), RunState(), None) == ["Training ended early, at step 0"]


@pytest.mark.parametrize("width", range(60, 131))
def test_folding_keeps_every_field_whole_and_within_the_width(width):
    rows = fold(GUIDE.split(" | "), width)
    assert all(len(row) <= width for row in rows)
    assert " ".join(row.strip() for row in rows) == GUIDE


@pytest.mark.parametrize("width", [60, 61, 80, 119, 120, 200])
@pytest.mark.parametrize("letter", ["a", "\u732b"])
def test_wrapping_breaks_between_words_only(width, letter):
    text = " ".join(letter * (1 + i * 7 % 13) for i in range(120)) + "\n  indented " + "word " * 40
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert " ".join(lines).split() == text.split()
    assert lines[1].startswith("  ") and all(line.startswith("  ") for line in lines[-2:])
    full = [line for line in lines if cell_len(line) > width - 30]
    assert len(full) >= len(lines) - 2, "no line is broken early"


def test_a_word_wider_than_the_line_is_not_cut():
    path = "/a" * 60
    assert wrap(f"See {path} for more", 60) == ["See", f"  {path}", "  for more"]
    assert wrap("short  and\n\n  as it was", 60) == ["short  and", "", "  as it was"]


def test_a_field_wider_than_the_row_is_wrapped():
    rows = fold(["Training tiny", "a reason that goes on and on " * 4, "end"], 60)
    assert all(len(row) <= 60 for row in rows) and len(rows) == 4


def test_what_fits_is_not_folded():
    assert fold(GUIDE.split(" | "), len(GUIDE) + 2) == [GUIDE]


FILL = """
import resource, sys
from pathlib import Path
from llm_installer.core.text import clock
from llm_installer.training.reporters.lines import append_whole

resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    append_whole(Path(sys.argv[1]), b"b" * 80)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_an_append_that_does_not_fit_leaves_nothing(tmp_path: Path):
    path = tmp_path / "file"
    append_whole(path, b"a" * 50)
    ended = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True)
    assert ended.stdout == "File too large\n"
    assert path.read_bytes() == b"a" * 50
