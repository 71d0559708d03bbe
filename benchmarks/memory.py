"""The memory formula against what a process really held: shapes and settings on the CPU, each in a fresh process.

Run as: python benchmarks/memory.py [--case NAME] [--path eager] [--json]
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MB = 1e6
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


@dataclasses.dataclass(frozen=True)
class Case:
    """One shape of a Llama and one way to train it."""

    dtype: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    rank: int
    rows: int
    length: int
    scored: float
    checkpointed: int = 0
    targets: tuple[str, ...] = ALL
    quantised: str = ""
    dropout: float = 0.0
    dora: bool = False
    packed: bool = False
    """Rows of uneven lengths, one after the other; together as many tokens as without."""

    @property
    def tokens(self) -> int:
        """Of the micro-batch."""
        return self.rows * self.length

    @property
    def lengths(self) -> list[int]:
        """Of the rows: around `length`, and `length` on average."""
        uneven = [self.length * (i - self.rows // 2) // (2 * self.rows) if self.packed else 0 for i in range(self.rows)]
        found = [self.length + more for more in uneven]
        return [*found[1:], self.tokens - sum(found[1:])]


CASES = {
    "small": Case("float32", 256, 1024, 4, 8, 8, 1000, 8, 8, 128, 1.0),
    "small bf16": Case("bfloat16", 256, 1024, 4, 8, 8, 1000, 8, 16, 128, 1.0),
    "grouped queries": Case("float32", 512, 1536, 6, 8, 2, 8000, 16, 4, 256, 0.5, targets=ATTENTION),
    "grouped bf16": Case("bfloat16", 512, 1536, 6, 8, 2, 8000, 16, 4, 512, 0.5, targets=ATTENTION),
    "wide vocabulary": Case("float32", 64, 256, 2, 4, 4, 50000, 8, 4, 128, 1.0),
    "wide bf16": Case("bfloat16", 192, 512, 4, 3, 3, 49152, 8, 4, 256, 0.6),
    "all checkpointed": Case("float32", 384, 1024, 8, 6, 6, 8000, 16, 8, 256, 0.5, checkpointed=8),
    "half checkpointed": Case("bfloat16", 384, 1024, 8, 6, 6, 8000, 16, 8, 256, 0.5, checkpointed=4),
    "high rank": Case("float32", 384, 1024, 6, 6, 3, 8000, 128, 8, 128, 0.7),
    "small nf4": Case("float32", 256, 1024, 4, 8, 8, 1000, 8, 8, 128, 1.0, quantised="nf4"),
    "nf4 bf16": Case("bfloat16", 512, 1536, 6, 8, 2, 8000, 16, 4, 512, 0.5, quantised="nf4"),
    "nf4 checkpointed": Case("float32", 384, 1024, 8, 6, 6, 8000, 16, 8, 256, 0.5, checkpointed=8, quantised="nf4"),
    "nf4 100M": Case("bfloat16", 576, 1536, 24, 9, 3, 32000, 16, 2, 256, 0.7, targets=ATTENTION, quantised="nf4"),
    "int8": Case("float32", 512, 1536, 6, 8, 2, 8000, 16, 4, 256, 0.5, quantised="int8"),
    "int8 bf16": Case("bfloat16", 512, 1536, 6, 8, 2, 8000, 16, 4, 512, 0.5, quantised="int8"),
    "dropout": Case("float32", 384, 1024, 6, 6, 6, 8000, 16, 8, 128, 0.7, dropout=0.1),
    "dropout bf16": Case("bfloat16", 384, 1024, 6, 6, 6, 8000, 16, 8, 128, 0.7, dropout=0.1),
    "dora": Case("float32", 384, 1024, 6, 6, 6, 8000, 16, 8, 128, 0.7, dora=True),
    "packed": Case("float32", 384, 1024, 6, 6, 6, 8000, 16, 8, 128, 0.7, packed=True),
    "packed bf16": Case("bfloat16", 512, 1536, 6, 8, 2, 8000, 16, 8, 256, 0.5, packed=True),
    "packed checkpointed": Case("float32", 384, 1024, 8, 6, 6, 8000, 16, 16, 128, 0.5, checkpointed=8, packed=True),
    "100M": Case("bfloat16", 576, 1536, 24, 9, 3, 32000, 16, 2, 256, 0.7, targets=ATTENTION),
}
WARM = Case("float32", 32, 64, 2, 4, 4, 64, 4, 1, 16, 1.0)


def predict(folder: Path, case: Case, path: str) -> int:
    """Bytes above the libraries, by the formula and the headers of the weights alone."""
    from llm_installer.core.hardware import Hardware, c_compiler
    from llm_installer.core.model_info import read_model_info
    from llm_installer.planning.memory import TIGHT, plan_memory
    from llm_installer.planning.method import Method
    from llm_installer.planning.setup import Adapters, Setup

    setup = Setup(
        model=read_model_info(folder), hardware=Hardware("cpu", "CPU", 1, 0, 0, True, 1, bool(c_compiler())),
        precision=case.dtype, adapters=Adapters(case.rank, 2 * case.rank, case.dropout, case.targets),
        method=Method(quantised=case.quantised, dora=case.dora), packing=case.packed, longest=case.length,
        fast=path != "eager",
    )  # fmt: skip
    memory = plan_memory(setup, scored=case.scored)
    if path == "eager":
        memory = dataclasses.replace(memory, slack=TIGHT)
    return memory.peak(case.tokens, case.checkpointed) - memory.process


def make_model(folder: Path, case: Case) -> Path:
    """A random Llama of the case's shape, saved as transformers saves it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=case.vocabulary, hidden_size=case.hidden, intermediate_size=case.inner,
        num_hidden_layers=case.layers, num_attention_heads=case.heads, num_key_value_heads=case.kv_heads,
        max_position_embeddings=2048, tie_word_embeddings=True, pad_token_id=0, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).to(getattr(torch, case.dtype)).save_pretrained(folder)
    return folder


def trained(folder: Path, case: Case, path: str, steps: int) -> Callable[[], object]:
    """Load and adapt the model and train it for some steps with the program's own parts; a function for one more."""
    import numpy as np

    from llm_installer.core.hardware import GIB, Hardware
    from llm_installer.core.model_info import read_model_info
    from llm_installer.data.encoding.row import Row
    from llm_installer.models.base import add_lora, load_base
    from llm_installer.planning.chooser import DataFacts
    from llm_installer.planning.decide import make_plan
    from llm_installer.planning.options import Options
    from llm_installer.planning.registry import find_handler
    from llm_installer.training.checkpoint import adapter_weights
    from llm_installer.training.device_memory import checkpoint_layers
    from llm_installer.training.trainer import Trainer

    info = read_model_info(folder)
    options = Options(
        data="x", precision=case.dtype, lora_r=case.rank, target_modules=",".join(case.targets),
        packing="on" if case.packed else "off", lora_dropout=case.dropout, use_dora=case.dora,
    )  # fmt: skip
    machine = Hardware("cpu", "CPU", 1, 64 * GIB, 64 * GIB, True, 1)
    facts = DataFacts(case.rows, 0, "text", case.length, case.length)
    plan = make_plan(options, info, find_handler(info), machine, facts, (case.length, "the case's"))
    trainer = Trainer(add_lora(load_base(folder, case.dtype, "cpu", case.quantised), plan), plan, 0)
    assert bool(trainer.packing) == case.packed
    if path == "eager":
        trainer.fast.loss.fused = False
        for module in trainer.model.modules():
            vars(module).pop("forward", None)
    if checkpoint_layers(trainer.model, case.checkpointed):
        trainer.fast.short_of_memory()
    best = adapter_weights(trainer.model)
    random = np.random.default_rng(0)
    learned = [np.arange(n) >= n * (1 - case.scored) for n in case.lengths]
    rows = [Row(random.integers(0, case.vocabulary, len(part)), part, 0) for part in learned]
    batch = trainer.batch(rows, np.arange(case.rows))
    assert batch.ids.size == case.tokens

    def step() -> object:
        assert best, "held beside the weights in training, as here"
        return trainer.step([batch], 1e-4)

    for _ in range(steps):
        step()
    return step


def measure(case: Case, path: str, tensors: bool) -> dict[str, float]:
    """In this process: what the libraries hold, the peak above it, and what tensors alone fill in one step."""
    import torch

    from llm_installer.core.process_memory import resident_bytes
    from llm_installer.training.device_memory import forget_peak, peak_bytes
    from llm_installer.training.fast.cpu.allocator import (
        give_back_freed_memory,
        remember_few_products,
        reserve_freed_memory,
    )

    torch.set_num_threads(1)
    # What is kept of the large logits of the plain path differs from run to run: there the counts alone are tested.
    remember_few_products()
    give_back_freed_memory() if path == "eager" else reserve_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        warm = dataclasses.replace(WARM, dtype=case.dtype, quantised=case.quantised)
        trained(make_model(Path(folder) / "warm", warm), warm, path, 3)
        subprocess.run([sys.executable, __file__, "--make", repr(case), "--out", f"{folder}/model"], check=True)
        gc.collect()
        base = resident_bytes()
        forget_peak("cpu")
        step = trained(Path(folder) / "model", case, path, 3)
        peak = peak_bytes("cpu")
        predicted = predict(Path(folder) / "model", case, path)
        found = {"base": base, "measured": peak - base, "predicted": predicted}
        return found | ({"tensors": live_peak(step)} if tensors else {})


def live_peak(step: Callable[[], object]) -> float:
    """The most bytes that tensors made in one step held at once, counted allocation by allocation."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    held = most = 0
    events: Any = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes() if event.name() == "[memory]" else 0
        most = max(most, held)
    return most


def in_fresh_process(name: str, path: str) -> dict[str, float]:
    """Measure one case where nothing else was allocated before."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    root = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, __file__, "--case", name, "--path", path, "--json", "--tensors"],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _plain(case: Case) -> Case:
    """Without what only some ways to train have: plain PEFT is measured for the others alone."""
    return dataclasses.replace(case, quantised="", dropout=0.0, dora=False, packed=False)


def main() -> None:
    """Print the table, or one case as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, help="only this one")
    parser.add_argument("--path", choices=("fused", "eager"), default="fused", help="how the layers are computed")
    parser.add_argument("--json", action="store_true", help="measure in this process and print JSON")
    parser.add_argument("--tensors", action="store_true", help="with --json: count the tensors of one step, too")
    parser.add_argument("--make", choices={repr(c): c for c in CASES.values()}, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        make_model(Path(given.out), next(c for c in CASES.values() if repr(c) == given.make))
        return
    if given.json:
        print(json.dumps(measure(CASES[given.case], given.path, given.tensors)))
        return
    print("| case | predicted MB | measured MB | ratio | tensors of a step MB |\n|---|---|---|---|---|")
    every = [name for name, case in CASES.items() if given.path == "fused" or case == _plain(case)]
    for name in [given.case] if given.case else every:
        found = in_fresh_process(name, given.path)
        ratio = found["predicted"] / found["measured"]
        print(
            f"| {name} | {found['predicted'] / MB:.0f} | {found['measured'] / MB:.0f} | {ratio:.2f} "
            f"| {found['tensors'] / MB:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
