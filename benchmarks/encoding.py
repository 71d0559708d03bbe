"""How fast examples become rows of tokens: our preparation and, where it is installed, that of TRL's SFTTrainer.

Run as: python benchmarks/encoding.py --rows 200000 [--trl [--trl-processes 2]]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WORDS = ("water", "seed", "river", "stone", "light", "cloud", "garden", "answer", "window", "number", "letter")
CHATML = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""One that marks answers, without which TRL cannot tell them apart."""


def ours(folder: Path) -> int:
    """From converted examples to rows cut to a length; what the cache has is thrown away first. The rows."""
    from llm_installer.core.home import cache_dir
    from llm_installer.data.encoding.cutting import cut, lost_shares
    from llm_installer.data.encoding.encode import Encoder
    from llm_installer.data.encoding.encode_cache import encode
    from llm_installer.data.encoding.tokenizer import load_tokenizer
    from llm_installer.data.store.load import DataRequest, load_examples

    store = load_examples(DataRequest("data.jsonl", base=folder)).train
    shutil.rmtree(cache_dir() / "encoded", ignore_errors=True)
    encoder = Encoder(load_tokenizer(folder / "model"))
    _timed_from_here()
    rows, _ = encode(store[:], encoder, lambda done, total: None)
    lost_shares(rows)
    return len(cut(rows, 512))


def trl(folder: Path) -> int:
    """What SFTTrainer does before its first step: dataset.map over apply_chat_template. The rows."""
    import datasets
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    lines = (json.loads(line) for line in (folder / "data.jsonl").open(encoding="utf-8"))
    data = datasets.Dataset.from_list(list(lines))
    tiny = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1,
    )  # fmt: skip
    torch.manual_seed(0)
    options = SFTConfig(
        output_dir=str(folder / "out"), assistant_only_loss=True, max_length=512,
        dataset_num_proc=int(os.environ[PROCESSES]) or None,
        report_to="none", use_cpu=True, bf16=False,
    )  # fmt: skip
    _timed_from_here()
    trainer = SFTTrainer(LlamaForCausalLM(tiny), args=options, train_dataset=data, processing_class=tokenizer)
    return len(trainer.train_dataset)


PROCESSES = "TRL_PROCESSES"
SIDES: dict[str, Callable[[Path], int]] = {"ours": ours, "trl": trl}
_BEGIN = [0.0, 0.0]


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _timed_from_here() -> None:
    _BEGIN[:] = time.perf_counter(), _cpu_seconds()


def one(side: str, folder: Path) -> None:
    """Run one side in this process and print a line of figures."""
    rows = SIDES[side](folder)
    seconds, cpu = time.perf_counter() - _BEGIN[0], _cpu_seconds() - _BEGIN[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu, "peak_mb": peak}))


def write_inputs(folder: Path, rows: int, model: Path) -> None:
    """Short chats, and the tokenizer of `model` with a template that both sides can use."""
    from transformers import AutoTokenizer

    chance = random.Random(0)
    with (folder / "data.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            asked = f"Explain {' '.join(chance.choices(WORDS, k=7))} number {number}"
            turns = [("user", asked), ("assistant", " ".join(chance.choices(WORDS, k=15)))]
            file.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder / "model")


def main() -> None:
    """Alternate the sides, each run in a process of its own, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--trl", action="store_true", help="measure TRL too; it must be installed")
    parser.add_argument("--trl-processes", type=int, default=0, help="TRL's dataset_num_proc (default: its own)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[1] / "llm_installer" / "tiny" / "model")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        one(given.side, given.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name), given.rows, given.model)
        sides = ["ours", "trl"] if given.trl else ["ours"]
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for turn in range(given.rounds):
            for side in sides:
                command = [sys.executable, __file__, "--side", side, "--folder", name]
                more = {"LLM_HOME": f"{name}/home", "HF_DATASETS_CACHE": f"{name}/{turn}"}
                more[PROCESSES] = str(given.trl_processes)
                pipe = subprocess.PIPE
                run = subprocess.run(command, env=os.environ | more, stdout=pipe, stderr=pipe, text=True)
                if run.returncode:
                    sys.exit(run.stderr)
                found[side].append(json.loads(run.stdout.splitlines()[-1]))
                print(side, {key: round(value, 1) for key, value in found[side][-1].items()}, flush=True)
        middle = {s: {k: statistics.median(r[k] for r in found[s]) for k in ("seconds", "cpu")} for s in sides}
        for side in sides:
            seconds, cpu = middle[side]["seconds"], middle[side]["cpu"]
            print(f"{side}: {given.rows / seconds:,.0f} rows/s, {cpu / given.rows * 1e6:.0f} us CPU a row")
        if given.trl:
            ratios = [f"{middle['trl'][k] / middle['ours'][k]:.1f}x by {k}" for k in ("seconds", "cpu")]
            print("ours is faster: " + ", ".join(ratios))


if __name__ == "__main__":
    main()
