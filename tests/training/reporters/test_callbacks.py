"""Callbacks: nine hooks in order, able to stop and save; what they raise ends nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer import lora_sft
from llm_installer.core.errors import Interrupted, UsageError
from llm_installer.core.run.signals import Requests
from llm_installer.training.reporters.callbacks import HOOKS, CallbackReporter, Context, as_callbacks

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
QUIET = {"tensorboard": False, "skip_test": True, "seed": 1}


class Everything:
    """Writes down every hook with the step it was called at."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Context]] = []

    def __getattr__(self, name: str):
        if name not in HOOKS:
            raise AttributeError(name)
        return lambda context: self.heard.append((name, context))

    def __dir__(self):
        return HOOKS

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.heard]


def test_all_nine_hooks_are_called_in_order(installed: Path, write_rows: Callable[..., Path]) -> None:
    watcher = Everything()
    result = lora_sft(installed, write_rows(40), epochs=2, effective_batch_size=8, callbacks=watcher, **QUIET)
    names = watcher.names
    assert set(names) == set(HOOKS)
    assert names[0] == "on_train_begin" and names[-1] == "on_train_end"
    assert names[1] == "on_evaluate", "the base model, before the first step"
    for hook, times in (("on_epoch_begin", 2), ("on_epoch_end", 2), ("on_step_begin", 10), ("on_step_end", 10)):
        assert names.count(hook) == times, hook
    step = names[names.index("on_step_begin") :]
    assert step[:3] == ["on_step_begin", "on_step_end", "on_log"]
    order = [HOOKS.index(n) for n in names if n in ("on_epoch_begin", "on_epoch_end")]
    assert order == [HOOKS.index("on_epoch_begin"), HOOKS.index("on_epoch_end")] * 2
    begun = [context.step for name, context in watcher.heard if name == "on_step_begin"]
    assert begun == list(range(1, 11)) == [c.step for n, c in watcher.heard if n == "on_step_end"]
    log = next(context for name, context in watcher.heard if name == "on_log")
    assert log.loss == log.metrics["loss"] > 0 and log.learning_rate > 0 and log.total_steps == 10
    assert log.output_dir == result.run and log.is_main_process
    measured = [context.metrics["validation_loss"] for name, context in watcher.heard if name == "on_evaluate"]
    assert measured[0] == result.base_loss and min(measured[1:]) == result.best_loss
    assert watcher.heard[-1][1].metrics["stop_reason"] == result.stop_reason


def test_a_checkpoint_is_there_when_it_is_told(installed: Path, write_rows: Callable[..., Path]) -> None:
    seen: list[int] = []

    class SaveAtTwo:
        def on_step_end(self, context: Context) -> None:
            if context.step == 2:
                context.save()

        def on_save(self, context: Context) -> None:
            state = json.loads((context.output_dir / "checkpoints" / "last" / "state.json").read_text())
            assert state["step"] == context.step
            seen.append(context.step)

    lora_sft(installed, write_rows(80), epochs=1, effective_batch_size=4, callbacks=SaveAtTwo(), **QUIET)
    assert 2 in seen and seen == sorted(seen)


def test_a_callback_can_end_the_run(installed: Path, write_rows: Callable[..., Path]) -> None:
    class Enough:
        def on_log(self, context: Context) -> None:
            if context.step >= 3:
                context.stop("three steps are enough")

    result = lora_sft(installed, write_rows(60), epochs=5, callbacks=[Enough()], **QUIET)
    assert (result.steps, result.stop_reason) == (3, "three steps are enough")
    assert (result.adapter / "adapter_model.safetensors").is_file()
    assert (installed / "lora").resolve() == result.adapter, "an end that was asked for is a good end"


def test_one_that_raises_is_named_once_and_the_others_hear_all(
    installed: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def on_step_end(self, context: Context) -> None:
            raise ZeroDivisionError("oh no")

        def on_save(self, context: Context) -> None:
            raise OSError("disk")

    watcher = Everything()
    result = lora_sft(installed, write_rows(40), epochs=1, callbacks=[Broken(), watcher], **QUIET)
    assert watcher.names.count("on_step_end") == result.steps > 1
    said = capsys.readouterr().out
    raised = "Broken.on_step_end raised ZeroDivisionError: oh no"
    assert said.count(f"Warning: {raised}; the run continues (this warning comes once)") == 1
    assert said.count("Warning: Broken.on_save raised OSError: disk") == 1


def test_a_second_signal_is_no_mistake_of_the_callback(make_story: Callable) -> None:
    class Unlucky:
        def on_log(self, context: Context) -> None:
            raise Interrupted("Stopped at once, as asked twice.", 2)

    story = make_story()
    reporter = CallbackReporter(story.header, [Unlucky()], Requests(), pytest.fail)
    with pytest.raises(Interrupted):
        reporter.on_step(story.step(1))


class Typo:
    def on_evaluation(self, context: Context) -> None:
        pass


class Deaf:
    pass


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Typo(), r"Typo\.on_evaluation is not a hook; did you mean 'on_evaluate'\?"),
        ([Everything(), Deaf()], "Deaf has none of the hooks: on_train_begin, "),
        ("text", "str has none of the hooks"),
    ],
)
def test_an_object_that_would_hear_nothing_is_refused(given: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        as_callbacks(given)


def test_none_one_or_many() -> None:
    one = Everything()
    assert as_callbacks(None) == () and as_callbacks(one) == (one,) and as_callbacks([one, one]) == (one, one)
