"""train.log: everything that was said, with its time."""

from __future__ import annotations

from datetime import datetime

import pytest

from llm_installer.training.reporters.log import LogReporter


def noon() -> datetime:
    return datetime(2026, 11, 21, 12, 0, 0)


def test_everything_said_is_in_the_log(make_story):
    story = make_story()
    reporter = LogReporter(story.header, noon)
    reporter.on_start(story.header)
    reporter.on_note("first line\nsecond line")
    story.play(reporter, evaluations=2)
    reporter.on_end(story.state, None)
    at = "2026-11-21 12:00:00  "
    assert story.header.run.train_log.read_text(encoding="utf-8") == (
        f"{at}Training tiny | lora, fast | 1,234 training rows, 137 validation rows | up to 80 steps\n"
        f"{at}first line\n"
        f"    second line\n"
        f"{at}Evaluation #0 (before training) | Time: 00:00:00 | Train Loss: 2.0000 | Val Loss: 2.1000 "
        f"| Best Val: - | Patience: 0/3\n"
        f"{at}Evaluation #1 | Time: 00:02:05 | Train Loss: 1.5000 | Val Loss: 1.7000 "
        f"| Best Val: 1.7000 | Patience: 0/3 | New best\n"
        f"{at}Training ended early, at step 10 | Best Val: 1.7000 at step 10 | Base model: 2.1000\n"
    )


def test_only_a_resumed_run_goes_on_in_an_old_log(make_story):
    story = make_story()
    LogReporter(story.header).on_start(story.header)
    with pytest.raises(FileExistsError):
        LogReporter(story.header).on_start(story.header)
    resumed = make_story(start_step=10).header
    LogReporter(resumed).on_start(resumed)
    assert len(story.header.run.train_log.read_text().splitlines()) == 2


def test_any_name_can_be_written(make_story):
    story = make_story()
    reporter = LogReporter(story.header, noon)
    reporter.on_note("a file named \udcff and \u732b")
    assert story.header.run.train_log.read_text(encoding="utf-8").endswith("a file named \\udcff and \u732b\n")
