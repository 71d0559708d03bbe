"""Every mode from end to end, with real text: each does what its name promises.

What is learned is learned by the real pretrained stories260K; what is only counted is counted on a smaller model.
"""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as RichConsole

from llm_installer import train_lora
from llm_installer.core.state import Result
from llm_installer.planning.modes import MODES
from llm_installer.planning.options import Options
from llm_installer.ui.console import Console
from tests.tiers import first_here

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

ENDING = [name for name, mode in MODES.items() if not math.isinf(mode.epochs)]


@pytest.fixture
def stories(shared: Path) -> Path:
    """stories260K as an installed model directory."""
    from llm_installer.install.installer import install

    return install(str(shared / "models" / "stories260K"), say=lambda text: None).root


@pytest.fixture
def lines(shared: Path, tmp_path: Path) -> Path:
    """Forty lines of Shakespeare."""
    text = (shared / "data" / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8").splitlines()
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(list(dict.fromkeys(line for line in text if len(line) > 20))[:40]), encoding="utf-8")
    return file


class Ran:
    """What a run left behind."""

    def __init__(self, result: Result, said: str) -> None:
        self.result, self.said = result, said
        self.plan = json.loads((result.run / "plan.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        self.steps, self.evaluations, self.changes = (
            [r for r in rows if r["kind"] == kind] for kind in ("step", "evaluation", "adjustment")
        )

    @property
    def steps_of_passes(self) -> list[int]:
        """Steps of each epoch or cycle."""
        counted = Counter(math.ceil(step["epoch"] - 1e-9) for step in self.steps)
        return [counted[i] for i in sorted(counted)]


def go(model: Path, data: Path, **given: Any) -> Ran:
    """One run in this process."""
    said = io.StringIO()
    options = Options(model_path=str(model), data=str(data), skip_test=True, tensorboard=False, seed=1, **given)
    found = train_lora.run(options, Console(rich=RichConsole(file=said, width=200)))
    assert found is not None
    return Ran(found.result, said.getvalue())


@pytest.mark.parametrize("mode", first_here(ENDING))
def test_a_mode_with_an_end_learns_and_publishes(stories: Path, lines: Path, mode: str) -> None:
    row = MODES[mode]
    ran = go(stories, lines, mode=mode, **({"max_circular_epochs": 3} if row.cycles else {}))
    plan, result = ran.plan, ran.result
    assert plan["mode"] == mode and plan["learning_rate"] == pytest.approx(6e-3 * row.learning_rate_scale)
    assert result.improved and result.best_loss < result.base_loss
    # Forty lines may cost the model more of what it knew than they teach it.
    switched = "forgot more than it learned" not in ran.said
    assert (stories / "lora").exists() == switched
    assert not switched or (stories / "lora").resolve() == result.run / "adapter"
    assert result.steps == len(ran.steps) <= plan["course"]["total_steps"]
    to_the_end = ran.steps[-1]["epoch"] == pytest.approx(plan["course"]["epochs"])  # some steps may have been joined
    assert to_the_end or result.stop_reason != row.ended()
    measured = [e["step"] for e in ran.evaluations]
    assert measured[0] == 0 and measured[-1] == result.steps and len(measured) >= 5
    monitored = "train_loss" if row.memorises else "validation_loss"
    assert min(e[monitored] for e in ran.evaluations[1:]) == pytest.approx(result.best_loss)
    assert all(step["learning_rate"] > 0 for step in ran.steps)
    assert mode in ran.said and f"Stopped because {result.stop_reason}" in ran.said


@pytest.mark.slow
def test_non_stop_goes_on_until_it_is_stopped_then_publishes(
    start: Callable[..., subprocess.Popen[str]], stories: Path, lines: Path
) -> None:
    """Many more steps than any other mode takes for these rows; SIGINT is the usual end here, so the exit is 0."""
    words = ["--model-path", stories, "--data", lines, "--mode", "non-stop", "--skip-test", "--no-tensorboard"]
    process = start("train", *words)
    assert process.stdout and process.stderr
    for line in process.stdout:
        if line.startswith("Evaluation #12 "):
            process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Stopped because you stopped it" in rest
    (run,) = (stories / "runs").iterdir()
    assert (stories / "lora").resolve() == run / "adapter"
    info = json.loads((run / "adapter" / "adapter_info.json").read_text(encoding="utf-8"))
    assert info["best_loss"] < info["base_loss"]
    rates = [json.loads(line).get("learning_rate") for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rates[-1] == rates[-10] == pytest.approx(6e-3 * 0.3), "no end, so the rate never falls"


@pytest.mark.slow
def test_circular_doubles_its_batch_from_cycle_to_cycle(stories: Path, lines: Path) -> None:
    ran = go(
        stories, lines, circular=True, max_circular_epochs=4, circular_batch_multiplier=2.0, effective_batch_size=1,
        validation_split=0.2,
    )  # fmt: skip
    assert ran.plan["rows"] == 32 and ran.plan["course"]["total_steps"] == 32 + 16 + 8 + 4
    assert ran.steps_of_passes == [32, 16, 8, 4]
    assert ran.result.stop_reason == "all cycles are done"


@pytest.mark.parametrize(
    ("multiplier", "expected"), first_here([(0.5, [16, 11, 11]), (1.0, [16, 8, 4]), (3.0, [16, 6, 2])])
)
def test_circular_adds_below_two_and_multiplies_from_two_on(
    installed: Path, lines: Path, multiplier: float, expected: list[int]
) -> None:
    ran = go(
        installed, lines, circular=True, max_circular_epochs=3, circular_batch_multiplier=multiplier,
        effective_batch_size=2, validation_split=0.2,
    )  # fmt: skip
    assert ran.steps_of_passes == expected


@pytest.mark.slow
def test_circular_measures_the_same_held_out_rows_in_every_cycle(installed: Path, lines: Path) -> None:
    """At rate zero the weights stay, so any other set would have another loss."""
    ran = go(installed, lines, circular=True, max_circular_epochs=4, learning_rate=0.0, effective_batch_size=4)
    assert {math.ceil(e["epoch"]) for e in ran.evaluations} >= {0, 1, 2, 3, 4}
    assert len({e["validation_loss"] for e in ran.evaluations}) == 1
    assert len({e["train_loss"] for e in ran.evaluations}) == 1


def test_circular_ends_when_it_knows_the_rows_by_heart(stories: Path, lines: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n".join(lines.read_text(encoding="utf-8").splitlines()[:4]), encoding="utf-8")
    ran = go(stories, few, circular=True, learning_rate=1e-2, validation_split=0.0)
    assert ran.result.steps < ran.plan["course"]["total_steps"]
    assert ran.result.stop_reason.startswith("the training rows are memorised")
    assert ran.evaluations[-1]["train_loss"] <= 0.5 < ran.evaluations[-2]["train_loss"]


@pytest.mark.parametrize("mode", first_here(ENDING))
def test_force_epochs_takes_exactly_these(installed: Path, lines: Path, mode: str) -> None:
    """With a rate that gets nowhere, patience would end it."""
    ran = go(installed, lines, mode=mode, force_epochs=True, epochs=4, learning_rate=0.0, effective_batch_size=6)
    assert len(ran.steps) == ran.plan["course"]["total_steps"] == sum(ran.steps_of_passes)
    assert ran.steps[-1]["epoch"] == 4 and len(ran.steps_of_passes) == 4
    passes = "cycles" if mode == "circular" else "epochs"
    assert ran.result.stop_reason == f"all {passes} are done" and not ran.changes


@pytest.mark.slow
def test_adaptive_says_what_it_changes_and_why(stories: Path, lines: Path) -> None:
    ran = go(stories, lines, mode="adaptive", learning_rate=0.1, epochs=6)
    assert ran.changes, "ten times and more above what this model bears"
    report = (ran.result.run / "report.md").read_text(encoding="utf-8")
    for change in ran.changes:
        assert f"Step {change['step']}: {change['why']}" in ran.said
        assert f"- Step {change['step']}: {change['why']}." in report
    assert ran.changes[0]["rate_scale"] < 1 and ran.changes[0]["restore_best"]
    after = [s for s in ran.steps if s["step"] > ran.changes[0]["step"]]
    assert max(s["learning_rate"] for s in after) <= 0.1 * ran.changes[0]["rate_scale"] + 1e-12
    assert ran.result.improved
