"""Our loop against transformers' Trainer: the same batches, seed and adapter give the same losses and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import Trainer as HfTrainer
from transformers import TrainingArguments

from llm_installer.core.state import RunState
from llm_installer.data.batches import epoch_steps
from llm_installer.data.encoding.row import Row
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.plan import Plan
from llm_installer.planning.schedule import rate_scale
from llm_installer.training.loop import planned_steps
from llm_installer.training.trainer import Trainer, row_lengths

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:torch")


class Recorder(HfTrainer):
    """transformers' Trainer, noting the loss of each optimizer step and the first step's gradient."""

    def __init__(self, **more):
        super().__init__(**more)
        self.losses: list[float] = []
        self.pending = 0.0

    def _get_train_sampler(self, *_args):
        return SequentialSampler(self.train_dataset)

    def training_step(self, *args, **more):
        loss = super().training_step(*args, **more)
        self.pending += float(loss)
        if self.accelerator.sync_gradients:
            self.losses.append(self.pending)
            self.pending = 0.0
        return loss


def collate(features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(f["input_ids"]) for f in features)

    def padded(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([f[key] + [fill] * (longest - len(f[key])) for f in features])

    return {
        "input_ids": padded("input_ids", 0),
        "labels": padded("labels", -100),
        "attention_mask": padded("attention_mask", 0),
    }


def gradients_at_first_step(
    optimizer: torch.optim.Optimizer, trained: list[torch.nn.Parameter], found: dict[int, torch.Tensor]
) -> None:
    def note(*_args: object) -> None:
        if not found:
            for i, p in enumerate(trained):
                found[i] = p.grad.detach().clone()

    optimizer.register_step_pre_hook(note)


class Deaf:
    """Somebody to report to."""

    def on_event(self, event: object, state: object) -> None:
        pass


def ours(folder: Path, plan: Plan, rows: list[Row]) -> tuple[list[float], dict[int, torch.Tensor]]:
    trainer = Trainer(add_lora(load_base(folder, "float32", "cpu"), plan), plan, pad=0)
    found: dict[int, torch.Tensor] = {}
    gradients_at_first_step(trainer.optimizer.optimizer, trainer.trained, found)
    lengths, state = row_lengths(rows), RunState()
    losses = [
        trainer.step(trainer.micro_batches(rows, lengths, chosen), plan.learning_rate_at(state))[0]
        for chosen in planned_steps(plan, lengths, state, None, Deaf())
    ]
    return losses, found


def theirs(
    folder: Path, plan: Plan, rows: list[Row], micro: int, output: Path
) -> tuple[list[float], dict[int, torch.Tensor]]:
    model = add_lora(load_base(folder, "float32", "cpu"), plan)
    order = np.concatenate(epoch_steps(row_lengths(rows), plan.course.effective_batch_size, plan.seed, 0))
    data = [
        {
            "input_ids": rows[i].ids.tolist(),
            "labels": np.where(rows[i].supervised, rows[i].ids, -100).tolist(),
            "attention_mask": [1] * len(rows[i].ids),
        }
        for i in order
    ]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    found: dict[int, torch.Tensor] = {}
    gradients_at_first_step(optimizer, [p for p in model.parameters() if p.requires_grad], found)
    schedule = LambdaLR(optimizer, lambda i: rate_scale(i + 1, plan.course.warmup_steps, plan.course.total_steps))
    arguments = TrainingArguments(
        output_dir=str(output), per_device_train_batch_size=micro, num_train_epochs=1, use_cpu=True, report_to="none",
        gradient_accumulation_steps=plan.course.effective_batch_size // micro, max_grad_norm=plan.max_grad_norm,
        save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Recorder(
        model=model, args=arguments, train_dataset=data, data_collator=collate, optimizers=(optimizer, schedule)
    )
    trainer.train()
    return trainer.losses, found


@pytest.mark.parametrize(("count", "micro", "steps"), [(160, 8, 20), (80, 2, 10), (37, 4, 5)])
def test_losses_and_gradients_equal_transformers(
    tiny_llama: Path, make_rows: Callable, plan_for: Callable, tmp_path: Path, count: int, micro: int, steps: int
) -> None:
    rows = sorted(make_rows(count), key=lambda r: r.source)
    plan = plan_for(count, micro_batch_rows=micro, micro_batch_tokens=512)
    if count == 37:  # the short step must come last for transformers to cut the same steps
        plans = (plan_for(37, micro_batch_rows=4, seed=seed) for seed in range(100))
        plan = next(p for p in plans if len(epoch_steps(row_lengths(rows), 8, p.seed, 0)[-1]) == 5)
    mine, gradients = ours(tiny_llama, plan, rows)
    reference, expected = theirs(tiny_llama, plan, rows, micro, tmp_path)
    assert len(mine) == len(reference) == steps
    assert max(abs(a - b) for a, b in zip(mine, reference, strict=True)) < 1e-4
    assert mine[-1] < mine[0]
    for i, gradient in expected.items():
        assert torch.norm(gradients[i] - gradient) <= 1e-4 * torch.norm(gradient) + 1e-9
