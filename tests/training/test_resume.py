"""A run that goes on is the run that was never interrupted: bit for bit on the CPU."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llm_installer.core.manifest import MANIFEST, damage
from llm_installer.core.paths import Run
from llm_installer.core.run.checkpoints import newest_valid, resumable
from llm_installer.core.run.signals import Requests
from llm_installer.core.state import Adjustment, RunState
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.controller import CONTROLLERS
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import (
    KEPT,
    CheckpointWriter,
    adapter_weights,
    load_weights,
    read_checkpoint,
)
from llm_installer.training.loop import train_loop
from llm_installer.training.session import Session
from llm_installer.training.trainer import Trainer
from llm_installer.training.training_data import TrainingData

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


class Watcher:
    """Keeps the losses, and asks for the end after a step."""

    def __init__(self, requests: Requests, stop_after: int = 0) -> None:
        self.requests, self.stop_after = requests, stop_after
        self.losses: dict[int, float] = {}
        self.measured: dict[int, tuple[float, float | None]] = {}
        self.rates: dict[int, float] = {}

    def on_step(self, report) -> None:
        self.losses[report.step], self.rates[report.step] = report.loss, report.learning_rate
        if report.step == self.stop_after:
            self.requests.number = signal.SIGTERM

    def on_evaluation(self, evaluation, state, best) -> None:
        self.measured[evaluation.step] = (evaluation.train_loss, evaluation.validation_loss)

    def on_event(self, event, state) -> None:
        pass

    def on_note(self, text) -> None:
        pass


class SaveNow(CheckpointWriter):
    """Saves after every step."""

    def due(self, measured: bool) -> bool:
        return True


def halve_then_join(state: RunState, plan: Plan) -> Adjustment | None:
    """Halves the rate at step 6, joins two steps at 9 and goes back to the best weights at 12."""
    rows = {6: (0.5, 1, False), 9: (0.5, 2, False), 12: (0.25, 2, True)}
    if state.step not in rows:
        return None
    rate, batch, back = rows[state.step]
    return Adjustment(state.step, rate, batch, back, "a test")


CASES = {
    "plain": {},
    "dropout": {"lora_dropout": 0.1},
    "accumulation": {"lora_dropout": 0.1, "micro_batch_tokens": 40, "micro_batch_rows": 2},
    "packed rows": {"packing": True, "lora_dropout": 0.1, "micro_batch_tokens": 90},
    "short rows first": {"order": "short-first"},
    "rank that grows": {"order": "given", "lora_r": 8, "rank_steps": (2, 4, 8), "lora_dropout": 0.1},
    "circular": {"cycles": True, "batch_multiplier": 1.0, "schedule": "constant", "lora_dropout": 0.1},
    "circular, times two": {"cycles": True, "batch_multiplier": 2.0, "schedule": "constant"},
    "controller": {"controller": "a test", "lora_dropout": 0.1},
    "adaptive, a rate far too high": {"controller": "adaptive", "learning_rate": 1.0, "early_evaluation_every": 2},
    "no end": {"total_steps": 0, "schedule": "inverse_sqrt", "lora_dropout": 0.1},
}
LESS = ("plain", "dropout", "rank that grows")
"""Cases that are part of others, or seldom used."""
ROWS = 21
LAST = 17
STOPS = {(1, 7): SaveNow, (4, 12): CheckpointWriter}
"""After which steps a run is stopped and resumed, and how it saves: after each step, or as runs do."""


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTROLLERS, "a test", halve_then_join)


@pytest.mark.usefixtures("controller")
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in LESS else case for case in CASES]
)
def test_the_curve_after_each_resume_is_that_of_the_uninterrupted_run(
    case: str, tiny_llama: Path, make_rows: Callable, plan_for: Callable, tmp_path: Path
) -> None:
    rows, held_out = make_rows(ROWS + 4)[:ROWS], make_rows(ROWS + 4)[ROWS:]
    plan = plan_for(ROWS, epochs=4, batch=4, evaluation_every=3, **CASES[case])
    data = TrainingData(rows, rows[:6], held_out)

    def go(
        folder: str, last: int, since=None, writer: type[CheckpointWriter] = CheckpointWriter
    ) -> tuple[Watcher, RunState, dict, dict]:
        trainer = Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)
        assert bool(trainer.packing) == plan.packing
        requests = Requests()
        watcher = Watcher(requests, last)
        run = Run(tmp_path / folder)
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        state, best = train_loop(trainer, data, Session(writer(run), watcher, requests, since))
        return watcher, state, adapter_weights(trainer.model), best

    whole, _, weights, best = go("whole", LAST)
    for stops, writer in STOPS.items():
        name = f"stopped after {stops}"
        broken, *_ = go(name, stops[0], writer=writer)
        assert broken.losses == {step: loss for step, loss in whole.losses.items() if step <= stops[0]}
        for begun, stop in zip(stops, (*stops[1:], LAST), strict=True):
            since = read_checkpoint(newest_valid(Run(tmp_path / name), print))
            torch.manual_seed(999)
            rest, state, weights_after, best_after = go(name, stop, since, writer)
            assert list(rest.losses) == list(range(begun + 1, stop + 1))
            differences = [abs(whole.losses[step] - loss) for step, loss in rest.losses.items()]
            print(f"{case}, resumed after step {begun}: max difference {max(differences)}")
            assert max(differences) == 0.0
            assert {s: whole.rates[s] for s in rest.rates} == rest.rates
            measured = {s: m for s, m in rest.measured.items() if s in whole.measured or s != stop}
            assert measured == {s: m for s, m in whole.measured.items() if begun < s <= stop}
        assert all(torch.equal(weights[k], weights_after[k]) for k in weights)
        assert all(torch.equal(best[k], best_after[k]) for k in best)
        assert state.step == LAST
        assert bool(state.adjustments) == (plan.controller not in ("none", "patient"))


class Unlearning(Watcher):
    """Turns the rate's sign, so that nothing that is measured is better than the first."""

    def on_evaluation(self, evaluation, state, best) -> None:
        super().on_evaluation(evaluation, state, best)
        state.rate_scale = -1.0 if state.step == 0 else state.rate_scale


def back_to_the_first(state: RunState, plan: Plan) -> Adjustment | None:
    """Goes back at step 6, where nothing was better yet."""
    return Adjustment(6, -0.1, 1, True, "a test") if state.step == 6 else None


def test_a_run_that_began_with_other_weights_goes_back_to_those(
    tiny_llama: Path, make_rows: Callable, plan_for: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after --resume-anyway: a fresh adapter of the same seed is not what the run began with."""
    monkeypatch.setitem(CONTROLLERS, "a test", back_to_the_first)
    rows = make_rows(12)
    plan = plan_for(12, epochs=4, batch=4, evaluation_every=3, controller="a test", learning_rate=0.01)
    began = {}

    def go(folder: str, last: int, since=None) -> tuple[Watcher, RunState]:
        trainer = Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)
        if not since:
            began.update({k: v + 0.01 for k, v in adapter_weights(trainer.model).items()})
            load_weights(trainer.model, began)
        watcher, run = Unlearning(Requests(), last), Run(tmp_path / folder)
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        state, _ = train_loop(
            trainer, TrainingData(rows, rows[:6], []), Session(SaveNow(run), watcher, watcher.requests, since)
        )
        return watcher, state

    whole, state = go("whole", 9)
    assert not state.improved, "else it would go back to the best"
    go("broken", 4)
    since = read_checkpoint(newest_valid(Run(tmp_path / "broken"), print))
    assert since.first is not None
    assert all(torch.equal(since.first[k], began[k]) for k in began)
    rest, state = go("broken", 9, since)
    assert [a.step for a in state.adjustments] == [6]
    assert rest.losses == {step: loss for step, loss in whole.losses.items() if step > 4}


def test_the_first_weights_are_kept_only_while_something_may_go_back_to_them(trained_run: Run) -> None:
    since = read_checkpoint(newest_valid(trained_run, print))
    assert since.state.improved and since.first is None


@pytest.fixture(scope="module")
def untouched_run(
    tiny_llama: Path, make_rows: Callable, plan_for: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run of 12 steps with a checkpoint after each."""
    rows, run = make_rows(8), Run(tmp_path_factory.mktemp("untouched") / "run")
    plan = plan_for(8, epochs=6, batch=4, evaluation_every=3)
    run.checkpoints.mkdir(parents=True)
    trainer = Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)
    train_loop(trainer, TrainingData(rows, rows, []), Session(SaveNow(run), Watcher(Requests()), Requests()))
    return run


@pytest.fixture
def trained_run(untouched_run: Run, tmp_path: Path) -> Run:
    """A copy of it, which a test may damage."""
    return Run(shutil.copytree(untouched_run.root, tmp_path / "run", symlinks=True))


def test_the_newest_by_number_is_resumed_and_the_rest_is_pruned(trained_run: Run) -> None:
    names = [folder.name for folder in resumable(trained_run)]
    assert names[0] == "checkpoint-12", "twelve comes after nine"
    assert len(list(trained_run.checkpoints.glob("checkpoint-*"))) <= KEPT + 1
    assert (trained_run.checkpoints / "last").resolve().name == "checkpoint-12"
    assert (trained_run.checkpoints / "best").is_dir()
    assert not damage(trained_run.checkpoints / "best")


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "optimizer.pt", "state.json", "best.safetensors"])
@pytest.mark.parametrize("harm", ["cut", "flip", "delete"])
def test_a_damaged_checkpoint_is_skipped_by_name(trained_run: Run, file: str, harm: str) -> None:
    newest, before = resumable(trained_run)[:2]
    content = (newest / file).read_bytes()
    if harm == "cut":
        (newest / file).write_bytes(content[: len(content) // 2])
    elif harm == "flip":
        (newest / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        (newest / file).unlink()
    said: list[str] = []
    found = newest_valid(trained_run, said.append)
    assert found == before
    if file != "state.json" or harm != "delete":  # without a state it is not a checkpoint to resume from
        assert len(said) == 1
        assert newest.name in said[0]
        assert file in said[0]


def test_a_checkpoint_without_manifest_is_no_checkpoint(trained_run: Run) -> None:
    newest = resumable(trained_run)[0]
    (newest / MANIFEST).unlink()
    said: list[str] = []
    newest_valid(trained_run, said.append)
    assert "manifest.json is missing" in said[0]


def test_the_state_survives_strict_json() -> None:
    state = RunState(step=3, best_loss=1.5, adjustments=[Adjustment(2, 0.5, 2, True, "why")])
    text = json.dumps(dataclasses.asdict(state), allow_nan=False)
    assert RunState.from_json(json.loads(text)) == state
