"""The rehearsal leaves no trace; when memory runs out the plan gives up what is written, and no loss changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llm_installer.core.errors import TrainingError
from llm_installer.core.run.signals import Requests
from llm_installer.distributed.memory_errors import is_out_of_memory
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.backoff import smaller
from llm_installer.training.checkpoint import adapter_weights
from llm_installer.training.device_memory import checkpoint_layers, checkpointable, peak_bytes
from llm_installer.training.loop import train_loop
from llm_installer.training.memory_probe import SEVERAL, backing_off, probe
from llm_installer.training.session import Session
from llm_installer.training.trainer import Trainer, row_lengths
from llm_installer.training.training_data import TrainingData

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


class Silent:
    """A reporter that keeps losses and notes."""

    def __init__(self) -> None:
        self.losses, self.notes, self.evaluations = [], [], []

    def on_step(self, report) -> None:
        self.losses.append(report.loss)

    def on_evaluation(self, evaluation, state, best) -> None:
        self.evaluations.append(evaluation.train_loss)

    def on_note(self, text) -> None:
        self.notes.append(text)

    def on_event(self, event, state) -> None:
        pass


class NoCheckpoints:
    def write(self, *parts) -> None:
        pass

    def due(self, measured) -> bool:
        return False


@pytest.fixture(scope="module")
def make_trainer(tiny_llama: Path, plan_for: Callable) -> Callable[..., Trainer]:
    def make(**changed) -> Trainer:
        plan = plan_for(24, epochs=2, micro_batch_tokens=2048, micro_batch_rows=8, **changed)
        return Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)

    return make


def limited(trainer: Trainer, tokens: int, *, unless_checkpointed: int = 99, after: int = 0) -> None:
    """An allocator that has no room for more than `tokens` at once, from the forward pass number `after` on.

    It gives out between two layers, so that half a graph is there when it does.
    """
    layer = trainer.model.get_base_model().model.layers[1]
    seen = 0

    def refuse(module: object, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += 1
        rows, length, _ = args[0].shape
        if rows * length > tokens and seen > after and trainer.plan.checkpointed_layers < unless_checkpointed:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    layer.register_forward_pre_hook(refuse)


def run(trainer: Trainer, rows: list, rehearsed: bool = False) -> tuple[Silent, dict[str, torch.Tensor]]:
    report = Silent()
    if rehearsed:
        probe(trainer, rows, rows[:6], report.on_note)
    train_loop(trainer, TrainingData(rows, rows[:6], rows[6:9]), Session(NoCheckpoints(), report, Requests()))
    return report, adapter_weights(trainer.model)


Seen = tuple[Silent, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def free(make_trainer: Callable, make_rows: Callable) -> Callable[..., Seen]:
    """What a run on 24 rows sees that has memory to spare; each kind of run is made once."""
    made: dict[str, Seen] = {}

    def get(**changed: object) -> Seen:
        kind = repr(changed)
        if kind not in made:
            made[kind] = run(make_trainer(**changed), make_rows(24))
        return made[kind]

    return get


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_rehearsal_leaves_no_trace(
    make_trainer: Callable, make_rows: Callable, free: Callable[..., Seen], dropout: float
) -> None:
    rows = make_rows(24)
    plain, weights = free(**({"lora_dropout": dropout} if dropout else {}))
    rehearsed, same = run(make_trainer(lora_dropout=dropout), rows, rehearsed=True)
    assert rehearsed.losses == plain.losses and rehearsed.evaluations == plain.evaluations
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert rehearsed.notes == []


def state_numbers(trainer: Trainer) -> int:
    """How many numbers the optimizer remembers, beside its count of steps."""
    tensors = (v for state in trainer.bare_optimizer.state.values() for v in state.values())
    return sum(v.numel() for v in tensors if v.dim())


def test_a_rehearsal_is_a_whole_step_of_the_longest_rows(make_trainer: Callable, make_rows: Callable) -> None:
    trainer, rows = make_trainer(), make_rows(24)
    widths, stepped = [], []
    trainer.model.get_base_model().model.layers[0].register_forward_pre_hook(
        lambda module, args: widths.append((tuple(args[0].shape[:2]), torch.is_grad_enabled()))
    )
    trainer.bare_optimizer.register_step_post_hook(lambda *_: stepped.append(state_numbers(trainer)))
    probe(trainer, rows, rows[:6], lambda line: None)
    longest, measured = int(row_lengths(rows).max()), int(row_lengths(rows[:6]).max())
    assert widths == [((min(8, 2048 // longest), longest), True), ((min(6, 2048 // measured), measured), False)]
    numbers = sum(p.numel() for p in trainer.trained)
    assert stepped == [pytest.approx(2 * numbers, rel=0.05)], "the optimizer's state was there beside the gradients"
    assert not trainer.bare_optimizer.state


def test_too_little_memory_halves_the_tokens_and_no_loss_changes(
    make_trainer: Callable, make_rows: Callable, free: Callable[..., Seen]
) -> None:
    rows, (whole, _) = make_rows(24), free()
    longest = int(row_lengths(rows).max())
    trainer = make_trainer()
    limited(trainer, 2 * longest)
    tight, _ = run(trainer, rows, rehearsed=True)
    assert trainer.plan.micro_batch_tokens == 2 * longest
    assert trainer.plan.why["micro_batch_tokens"].startswith("out of memory with")
    rest = "from here on, and more of them per step."
    assert tight.notes == [
        f"Out of memory with micro-batches of {8 * longest} tokens: {4 * longest} {rest}",
        f"Out of memory with micro-batches of {4 * longest} tokens: {2 * longest} {rest}",
    ]
    assert tight.losses == pytest.approx(whole.losses, abs=1e-6)
    # These are above 7, where float32 has steps of 4.8e-7: three of them, on a processor without AVX-512.
    assert tight.evaluations == pytest.approx(whole.evaluations, abs=2e-6)


def test_packed_rows_back_off_in_the_same_order(
    make_trainer: Callable, make_rows: Callable, free: Callable[..., Seen]
) -> None:
    """First fewer documents in a row, down to the longest one alone, then checkpointed layers; the losses stay."""
    rows = make_rows(24)
    lengths = row_lengths(rows)
    longest, whole = int(lengths.max()), sum(sorted(lengths.tolist())[-8:])
    plain, weights = free(packing=True)
    trainer = make_trainer(packing=True)
    assert trainer.packing, trainer.notes
    limited(trainer, longest - 1, unless_checkpointed=2)
    tight, same = run(trainer, rows, rehearsed=True)
    assert (trainer.plan.micro_batch_tokens, trainer.plan.checkpointed_layers) == (longest, 2)
    halved = [note for note in tight.notes if "more of them per step" in note]
    assert halved[0].startswith(
        f"Out of memory with micro-batches of {whole} tokens: {max(longest, whole // 2)} from here on"
    )
    assert [note.partition(":")[2] for note in tight.notes[len(halved) :]] == [
        " 1 of 2 layers are checkpointed from here on.",
        " 2 of 2 layers are checkpointed from here on.",
    ]
    assert tight.losses == pytest.approx(plain.losses, abs=1e-6)
    assert tight.evaluations == pytest.approx(plain.evaluations, abs=1e-6)
    assert all(torch.allclose(weights[name], same[name], atol=1e-5) for name in weights)


def test_packed_rows_that_run_out_later_lose_nothing(
    make_trainer: Callable, make_rows: Callable, free: Callable[..., Seen]
) -> None:
    rows, (plain, _) = make_rows(24), free(packing=True)
    trainer = make_trainer(packing=True)
    limited(trainer, 2 * int(row_lengths(rows).max()), after=8)
    tight, _ = run(trainer, rows)
    assert tight.notes and all("more of them per step" in note for note in tight.notes)
    assert tight.losses == pytest.approx(plain.losses, abs=1e-6)


@pytest.mark.parametrize("after", [3, 8, 13])
def test_memory_that_runs_out_later_loses_nothing(
    make_trainer: Callable, make_rows: Callable, free: Callable[..., Seen], after: int
) -> None:
    rows, (plain, weights) = make_rows(24), free()
    trainer = make_trainer()
    limited(trainer, 2 * int(row_lengths(rows).max()), after=after)
    tight, same = run(trainer, rows)
    assert tight.notes and all("more of them per step" in note for note in tight.notes)
    assert tight.losses == pytest.approx(plain.losses, abs=2e-6)
    assert all(torch.allclose(weights[name], same[name], atol=1e-5) for name in weights)


@pytest.mark.slow
def test_then_layers_are_checkpointed_and_then_it_ends(
    make_trainer: Callable, make_rows: Callable, free: Callable[..., Seen]
) -> None:
    rows, (plain, _) = make_rows(24), free()
    longest = int(row_lengths(rows).max())
    trainer = make_trainer()
    limited(trainer, longest - 1, unless_checkpointed=2)
    tight, _ = run(trainer, rows, rehearsed=True)
    assert (trainer.plan.micro_batch_tokens, trainer.plan.checkpointed_layers) == (longest, 2)
    assert [note.partition(":")[2] for note in tight.notes[-2:]] == [
        " 1 of 2 layers are checkpointed from here on.",
        " 2 of 2 layers are checkpointed from here on.",
    ]
    assert tight.losses == pytest.approx(plain.losses, abs=1e-6)
    hopeless = make_trainer()
    limited(hopeless, longest - 1)
    with pytest.raises(TrainingError, match=rf"one row of {longest} tokens; try --method qlora, or .*{longest // 2}$"):
        probe(hopeless, rows, [], lambda line: None)


def test_half_a_step_is_thrown_away_with_all_it_held(make_trainer: Callable, make_rows: Callable) -> None:
    trainer, rows = make_trainer(), make_rows(8)
    limited(trainer, 0)
    batches = trainer.micro_batches(rows, row_lengths(rows), torch.arange(8).numpy())
    with pytest.raises(TrainingError):
        backing_off(trainer, lambda: trainer.step(batches, 1e-3), size=1, longest=1, say=lambda line: None)
    assert not any(p.grad is not None and p.grad.any() for p in trainer.trained)


def test_other_errors_are_not_swallowed(make_trainer: Callable) -> None:
    def broken() -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        backing_off(make_trainer(), broken, size=1, longest=1, say=lambda line: None)


def test_one_of_several_processes_cannot_back_off_alone(make_trainer: Callable) -> None:
    def full() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    trainer = make_trainer()
    several = SimpleNamespace(
        accelerator=SimpleNamespace(num_processes=2), plan=trainer.plan, model=trainer.model,
        bare_optimizer=trainer.bare_optimizer,
    )  # fmt: skip
    with pytest.raises(TrainingError) as error:
        backing_off(several, full, size=4096, longest=1, say=lambda line: None)
    assert str(error.value) == SEVERAL


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried"), True),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_a_refused_allocation_is_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_refusal_is_recognised() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(refused.value)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_checkpointed_layers_change_no_gradient(make_trainer: Callable, make_rows: Callable, count: int) -> None:
    rows = make_rows(6)

    def gradient(trainer: Trainer) -> tuple[torch.Tensor, int]:
        kept = 0

        def count_it(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        trainer.model.train()
        batch = trainer.batch(rows, torch.arange(6).numpy())
        with torch.autograd.graph.saved_tensors_hooks(count_it, lambda t: t):
            trainer.loss_sum(batch).backward()
        return torch.cat([p.grad.flatten() for p in trainer.trained]), kept

    plain, checked = make_trainer(), make_trainer()
    assert checkpoint_layers(checked.model, count) == min(count, 2)
    assert [layer.gradient_checkpointing for layer in checkpointable(checked.model)] == [count > 0, count > 1]
    (expected, much), (found, little) = gradient(plain), gradient(checked)
    assert torch.allclose(found, expected, atol=1e-6)
    assert little < much if count else little == much, (little, much)
    assert checkpoint_layers(checked.model, 0) == 0


def test_the_ladder_is_written_down(make_trainer: Callable) -> None:
    plan = dataclasses.replace(make_trainer().plan, micro_batch_tokens=4096)
    seen = []
    while found := smaller(plan, tokens=4000, longest=900, layers=5):
        plan = found[0]
        seen.append((plan.micro_batch_tokens, plan.checkpointed_layers))
    assert seen == [(2000, 0), (1000, 0), (900, 0), (900, 2), (900, 5)]


def test_the_peak_is_that_of_the_process() -> None:
    before = peak_bytes("cpu")
    held = torch.ones(before // 4 + (16 << 20))
    assert peak_bytes("cpu") >= before + held.nbytes // 2 > before
