"""The fence around the fast paths: one interface, one switch, and a way out for each trick."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import masking_utils

import llm_installer
from llm_installer.core.run.signals import Requests
from llm_installer.data.encoding.row import Row
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.interface import OFF
from llm_installer.training.loop import train_loop
from llm_installer.training.memory_probe import probe
from llm_installer.training.session import Session
from llm_installer.training.trainer import Trainer
from llm_installer.training.training_data import TrainingData

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
PACKAGE = Path(llm_installer.__file__).parent
FAST = PACKAGE / "training" / "fast"
NO_TRICK = {"interface.py", "context.py", "__init__.py"}


def imported(file: Path) -> set[str]:
    """Every module of our own that a file imports, also as a name from its package."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def test_nobody_outside_imports_more_than_the_interface() -> None:
    inside = "llm_installer.training.fast"
    outside = [file for file in PACKAGE.rglob("*.py") if FAST not in file.parents]
    reached = {
        (file.name, name)
        for file in outside
        for name in imported(file)
        if name.startswith(f"{inside}.") and not name.startswith(f"{inside}.interface")
    }
    assert reached == set()
    assert any(f"{inside}.interface" in imported(file) for file in outside)


@pytest.mark.parametrize("room", ["models", "distributed", "training/fast"])
def test_nothing_below_training_imports_it(room: str) -> None:
    for file in (PACKAGE / room).rglob("*.py"):
        above = {n for n in imported(file) if n.startswith("llm_installer.training.")}
        allowed = {n for n in above if n.startswith("llm_installer.training.fast") and room == "training/fast"}
        assert above == allowed, file


@pytest.mark.parametrize(
    "file", [f for f in sorted(FAST.rglob("*.py")) if f.name not in NO_TRICK], ids=lambda f: str(f.relative_to(FAST))
)
def test_each_trick_says_when_it_can_be_deleted(file: Path) -> None:
    assert "Delete" in (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")


@pytest.fixture
def trainer_of(plan_for: Callable[..., Plan]) -> Callable[..., Trainer]:
    def make(folder: Path, fast: bool, **changed: object) -> Trainer:
        plan = plan_for(24, epochs=2, micro_batch_tokens=256, fast=fast, **changed)
        return Trainer(add_lora(load_base(folder, plan.precision, "cpu"), plan), plan, pad=0)

    return make


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_with_the_switch_off_nothing_is_replaced(
    tiny_llama: Path, trainer_of: Callable[..., Trainer], make_rows: Callable, precision: str
) -> None:
    search = masking_utils.find_packed_sequence_indices
    trainer = trainer_of(tiny_llama, False, precision=precision, packing=True, compiling=True)
    assert trainer.notes == (OFF, "plain loss: the model's own logits at all positions")
    assert not trainer.packing and not trainer.fast.parallel and not trainer.fast.reserved
    rows = make_rows(8)
    seen: list[int] = []
    trainer.model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    trainer.step([trainer.batch(rows, np.arange(8))], 1e-3)
    assert seen == [max(len(row.ids) for row in rows)], "all positions reach the output layer"
    assert not any("forward" in vars(module) for module in trainer.model.modules())
    assert trainer.model.get_base_model().config._attn_implementation == "sdpa"
    assert masking_utils.find_packed_sequence_indices is search


ALLOCATOR = """
import os
from llm_installer.training.fast.cpu import allocator
from llm_installer.training.fast.interface import prepare_process
allocator._set = lambda wishes: print("set") or True
for fast in (False, True):
    prepare_process("cpu", fast=fast)
    print("on" if fast else "off", "remembers" if allocator.SHAPES[0] in os.environ else "")
"""


@pytest.mark.slow
def test_the_allocator_is_only_told_with_the_switch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, with the switch off and then on: what libraries read once is in its environment."""
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    command = [sys.executable, "-W", "ignore", "-c", ALLOCATOR]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["off", "set", "on", "remembers"]


class Silent:
    """A reporter that keeps losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step(self, report) -> None:
        self.losses.append(report.loss)

    def on_evaluation(self, evaluation, state, best) -> None:
        self.losses.append(evaluation.train_loss)

    def on_note(self, text) -> None:
        raise AssertionError(text)

    def on_event(self, moment, state) -> None:
        pass


class NoCheckpoints:
    def write(self, *parts) -> None:
        pass

    def due(self, measured) -> bool:
        return False


@pytest.mark.parametrize("packing", [False, True])
def test_a_run_with_the_switch_on_ends_where_one_with_it_off_does(
    shared: Path, trainer_of: Callable[..., Trainer], packing: bool
) -> None:
    """The pretrained stories260K in float32: every loss of a run, and the weights at its end, within rounding."""
    folder = shared / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("the model is not here")
    random = np.random.default_rng(0)
    rows = [
        Row(random.integers(3, 500, n).astype(np.int32), np.arange(n) >= n // 3, i)
        for i, n in enumerate(random.integers(8, 60, 24))
    ]
    found = []
    for fast in (True, False):
        trainer, report = trainer_of(folder, fast, packing=packing), Silent()
        assert bool(trainer.packing) == (packing and fast)
        probe(trainer, rows, rows[:6], report.on_note)
        train_loop(trainer, TrainingData(rows, rows[:6], []), Session(NoCheckpoints(), report, Requests()))
        found.append((report.losses, torch.cat([p.detach().flatten() for p in trainer.trained])))
    (losses, weights), (plain_losses, plain_weights) = found
    assert len(losses) > 8 and losses[-1] < losses[0]
    assert losses == pytest.approx(plain_losses, rel=1e-5)
    assert float((weights - plain_weights).norm()) <= 1e-3 * float(plain_weights.norm())
