"""Compares this trainer with TRL at its best, and with Unsloth where that is given, on one NVIDIA GPU.

    python benchmarks/compare_cuda.py --shape 8b --work long --tools ours,"ours fp8",trl --repeat 3

Random weights are made on the GPU from one seed; every run has a process of its own, and rounds alternate. `long` is
steps of 8 documents of 2048 random tokens, all learned; `alpaca` is the rows of --data, 16 a step, answers learned.
Steady state (the steps after the third) and the whole training are told apart. --profile shows what the GPU does in a
step. --device cpu with --shape tiny is for trying the script out where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from compare import SHAPES, flops_per_token, questions

SHAPES_HERE = {
    **SHAPES,
    "tiny": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 12032, "tie_word_embeddings": True},
}  # fmt: skip
TOOLS = ("ours", "ours fp8", "trl", "unsloth")
AT_ONCE = {"tiny": 512, "135m": 16384, "0.5b": 16384, "1b": 16384, "8b": 8192}
"""Tokens of a micro-batch, the same for all tools."""
SECONDS = 240
"""That one run may take."""


def main() -> None:
    """Run all, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES_HERE, default="0.5b")
    parser.add_argument("--work", choices=("long", "alpaca"), default="alpaca")
    parser.add_argument("--data", help="Alpaca rows, JSON, for --work alpaca")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--tokens", type=int, help="tokens of a micro-batch; by default a table")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a document in --work long")
    parser.add_argument("--tools", default="ours,trl", help=f"of {', '.join(TOOLS)}")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--unsloth", default="", help="PYTHONPATH of Unsloth's own environment")
    parser.add_argument("--profile", action="store_true", help="what ours does in a step, by kernel; no comparison")
    parser.add_argument("--json", default="compare_cuda.json")
    given = parser.parse_args()
    if given.work == "alpaca" and not given.data:
        parser.error("--work alpaca needs --data")
    tools = given.tools.split(",")
    if unknown := [tool for tool in tools if tool not in TOOLS]:
        parser.error(f"there is no tool {unknown[0]}; choose among {', '.join(TOOLS)}")
    runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(make_job(given)))
        for turn in range(1 if given.profile else given.repeat):
            for tool in tools if turn % 2 == 0 else tools[::-1]:
                runs[tool].append(run_one(tool, job, given.unsloth))
                print(f"{tool}: {runs[tool][-1].get('said', runs[tool][-1])}", flush=True)
    print(table(runs, SHAPES_HERE[given.shape]))
    Path(given.json).write_text(json.dumps({"settings": vars(given), "runs": runs}))


def make_job(given: argparse.Namespace) -> dict[str, Any]:
    """What every process is told: the steps as token ids, and the shape."""
    import numpy as np

    shape = SHAPES_HERE[given.shape]
    if given.work == "long":
        random = np.random.default_rng(0)
        ids = random.integers(3, shape["vocab_size"], (given.steps * 8, given.length)).tolist()
        rows, batch = [{"ids": each, "prompt": 0} for each in ids], 8
    else:
        from tokenizers import ByteLevelBPETokenizer

        texts = questions(Path(given.data).read_text(encoding="utf-8"))
        tokenizer, batch = ByteLevelBPETokenizer(), 16
        tokenizer.train_from_iterator([p + o for p, o in texts], vocab_size=12000, show_progress=False)
        rows = []
        for prompt, output in texts[: given.steps * batch]:
            first, rest = tokenizer.encode(prompt).ids, tokenizer.encode(output).ids
            rows.append({"ids": [*first, *rest, 0][: given.length], "prompt": len(first)})
        rows = [row for row in rows if row["prompt"] < len(row["ids"])]
    return {
        "rows": rows, "shape": shape, "device": given.device, "batch": batch, "packed": given.work != "long",
        "tokens": given.tokens or AT_ONCE[given.shape], "length": given.length, "profile": given.profile,
    }  # fmt: skip


def run_one(tool: str, job: Path, unsloth: str) -> dict[str, Any]:
    """One tool in its own process: what its last line says, or why there is none."""
    worker = Path(__file__).with_name("compare_cuda_worker.py")
    path = {"PYTHONPATH": unsloth} if tool == "unsloth" and unsloth else {}
    words = [sys.executable, str(worker), tool, str(job)]
    try:
        done = subprocess.run(words, env={**os.environ, **path}, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {SECONDS} seconds"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"failed": (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]}
    result: dict[str, Any] = json.loads(lines[-1])
    if "profile" in result:
        print(result["profile"], flush=True)
    return {**result, "said": f"{result['steady']:,.0f} tokens/s, {result['peak'] / 1e9:.1f} GB"}


def table(runs: dict[str, list[dict[str, Any]]], shape: dict[str, Any]) -> str:
    """Medians, and the ratio to the first tool round by round."""
    lines = ["tool | steady tokens/s | whole tokens/s | seconds | peak GB | final loss | first tool / this one"]
    first = [run for run in next(iter(runs.values()), [])]
    for tool, each in runs.items():
        good = [run for run in each if "failed" not in run]
        if not good:
            lines.append(f"{tool} | {each[0]['failed'] if each else 'not run'}")
            continue
        steady, whole, seconds, peak, loss = (
            statistics.median(run[key] for run in good) for key in ("steady", "whole", "seconds", "peak", "final_loss")
        )
        both = [(a, b) for a, b in zip(first, each, strict=False) if "steady" in a and "steady" in b]
        ratio = f"{statistics.median(a['steady'] / b['steady'] for a, b in both):.2f}" if both else "-"
        lines.append(f"{tool} | {steady:,.0f} | {whole:,.0f} | {seconds:.1f} | {peak / 1e9:.1f} | {loss:.4f} | {ratio}")
    good = [run for run in first if "limit" in run]
    if good:
        limit = statistics.median(run["limit"] for run in good)
        need = flops_per_token(shape, good[0]["supervised"])
        lines.append(
            f"an 8192^3 bfloat16 product: {limit / 1e12:.0f} TFLOP/s; the limit by that: {limit / need:,.0f} tokens/s"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
