"""Watching a run and what is shown after it, through the doors that users take."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer import lora_sft
from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.paths import Run
from llm_installer.core.text import short_path

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
QUIET = {"tensorboard": False, "seed": 1}


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def losses(run: Path) -> list[tuple[object, ...]]:
    names = ("kind", "step", "loss", "train_loss", "validation_loss", "grad_norm")
    return [tuple(line.get(name) for name in names) for line in lines(Run(run).metrics)]


@pytest.fixture
def talking(llm_home: Path) -> Path:
    """The built-in model, which learns quickly."""
    from llm_installer.install.installer import install

    return install("tiny", say=lambda text: None).root


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "my prompts.txt"
    file.write_text("Colour of thing 3?\nColour of thing 99?\n")
    return file


def test_answers_at_each_evaluation_change_nothing_of_the_run(
    talking: Path, write_rows: Callable[..., Path], prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = write_rows(40)
    given = {"epochs": 1, "lora_dropout": 0.2, **QUIET}
    plain = lora_sft(talking, data, skip_test=True, **given)
    capsys.readouterr()
    asked = lora_sft(talking, data, eval_prompts=str(prompts), **given)
    assert losses(asked.run) == losses(plain.run), "bit for bit, with dropout"
    samples = lines(Run(asked.run).samples)
    measured = [line["step"] for line in lines(Run(asked.run).metrics) if line["kind"] == "evaluation"]
    assert [(s["step"], s["prompt"]) for s in samples] == [
        (step, prompt) for step in measured for prompt in prompts.read_text().splitlines()
    ]
    assert "It is" in str(samples[-1]["answer"]) and "It is" not in str(samples[0]["answer"])
    accumulator = EventAccumulator(str(Run(asked.run).logs))
    accumulator.Reload()
    assert [event.step for event in accumulator.Tensors("samples/2")] == measured
    said = capsys.readouterr().out
    assert "Your own prompts" in said and f"step {asked.best_step} " in said
    assert not Run(plain.run).samples.exists()


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"eval_prompts": "none.txt"}, DataError, "none.txt"),
        ({"report_to": "comet"}, UsageError, "choose from: wandb, mlflow"),
        ({"callbacks": object()}, UsageError, "none of the hooks"),
    ],
)
def test_mistakes_are_said_before_training(
    installed: Path, write_rows: Callable[..., Path], given: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        lora_sft(installed, write_rows(24), **given, **QUIET)
    assert not list((installed / "runs").glob("*"))


@pytest.mark.parametrize("skip", [False, True])
def test_the_report_is_written_also_without_the_answers(
    installed: Path, write_rows: Callable[..., Path], skip: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    result = lora_sft(installed, write_rows(40), epochs=1, skip_test=skip, **QUIET)
    text = Run(result.run).report.read_text()
    assert ("Answers side by side" in text) is not skip
    assert f"./lora is now the adapter of this run, from step {result.best_step}, its best." in text
    assert f"    {shlex.quote(str(installed / 'start.sh'))}\n" in text
    assert "](training_history.png)" in text and (result.run / "training_history.png").is_file()
    said = capsys.readouterr().out
    for part in (
        "General text (30 sentences): loss per token ",
        "Text that the base wrote (32 samples): loss per token +",
        "Forgetting: ",
        "Highest loss",
        f"Report: {short_path(Run(result.run).report)}",
    ):
        assert part in said, part


def test_an_adapter_beside_is_called_that(installed: Path, write_rows: Callable[..., Path], tmp_path: Path) -> None:
    result = lora_sft(installed, write_rows(40), epochs=1, output=str(tmp_path / "mine"), skip_test=True, **QUIET)
    text = Run(result.run).report.read_text()
    assert "./lora is as it was" in text and f"start.sh' --lora {tmp_path / 'mine'}" in text


def general_change(report: str) -> float:
    """What the forgetting meter measured."""
    (found,) = re.findall(r"\| loss on 30 sentences of general text \| .*? \| .*? \| (.*?) \|", report)
    return float(found)


def test_a_rate_of_zero_forgets_nothing(installed: Path, write_rows: Callable[..., Path]) -> None:
    result = lora_sft(installed, write_rows(40), epochs=1, learning_rate=0, skip_test=True, **QUIET)
    text = Run(result.run).report.read_text()
    assert "Forgetting: none." in text and general_change(text) == 0
    assert "No evaluation beat the base model, so ./lora is as it was" in text


def test_a_rate_far_too_high_is_flagged(shared: Path, write_rows: Callable[..., Path], llm_home: Path) -> None:
    from llm_installer.install.installer import install

    folder = install(str(shared / "models" / "stories260K"), say=lambda text: None).root
    data, given = write_rows(30), {"epochs": 3, "skip_test": True, **QUIET}
    calm, wild = (
        Run(lora_sft(folder, data, learning_rate=rate, **given).run).report.read_text() for rate in (1e-4, 1e-1)
    )
    assert "Forgetting: none." in calm
    assert "Forgetting: much, " in wild and general_change(wild) > 0.5


def test_shuffled_answers_are_found(talking: Path, tmp_path: Path) -> None:
    """A hundred rows in which a place decides the answer; five have the answer of another place."""
    sounds = {"dog": "It barks.", "cat": "It meows.", "cow": "It moos.", "bird": "It sings.", "pig": "It grunts."}
    names, wrong = list(sounds), {7, 28, 49, 66, 93}
    rows = []
    for i in range(100):
        animal = names[i % 5]
        says = sounds[names[(i + 2) % 5] if i in wrong else animal]
        rows.append({"instruction": f"What does the {animal} number {i} do?", "output": says})
    random.Random(5).shuffle(rows)
    data = tmp_path / "animals.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    injected = {i for i, row in enumerate(rows, 1) if row["output"] != sounds[row["instruction"].split()[3]]}
    result = lora_sft(talking, data, epochs=3, skip_test=True, **QUIET)
    listed = Run(result.run).report.read_text().split("likely wrong or hard")[1]
    top = [int(line) for line in re.findall(r"\| \S*animals\.jsonl:(\d+) \|", listed)][:10]
    assert len(injected) == 5 and len(injected & set(top)) >= 4, (injected, top)
