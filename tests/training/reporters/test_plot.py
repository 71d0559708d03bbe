"""training_history.png: what is drawn equals what was measured, whatever the history looks like."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

from llm_installer.core.state import Adjustment
from llm_installer.training.reporters.plot import PlotReporter, StepCurve, history_figure


def curve(story) -> StepCurve:
    single = StepCurve()
    for number in range(1, story.state.step + 1):
        report = story.step(number)
        single.steps.append(report.step)
        single.epochs.append(report.epoch)
        single.losses.append(report.loss)
    return single


def lines(figure: Figure) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in figure.axes[0].lines}


def texts(figure: Figure) -> set[str]:
    found = [*figure.texts, *figure.axes[0].texts]
    return {text.get_text() for text in found}


def played(story, evaluations: int = 5):
    for number in range(evaluations):
        story.state.step = number * story.every
        story.state.record(story.evaluation(number))
    return story


def draw(story, result=None) -> Figure:
    return history_figure(story.header, story.state, result, curve(story))


def test_what_is_drawn_is_what_was_measured(make_story):
    story = played(make_story())
    figure = draw(story, story.result())
    drawn = lines(figure)
    assert set(drawn) == {"steps", "train", "validation", "base", "best"}
    for name, which in (("train", 0), ("validation", 1)):
        assert list(drawn[name].get_xdata()) == [0, 10, 20, 30, 40]
        assert list(drawn[name].get_ydata()) == [pair[which] for pair in story.losses]
    assert list(drawn["steps"].get_xdata()) == list(range(1, 41))
    np.testing.assert_array_equal(drawn["steps"].get_ydata(), [story.step(n).loss for n in range(1, 41)])
    assert set(drawn["base"].get_ydata()) == {2.1}
    assert (list(drawn["best"].get_xdata()), list(drawn["best"].get_ydata())) == ([20], [1.4])
    assert texts(figure) >= {
        "tiny",
        "lora, fast | 1,234 training rows | ended: no improvement",
        "best 1.4000 at step 20",
        "base model 2.1000",
        "train 0.5000",
        "validation 1.6000",
        "train, each step",
        f"run {story.header.run.id}",
    }


def test_what_mode_adaptive_changed_stands_where_it_did(make_story):
    story = played(make_story(mode="adaptive"))
    story.state.adjustments = [
        Adjustment(10, 0.5, 1, True, "the loss no longer falls"),
        Adjustment(30, 0.5, 2, False, "the loss goes up and down"),
    ]
    figure = draw(story)
    marked = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_label() == "change"]
    assert marked == [10, 30]
    assert texts(figure) >= {"learning rate x 0.5, back to the best", "learning rate x 0.5, batch x 2"}


def ticks(figure: Figure) -> dict[str, float]:
    """Label of each epoch -> the step it stands under."""
    figure.draw_without_rendering()
    (below,) = figure.axes[0].child_axes
    return {label.get_text(): tick for label, tick in zip(below.get_xticklabels(), below.get_xticks(), strict=True)}


def test_round_epochs_stand_under_their_steps(make_story):
    shown = ticks(draw(played(make_story())))
    assert {name: shown[name] for name in ("0", "0.5", "1", "2")} == {"0": 0, "0.5": 10, "1": 20, "2": 40}


def test_epochs_are_not_evenly_spaced_where_the_batch_grows(make_story):
    story = played(make_story())
    single = StepCurve()
    for step, epoch in ((10, 0.5), (20, 1.0), (30, 2.0), (40, 3.0)):
        single.steps.append(step)
        single.epochs.append(epoch)
        single.losses.append(1.0)
    story.state.history = story.state.history[:2]
    shown = ticks(history_figure(story.header, story.state, None, single))
    assert (shown["1"], shown["2"], shown["3"]) == (20, 30, 40)


def test_without_a_validation_set_the_training_loss_is_watched(make_story):
    story = played(make_story(validation_rows=0))
    drawn = lines(draw(story))
    assert "validation" not in drawn
    assert list(drawn["best"].get_ydata()) == [0.5]
    assert set(drawn["base"].get_ydata()) == {2.0}


def test_one_measurement_is_a_point(make_story):
    story = played(make_story(), evaluations=1)
    figure = draw(story)
    drawn = lines(figure)
    assert list(drawn["train"].get_ydata()) == [2.0]
    assert drawn["train"].get_marker() == "o"
    assert "best" not in drawn
    assert "lora, fast | 1,234 training rows | ended early, at step 0" in texts(figure)


def test_a_gap_is_a_gap(make_story):
    story = make_story()
    story.losses = ((2.0, 2.1), (math.nan, math.inf), (1.0, 1.4))
    drawn = lines(draw(played(story, evaluations=3)))
    assert [math.isfinite(y) for y in drawn["train"].get_ydata()] == [True, False, True]
    assert [math.isfinite(y) for y in drawn["validation"].get_ydata()] == [True, False, True]


def test_a_spike_of_single_steps_does_not_flatten_the_curves(make_story):
    story = played(make_story())
    single = curve(story)
    single.losses[20] = 1e6
    figure = history_figure(story.header, story.state, None, single)
    low, high = figure.axes[0].get_ylim()
    assert low < 0.5
    assert 2.1 < high < 3.0


def test_many_steps_are_thinned(make_story):
    story = played(make_story())
    single = StepCurve()
    for number in range(1, 100_001):
        single.steps.append(number)
        single.epochs.append(number / 100)
        single.losses.append(1.0)
    drawn = lines(history_figure(story.header, story.state, None, single))
    assert 3000 < len(drawn["steps"].get_xdata()) <= 4000


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    figure.draw_without_rendering()
    words = [text for text in (*figure.texts, *figure.axes[0].texts) if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in words]
    width, height = figure.bbox.width, figure.bbox.height
    for name, box in boxes:
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, name
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[i + 1 :] if one.overlaps(other)]


@pytest.mark.parametrize(
    "losses",
    [
        ((2.0, 2.1), (1.5, 1.7), (1.0, 1.4), (0.7, 1.5), (0.5, 1.6)),
        ((1.0, 1.0), (1.0, 1.0)),
        ((2.0, 2.0), (1.0, 1.0), (0.999, 1.001)),
        ((0.5, 0.6), (8.0, 9.0), (0.4, 0.55)),
        ((1.0, 1.001), (1.002, 1.003), (1.001, 1.002)),
        ((2.0, 2.1),),
    ],
)
@pytest.mark.parametrize("validation_rows", [0, 137])
def test_no_label_covers_another_or_leaves_the_picture(make_story, losses, validation_rows):
    story = make_story(validation_rows=validation_rows)
    story.losses = losses
    assert overlapping(draw(played(story, evaluations=len(losses)))) == []


@pytest.mark.parametrize("reason", ["a long reason " * 20, "$x_{$", "100% \u2013 \u732b"])
def test_any_words_can_be_shown_and_the_file_is_whole(make_story, reason):
    story = make_story(model="$broken_{$ \u732b")
    reporter = PlotReporter(story.header)
    reporter.on_start(story.header)
    story.play(reporter)
    story.state.stop_reason = reason
    reporter.on_end(story.state, None)
    path = story.header.run.history_png
    assert path.stat().st_size > 5_000
    assert imread(path).shape[:2] == (800, 1440)
    assert list(path.parent.iterdir()) == [path]


def test_nothing_measured_is_no_picture(make_story):
    story = make_story()
    reporter = PlotReporter(story.header)
    reporter.on_step(story.step(1))
    reporter.on_end(story.state, None)
    assert not story.header.run.history_png.exists()


def test_a_full_disk_leaves_the_old_picture_and_no_rest(make_story, tmp_path: Path):
    story = make_story()
    story.header.run.history_png.mkdir()  # nothing can be renamed onto a folder
    reporter = PlotReporter(story.header)
    story.play(reporter)
    with pytest.raises(OSError):
        reporter.on_end(story.state, None)
    assert list(story.header.run.root.iterdir()) == [story.header.run.history_png]


def test_a_long_reason_stays_in_the_picture(make_story):
    story = make_story()
    story.play(PlotReporter(story.header))
    reason = "the model began to memorise: its loss on held-out rows rises and is 113% above that on training rows"
    result = dataclasses.replace(story.result(), stop_reason=f"{reason}; the weights of step 20, the best, are kept")
    figure = history_figure(story.header, story.state, result, StepCurve())
    FigureCanvasAgg(figure).draw()
    for text in figure.texts:
        assert text.get_window_extent().x1 < figure.bbox.x1, text.get_text()
    assert figure.texts[-1].get_text().replace("\n", " ").endswith(f"ended: {reason}")
