"""One of the processes of test_processes.py: trains as pickled tasks say, one by one, and writes what it saw."""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.distributed.tensor import DTensor

from llm_installer.core.paths import Run
from llm_installer.core.run.checkpoints import newest_valid
from llm_installer.core.run.signals import Requests
from llm_installer.data.encoding.row import Row
from llm_installer.distributed import processes
from llm_installer.distributed.sharding import decoder_layers, shard_base
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import CheckpointWriter, adapter_weights, read_checkpoint
from llm_installer.training.device_memory import checkpoint_layers
from llm_installer.training.loop import train_loop
from llm_installer.training.memory_probe import probe
from llm_installer.training.session import Session
from llm_installer.training.trainer import Trainer
from llm_installer.training.training_data import TrainingData


class Notes:
    """A reporter that keeps losses; it asks for the end where the task says."""

    def __init__(self, requests: Requests, end: int | None) -> None:
        self.losses, self.evaluations, self.notes, self.requests, self.end = [], [], [], requests, end

    def on_step(self, report) -> None:
        self.losses.append(report.loss)
        if report.step == self.end:
            self.requests.number = 15

    def on_evaluation(self, evaluation, state, best) -> None:
        self.evaluations.append(evaluation.train_loss)

    def on_event(self, event, state) -> None:
        pass

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def model_for(model: Path, plan: Plan, sharded: bool) -> PeftModel:
    made = add_lora(load_base(model, plan.precision, "cpu", plan.method.quantised), plan)
    if sharded:
        shard_base(made, "cpu")
    return made


def bytes_here(module: nn.Module) -> int:
    """Bytes of frozen weights that this process holds."""
    held = (p for p in module.parameters() if not p.requires_grad)
    local = (p.to_local() if isinstance(p, DTensor) else p for p in held)
    return sum(p.numel() * p.element_size() for p in local)


def limit(model: PeftModel, tokens: int, after: int) -> None:
    """An allocator that has no room for more than `tokens` at once, from the forward pass number `after` on.

    It gives out between two layers, so that half a graph is there when it does.
    """
    seen = 0

    def refuse(module: object, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += 1
        rows, length, _ = args[0].shape
        if rows * length > tokens and seen > after:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    decoder_layers(model)[1].register_forward_pre_hook(refuse)


def trained(
    folder: Path, model: Path, plan: Plan, rows: list[Row], resume: bool = False, end: int | None = None,
    sharded: bool = False, tight: tuple[int, int] | None = None, probed: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """What this process saw of a whole run in a folder."""
    run, last = Run(folder / "run"), processes.index() == processes.count() - 1
    peft = model_for(model, plan, sharded)
    layers = decoder_layers(peft)
    trainer = Trainer(peft, plan, pad=0, sharded=sharded)
    computed = []
    whole = trainer.loss_sum
    trainer.loss_sum = lambda batch, *more: (computed.append(len(batch.ids)), whole(batch, *more))[1]
    requests = Requests()
    # Only one of them hears the signal, and only one of them has little memory.
    notes = Notes(requests, end if last else None)
    if tight and last:
        limit(peft, *tight)
    if probed:
        probe(trainer, rows, rows[:9], notes.on_note)
    since = read_checkpoint(newest_valid(run, print)) if resume else None
    data = TrainingData(rows, rows[:9], [])
    state, _ = train_loop(trainer, data, Session(CheckpointWriter(run), notes, requests, since))
    return {
        "losses": notes.losses,
        "evaluations": notes.evaluations,
        "notes": notes.notes,
        "paths": trainer.notes,
        "computed": computed,
        "weights": torch.cat([v.flatten() for v in adapter_weights(peft).values()]).double().abs().sum().item(),
        "bytes": bytes_here(layers),
        "stored": sorted({type(m).__name__ for n, m in layers.named_modules() if n.endswith("_proj.base_layer")}),
        "number": requests.number,
        "step": state.step,
        "tokens": trainer.plan.micro_batch_tokens,
        "drawn": torch.rand(1).item(),
    }


def gradients(model: Path, plan: Plan, checkpointed: int = 0) -> dict[str, Any]:
    """Loss and gradients of two steps: their size, and how far a sharded base is from one that is not."""
    ids = torch.arange(3, 63).view(3, 20)
    found = []
    for sharded in (False, True):
        peft = model_for(model, plan, sharded).train()
        torch.manual_seed(1)
        for name, weight in peft.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.05)
        checkpoint_layers(peft, checkpointed)
        for _ in range(2):
            loss = peft(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
        grads = [p.grad.flatten() for p in peft.parameters() if p.requires_grad]
        found.append(torch.cat([loss.detach().view(1), *grads]).float())
    whole, shards = found
    return {"off": (whole - shards).abs().max().item(), "size": whole[1:].abs().max().item(), "count": len(whole)}


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    tasks = pickle.loads((folder / "tasks.pickle").read_bytes())
    kinds = {"train": trained, "gradients": gradients}
    with processes.together():
        seen = {name: kinds[kind](**task) for name, (kind, task) in tasks.items()}
        (folder / f"seen-{processes.index()}.json").write_text(json.dumps(seen))


main(Path(sys.argv[1]))
