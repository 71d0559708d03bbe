"""One of the processes of test_processes.py: trains as a pickled task says, and writes down what it saw."""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from pathlib import Path

import torch

from llm_installer.core.paths import Run
from llm_installer.training import processes
from llm_installer.training.checkpoint import CheckpointWriter, adapter_weights, newest_valid
from llm_installer.training.loop import TrainingData, train
from llm_installer.training.model import add_lora, load_base
from llm_installer.training.sharding import bytes_here, decoder_layers, shard_base
from llm_installer.training.signals import Requests
from llm_installer.training.trainer import Trainer


class Notes:
    """A reporter that keeps losses; it asks for the end where the task says."""

    def __init__(self, requests: Requests, end: int | None) -> None:
        self.losses, self.evaluations, self.requests, self.end = [], [], requests, end

    def on_step(self, report) -> None:
        self.losses.append(report.loss)
        if report.step == self.end:
            self.requests.number = 15

    def on_evaluation(self, evaluation, state, best) -> None:
        self.evaluations.append(evaluation.train_loss)

    def on_moment(self, moment, state) -> None:
        pass

    def on_note(self, text: str) -> None:
        pass


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    task = pickle.loads((folder / "task.pickle").read_bytes())
    run = Run(folder / "run")
    with processes.together():
        model = add_lora(load_base(task["model"], "float32", "cpu"), task["plan"])
        if task["sharded"]:
            shard_base(model, "cpu")
        trainer = Trainer(model, task["plan"], pad=0, sharded=task["sharded"])
        computed = []
        whole = trainer.loss_sum
        trainer.loss_sum = lambda batch, *more: (computed.append(len(batch.ids)), whole(batch, *more))[1]
        requests = Requests()
        # Only one of them hears the signal.
        notes = Notes(requests, task["end"] if processes.index() == processes.count() - 1 else None)
        since = newest_valid(run, print) if task["resume"] else None
        data = TrainingData(task["rows"], task["rows"][:9], [])
        state, _ = train(trainer, data, CheckpointWriter(run), notes, requests, since)
        trained = torch.cat([v.flatten() for v in adapter_weights(model).values()])
        seen = {
            "losses": notes.losses,
            "evaluations": notes.evaluations,
            "computed": computed,
            "weights": trained.double().abs().sum().item(),
            "bytes": bytes_here(decoder_layers(model)),
            "number": requests.number,
            "step": state.step,
            "drawn": torch.rand(1).item(),
        }
        (folder / f"seen-{processes.index()}.json").write_text(json.dumps(seen))


main(Path(sys.argv[1]))
