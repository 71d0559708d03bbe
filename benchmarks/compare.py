"""Compares this trainer with transformers' Trainer and TRL's SFTTrainer: same rows, model, adapters and layers.

Run it by hand where nothing else runs: `python benchmarks/compare.py --data alpaca.json`. The peers are installed by
hand: `pip install trl datasets`. Each run has a process of its own, and runs alternate. Weights are random,
made from one seed; the tokens are those of a byte-level BPE trained on the rows, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

SHAPES: dict[str, dict[str, Any]] = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False},
}  # fmt: skip
"""Llama configurations of the sizes of SmolLM-135M, Qwen2.5-0.5B, Llama-3.2-1B and Llama-3-8B."""

PEERS = ("transformers defaults", "transformers best", "trl defaults", "trl best")
MORE = ("trl packed", "trl kept", "transformers kept")
"""On request: TRL's packing; and the best settings with this trainer's way to keep freed memory."""
PROMPT = (
    "Below is an instruction that describes a task. Write a response that completes it.\n\n### Instruction:\n{}\n\n"
)


def main() -> None:
    """Run all, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", required=True, help="rows as Alpaca's or with question and answer, JSON or JSON lines"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for cuda there is compare_cuda.py")
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), help="bfloat16 where this machine has it natively")
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8, help="rows of an optimizer step")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tools", default=",".join(("ours", *PEERS)), help=f"also: {', '.join(MORE)}")
    parser.add_argument("--json", default="compare.json")
    parser.add_argument("--limit", type=float, help="matrix FLOP/s of this machine; measured when not given")
    given = parser.parse_args()
    missing = [t for t in given.tools.split(",") if t.startswith("trl") and not importlib.util.find_spec("trl")]
    if missing:
        parser.error("TRL is not installed; type `pip install trl datasets`, or leave it out with --tools")
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(make_job(given)))
        for turn in range(given.repeat):
            tools = given.tools.split(",")
            for tool in tools if turn % 2 == 0 else tools[::-1]:
                results.setdefault(tool, []).append(run_one(tool, job))
                print(f"{tool}: {results[tool][-1]['tokens_per_second']:.0f} tokens/s", flush=True)
        job_data = json.loads(job.read_text())
    print(table(results, given.limit or job_data["limit"], job_data))
    print(curves_agree(results))
    Path(given.json).write_text(json.dumps({"settings": vars(given), "limit": job_data["limit"], "runs": results}))


def make_job(given: argparse.Namespace) -> dict[str, Any]:
    """What every process is told: rows as token ids, the shape, and the measured limit."""
    from tokenizers import ByteLevelBPETokenizer

    texts = questions(Path(given.data).read_text(encoding="utf-8"))
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([p + o for p, o in texts], vocab_size=12000, show_progress=False)
    rows = []
    for prompt, output in texts[: given.rows]:
        first, rest = tokenizer.encode(prompt).ids, tokenizer.encode(output).ids
        rows.append({"ids": [*first, *rest, 0], "prompt": len(first)})
    shape = SHAPES[given.shape]
    return {
        "rows": rows,
        "shape": shape,
        "device": given.device,
        "batch": given.batch,
        "dtype": given.dtype or native_dtype(),
        "limit": matrix_rate(given.device, given.dtype or native_dtype()),
    }


def questions(text: str) -> list[tuple[str, str]]:
    """(prompt, answer) of Alpaca rows, or of rows with question and answer; a JSON list or a line for each."""
    loaded = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    pairs = [
        (f"{r['instruction']}\n{r.get('input') or ''}", r["output"])
        if "instruction" in r
        else (r["question"], r["answer"])
        for r in loaded
    ]
    return [(PROMPT.format(asked), said) for asked, said in pairs if said]


def native_dtype() -> str:
    """Bfloat16 where its matrix products are native, else float32."""
    from llm_installer.core.hardware import probe_hardware

    return "bfloat16" if probe_hardware().bf16 else "float32"


def matrix_rate(device: str, dtype: str) -> float:
    """Matrix FLOP/s of this machine in this dtype, on random values."""
    import time

    import torch

    a = torch.randn(2048, 2048, device=device).to(getattr(torch, dtype))
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        b = a @ a
        float(b[0, 0])
        best = min(best, time.perf_counter() - began)
    return float(2 * 2048**3 / best)


def run_one(tool: str, job: Path) -> dict[str, Any]:
    """One tool in its own process: what its last line says."""
    from llm_installer.core.hardware import busy_cores, usable_cores
    from llm_installer.planning.environment import environment

    extra = {} if tool.endswith("defaults") else environment(usable_cores(), busy_cores())
    worker = Path(__file__).with_name("compare_worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), tool, str(job)], env={**os.environ, **extra}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{tool} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def flops_per_token(shape: dict[str, Any], supervised: float) -> float:
    """Multiplications and additions of a LoRA step for each token: frozen layers twice forward, twice backward."""
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    key_value = width // shape["num_attention_heads"] * shape["num_key_value_heads"]
    linear = shape["num_hidden_layers"] * (2 * width * width + 2 * width * key_value + 3 * width * inner)
    return float(4 * linear + 4 * shape["vocab_size"] * width * supervised)


def table(results: dict[str, list[dict[str, Any]]], limit: float, job: dict[str, Any]) -> str:
    """Medians of the runs, one line for each tool."""
    tokens = sum(len(r["ids"]) for r in job["rows"])
    share = 1 - sum(r["prompt"] for r in job["rows"]) / tokens
    need = flops_per_token(job["shape"], share)
    lines = ["tool | tokens/s | supervised/s | peak GB | of it imports and weights | final loss | of the limit"]
    for tool, runs in results.items():
        speed, peak, base, loss = (
            statistics.median(r[k] for r in runs) for k in ("tokens_per_second", "peak", "base", "final_loss")
        )
        lines.append(
            f"{tool} | {speed:.0f} | {speed * share:.0f} | {peak / 1e9:.2f} | {base / 1e9:.2f} | {loss:.4f} | "
            f"{speed * need / limit:.0%}"
        )
    return "\n".join(lines)


def curves_agree(results: dict[str, list[dict[str, Any]]]) -> str:
    """Whether the final losses of all tools lie within one percent, and their curves too.

    Tools order rows in their own ways, so curves are compared by the means of four stretches.
    """
    apart = 0.0
    for stretch in range(4):
        means = [quarter(runs[0]["losses"], stretch) for runs in results.values()]
        apart = max(apart, max(means) / min(means) - 1)
    finals = [runs[0]["final_loss"] for runs in results.values()]
    spread = max(finals) / min(finals) - 1
    return f"final losses {'agree' if spread < 0.01 else 'DIFFER'}: {spread:.2%} apart; curves at most {apart:.2%}"


def quarter(losses: list[float], index: int) -> float:
    """Mean loss of one quarter of a run."""
    size = max(1, len(losses) // 4)
    return statistics.mean(losses[index * size :][:size] or losses[-1:])


if __name__ == "__main__":
    main()
