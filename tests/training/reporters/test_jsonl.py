"""metrics.jsonl: strict JSON, whole lines, and no mixing of runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from llm_installer.core.state import Adjustment
from llm_installer.training.reporters import jsonl
from llm_installer.training.reporters.jsonl import JsonlReporter


def strict(path: Path) -> list[dict[str, object]]:
    def refuse(name: str) -> object:
        raise AssertionError(f"{name} is not JSON")

    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n") or not text
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_every_step_and_evaluation_is_one_strict_line(make_story):
    story = make_story()
    reporter = JsonlReporter(story.header)
    reporter.on_start(story.header)
    story.play(reporter)
    reporter.on_end(story.state, story.result())
    records = strict(story.header.run.metrics)
    steps = [record for record in records if record["kind"] == "step"]
    assert [record["step"] for record in steps] == list(range(1, 41))
    assert steps[6]["loss"] is None  # it was not a number
    assert steps[0] == {
        "kind": "step",
        "step": 1,
        "epoch": 0.05,
        "loss": 1.975,
        "learning_rate": 1e-4,
        "grad_norm": 1.25,
        "tokens_per_second": 16.0,
    }
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    assert [(e["train_loss"], e["validation_loss"]) for e in evaluations] == list(story.losses)
    assert [e["best"] for e in evaluations] == [False, True, True, False, False]
    assert set(evaluations[0]) == {
        "kind",
        "step",
        "epoch",
        "train_loss",
        "validation_loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_second",
        "seconds",
        "noise",
        "best",
    }


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_no_number_is_null(make_story, loss):
    story = make_story(validation_rows=0)
    story.losses = ((loss, loss),)
    reporter = JsonlReporter(story.header)
    reporter.on_start(story.header)
    story.play(reporter, evaluations=1)
    (record,) = strict(story.header.run.metrics)
    assert record["train_loss"] is None
    assert record["validation_loss"] is None


def test_steps_wait_for_an_evaluation_or_the_end(make_story):
    story = make_story()
    reporter = JsonlReporter(story.header)
    reporter.on_start(story.header)
    reporter.on_step(story.step(1))
    assert strict(story.header.run.metrics) == []
    reporter.on_end(story.state, None)
    assert len(strict(story.header.run.metrics)) == 1


def test_steps_do_not_wait_long_for_an_evaluation(make_story, monkeypatch):
    monkeypatch.setattr(jsonl, "SECONDS", 0.0)
    story = make_story()
    reporter = JsonlReporter(story.header)
    reporter.on_start(story.header)
    reporter.on_step(story.step(1))
    assert [record["step"] for record in strict(story.header.run.metrics)] == [1]


def test_a_new_run_never_appends_to_an_old_file(make_story):
    story = make_story()
    story.header.run.metrics.write_text("old\n")
    with pytest.raises(FileExistsError):
        JsonlReporter(story.header).on_start(story.header)
    assert story.header.run.metrics.read_text() == "old\n"


def test_a_resumed_run_keeps_what_still_holds(make_story):
    story = make_story()
    first = JsonlReporter(story.header)
    first.on_start(story.header)
    story.play(first, evaluations=3)
    with story.header.run.metrics.open("a") as file:
        file.write('{"kind": "step", "st')  # a power failure
    resumed = make_story(start_step=15)
    second = JsonlReporter(resumed.header)
    second.on_start(resumed.header)
    second.on_step(story.step(16))
    second.on_end(story.state, None)
    assert [r["step"] for r in strict(story.header.run.metrics) if r["kind"] == "step"] == list(range(1, 17))
    assert [r["step"] for r in strict(story.header.run.metrics) if r["kind"] == "evaluation"] == [0, 10]
    assert [path.name for path in story.header.run.root.iterdir()] == ["metrics.jsonl"]


def test_what_a_controller_changed_is_told_once_also_over_a_restart(make_story):
    def change(step: int) -> Adjustment:
        return Adjustment(step, 0.5, 1, True, "the loss rose")

    story = make_story()
    first = JsonlReporter(story.header)
    first.on_start(story.header)
    story.state.adjustments += [change(5)]
    first.on_step(story.step(6))
    first.on_event("save", story.state)
    first.on_end(story.state, None)
    story.state.adjustments += [change(10), change(15)]
    resumed = make_story(start_step=6)
    second = JsonlReporter(resumed.header)
    second.on_start(resumed.header)
    second.on_event("save", story.state)
    second.on_end(story.state, None)
    told = [record for record in strict(story.header.run.metrics) if record["kind"] == "adjustment"]
    assert [record["step"] for record in told] == [5, 10, 15]
    assert told[0] == {
        "kind": "adjustment", "step": 5, "rate_scale": 0.5, "batch_scale": 1, "restore_best": True,
        "why": "the loss rose",
    }  # fmt: skip


WRITE_FOREVER = """
import sys
from pathlib import Path
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.state import Evaluation, RunState, StepReport
from llm_installer.core.run.header import RunHeader
from llm_installer.training.reporters import jsonl
from llm_installer.training.reporters.jsonl import JsonlReporter

root = Path(sys.argv[1])
header = RunHeader("m", "lora", "fast", Run(root), ModelDir(root), 0, 1.0, 3, False, 1, 1)
reporter, state, step = JsonlReporter(header), RunState(), 0
reporter.on_start(header)
while True:
    for step in range(step + 1, step + 50):
        reporter.on_step(StepReport(step, 1.0, 1.0, 1.0, 1.0, 1, 1.0))
    reporter.on_evaluation(Evaluation(step, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0), state, False)
    print(step, flush=True)
"""


def test_a_killed_run_leaves_whole_lines(tmp_path: Path):
    writer = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer, writer.stdout:
        said = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
    evaluated = [record["step"] for record in strict(tmp_path / "metrics.jsonl") if record["kind"] == "evaluation"]
    assert evaluated[: len(said)] == said
