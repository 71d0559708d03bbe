"""Event files, read back the way TensorBoard reads them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from llm_installer.core.run.samples import Sample
from llm_installer.training.reporters.tensorboard import FLUSH_SECONDS, TensorBoardReporter


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def read(logs: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = EventAccumulator(str(logs))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def test_every_curve_reads_back(make_story):
    story = make_story()
    reporter = TensorBoardReporter(story.header, Clock())
    reporter.on_start(story.header)
    story.play(reporter)
    reporter.on_end(story.state, None)
    curves = read(story.header.run.logs)
    assert set(curves) == {
        "loss/train_step",
        "loss/train",
        "loss/validation",
        "optimizer/learning_rate",
        "optimizer/grad_norm",
        "tokens_per_second",
        "progress/epoch",
        "memory/resident_gib",
    }
    at = [0, 10, 20, 30, 40]
    assert curves["loss/train"] == [(s, pytest.approx(t)) for s, (t, _) in zip(at, story.losses, strict=True)]
    assert curves["loss/validation"] == [(s, pytest.approx(v)) for s, (_, v) in zip(at, story.losses, strict=True)]
    assert [step for step, _ in curves["loss/train_step"]] == list(range(1, 41))
    assert math.isnan(curves["loss/train_step"][6][1])
    assert curves["tokens_per_second"] == [(step, 16.0) for step in range(1, 41)]
    assert curves["progress/epoch"][19] == (20, 1.0)
    assert read(story.header.run.logs / "train")["loss"] == curves["loss/train"]
    assert read(story.header.run.logs / "validation")["loss"] == curves["loss/validation"]
    assert {name for name in curves if name < "loss"} == set(), "the losses come first"
    assert all(0.01 < held < 1000 for _, held in curves["memory/resident_gib"])


def test_answers_read_back_as_text(make_story):
    story = make_story()
    reporter = TensorBoardReporter(story.header)
    reporter.on_start(story.header)
    for number, said in ((0, "I do not know"), (1, "Blue.\nVery \u00e9 blue.")):
        reporter.on_samples(story.evaluation(number), [Sample("Which colour?", said, True), Sample("Who?", "I", False)])
    accumulator = EventAccumulator(str(story.header.run.logs))
    accumulator.Reload()
    assert accumulator.Tags()["tensors"] == ["samples/1", "samples/2"]
    events = accumulator.Tensors("samples/1")
    texts = [event.tensor_proto.string_val[0].decode() for event in events]
    assert [event.step for event in events] == [0, 10]
    assert texts == ["**Which colour?**\n\nI do not know", "**Which colour?**\n\nBlue.\nVery \u00e9 blue."]
    assert accumulator.SummaryMetadata("samples/1").plugin_data.plugin_name == "text"


def test_without_a_validation_set_there_is_no_such_curve(make_story):
    story = make_story(validation_rows=0)
    reporter = TensorBoardReporter(story.header)
    reporter.on_start(story.header)
    story.play(reporter)
    assert "loss/validation" not in read(story.header.run.logs)
    assert not (story.header.run.logs / "validation").exists()


def test_steps_can_be_seen_while_they_go_on(make_story):
    story, clock = make_story(), Clock()
    reporter = TensorBoardReporter(story.header, clock)
    reporter.on_start(story.header)
    reporter.on_step(story.step(1))
    assert read(story.header.run.logs) == {}
    clock.now += FLUSH_SECONDS
    reporter.on_step(story.step(2))
    assert [step for step, _ in read(story.header.run.logs)["loss/train_step"]] == [1, 2]


def test_a_resumed_run_withdraws_what_it_measures_again(make_story):
    clock, first = Clock(), make_story()
    reporter = TensorBoardReporter(first.header, clock)
    reporter.on_start(first.header)
    first.play(reporter, evaluations=3)
    clock.now += 60
    second = make_story(start_step=10)
    resumed = TensorBoardReporter(second.header, clock)
    resumed.on_start(second.header)
    for number in (11, 12):
        resumed.on_step(second.step(number))
    resumed.on_end(second.state, None)
    assert len(list(first.header.run.logs.glob("events.*"))) == 2
    assert [step for step, _ in read(first.header.run.logs / "validation")["loss"]] == [0, 10]
    curves = read(first.header.run.logs)
    assert [step for step, _ in curves["loss/train_step"]] == list(range(1, 13))
    assert [step for step, _ in curves["loss/train"]] == [0, 10]
