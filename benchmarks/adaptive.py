"""Mode adaptive against mode medium: the same data, epochs and seeds, and a learning rate that fits or does not.

Run as: python benchmarks/adaptive.py --model ../shared/models/stories260K --data ../shared/data [--seeds 3] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

MODES = ("medium", "adaptive")
SUMS, LINES = "gsm8k", "shakespeare"


@dataclass(frozen=True)
class Setup:
    """One row of the table."""

    name: str
    data: str
    rows: int
    rate: float
    """Times the rate that the plan would choose for this model."""
    epochs: int = 3
    noise: float = 0.0
    """Share of the rows whose answers are dealt out again; what is measured stays clean."""


SETUPS = (
    Setup("usual rate", SUMS, 150, 1),
    Setup("10 x too high", SUMS, 150, 10),
    Setup("10 x too low", SUMS, 150, 0.1),
    Setup("small and noisy", SUMS, 80, 1, epochs=12, noise=0.5),
    Setup("usual rate", LINES, 800, 1),
    Setup("10 x too high", LINES, 800, 10),
    Setup("10 x too low", LINES, 800, 0.1),
    Setup("small, many epochs", LINES, 120, 1, epochs=20),
)
USUAL_RATE = 5e-3
"""What the plan chooses for a model of this size."""


def main() -> None:
    """Run all of it, print the table, write the JSON."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--model", type=Path, required=True, help="a small pretrained model")
    parse.add_argument("--data", type=Path, required=True, help="folder with qa/gsm8k_train.jsonl and text/")
    parse.add_argument("--seeds", type=int, default=3)
    parse.add_argument("--quick", action="store_true", help="one seed, Shakespeare only")
    parse.add_argument("--json", type=Path, help="write every curve here")
    given = parse.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    setups = [s for s in SETUPS if s.data == LINES or not given.quick]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LLM_HOME"] = str(Path(folder) / "home")
        found = [compare(s, Path(folder), given) for s in setups]
    print(f"\n{date.today()}, mean over the seeds of the best loss on validation rows, and of the loss on fresh rows\n")
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def compare(setup: Setup, folder: Path, given: argparse.Namespace) -> dict[str, object]:
    """Both modes with every seed."""
    from llm_installer.install.installer import install

    model = Path(os.environ["LLM_HOME"]) / "models" / given.model.name
    if not model.exists():
        install(str(given.model.absolute()), say=lambda text: None)
    runs: dict[str, list[dict[str, object]]] = {mode: [] for mode in MODES}
    for seed in range(1, (1 if given.quick else given.seeds) + 1):
        files = write_data(setup, given.data, folder, seed)
        for mode in MODES:
            runs[mode].append(run(setup, mode, seed, model, files))
            last = runs[mode][-1]
            losses = f"{last['best_loss']:.4f}, on fresh rows {last['fresh_loss']:.4f}"
            print(f"{setup.data}, {setup.name}, seed {seed}, {mode}: {losses}", flush=True)
            for note in last["adjustments"]:
                print(f"    step {note['step']}: {note['why']}", flush=True)
    return {"data": setup.data, "setup": setup.name, "runs": runs}


def run(setup: Setup, mode: str, seed: int, model: Path, files: list[Path]) -> dict[str, object]:
    """One run of the product itself, its curve, and the loss of its adapter on rows that nothing had looked at."""
    from llm_installer import train_lora
    from llm_installer.core.voice import Silence
    from llm_installer.planning.options import Options

    options = Options(
        model_path=str(model), data=str(files[0]), validation_data=str(files[1]), mode=mode, seed=seed,
        epochs=setup.epochs, learning_rate=setup.rate * USUAL_RATE, skip_test=True, tensorboard=False,
    )  # fmt: skip
    began = time.monotonic()
    found = train_lora.run(options, Silence())
    assert found is not None, "there is one process"
    result = found.result
    state = json.loads((result.run / "checkpoints" / "last" / "state.json").read_text(encoding="utf-8"))
    return {
        "best_loss": result.best_loss,
        "fresh_loss": loss_on(files[2], model, result.adapter),
        "best_step": result.best_step,
        "steps": result.steps,
        "stop_reason": result.stop_reason,
        "seconds": round(time.monotonic() - began, 1),
        "adjustments": state["adjustments"],
        "curve": [
            {k: e[k] for k in ("step", "epoch", "train_loss", "validation_loss", "learning_rate", "grad_norm")}
            for e in state["history"]
        ],
    }


def loss_on(file: Path, model: Path, adapter: Path) -> float:
    """Mean loss per learned token of an adapter, by plain PEFT in a model of its own."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from llm_installer.core.model_info import read_model_info
    from llm_installer.data.encoding.encode import Encoder
    from llm_installer.data.encoding.tokenizer import load_tokenizer
    from llm_installer.data.prepare import prepare, read
    from llm_installer.planning.options import Options
    from llm_installer.planning.registry import find_handler

    options, info = Options(data=str(file), validation_split=0.0), read_model_info(model / "model")
    prepared = prepare(read(options, Path("/")), Encoder(load_tokenizer(adapter)), options, info, find_handler(info))
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model / "model"), adapter).eval()
    total = count = 0.0
    with torch.no_grad():
        for row in prepared.train:
            ids = torch.from_numpy(row.ids[None].astype("int64"))
            scores = tuned(input_ids=ids).logits[0, :-1].log_softmax(-1)[torch.arange(len(row.ids) - 1), ids[0, 1:]]
            learned = torch.from_numpy(row.supervised[1:])
            total, count = total - float(scores[learned].sum()), count + float(learned.sum())
    return total / count


def write_data(setup: Setup, source: Path, folder: Path, seed: int) -> list[Path]:
    """Files to train on, measure on and look at afterwards: for each seed other rows, for both modes the same."""
    chance, held_out, fresh = random.Random(seed), 60, 100
    if setup.data == LINES:
        text = (source / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8").splitlines()
        lines = list(dict.fromkeys(line for line in text if len(line) > 20))
        rows: list[dict[str, str]] = [{"text": line} for line in lines]
    else:
        text = (source / "qa" / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, text) if len(row["question"]) + len(row["answer"]) < 300]
    chosen = chance.sample(rows, setup.rows + held_out + fresh)
    measured, unseen, train = chosen[:held_out], chosen[held_out : held_out + fresh], chosen[held_out + fresh :]
    mixed = [row["answer"] for row in train[: int(setup.noise * len(train))]]
    chance.shuffle(mixed)
    train = [{**row, "answer": answer} for row, answer in zip(train, mixed, strict=False)] + train[len(mixed) :]
    parts = {"train": train, "held_out": measured, "fresh": unseen}
    for name, part in parts.items():
        text_of = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text_of, encoding="utf-8")
    return [folder / f"{name}.jsonl" for name in parts]


def table(found: list[dict[str, object]]) -> str:
    """The comparison in Markdown."""
    lines = [
        "| data | set-up | medium | adaptive | difference | better in | fresh rows: medium | adaptive | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        cells = [row["data"], row["setup"]]
        for kind in ("best_loss", "fresh_loss"):
            medium, adaptive = ([r[kind] for r in row["runs"][mode]] for mode in MODES)
            means = statistics.mean(medium), statistics.mean(adaptive)
            cells += [f"{means[0]:.3f}", f"{means[1]:.3f}", f"{means[1] / means[0] - 1:+.1%}"]
            if kind == "best_loss":
                better = sum(a < m for a, m in zip(adaptive, medium, strict=True))
                cells.append(f"{better} of {len(medium)}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
