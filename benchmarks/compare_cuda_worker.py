"""One run of compare_cuda.py in a process of its own: the tool's name and the job file in, one line of JSON out."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if sys.argv[1] == "unsloth":  # it replaces parts of transformers and TRL, and must come before them
    import unsloth  # noqa: F401

import numpy as np
import torch

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
DTYPES = {"cuda": torch.bfloat16, "cpu": torch.float32}
RANK, RATE, WARM = 16, 2e-4, 3
"""Steps before the steady state: compilers, buffers, graphs."""


class Watch:
    """When each step ended."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.began = time.perf_counter()
        self.ends: list[float] = []
        self.losses: list[float] = []

    def step(self, loss: float | None = None) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        if loss is not None:
            self.losses.append(loss)


def build(job: dict[str, Any]) -> Any:
    """The frozen model: random weights, made on the device, the same in every process."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        **job["shape"], max_position_embeddings=4096, pad_token_id=0, bos_token_id=None, eos_token_id=0
    )
    torch.manual_seed(0)
    with torch.device(job["device"]):
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[job["device"]])
    model.config.use_cache = False
    return model.requires_grad_(False)


def ours(job: dict[str, Any], float8: bool) -> tuple[Watch, list[str]]:
    """The product's own Trainer and batches."""
    from peft import LoraConfig, get_peft_model

    from llm_installer.data.batches import epoch_steps
    from llm_installer.data.encoding.row import Row
    from llm_installer.planning.course import Course
    from llm_installer.planning.plan import Plan
    from llm_installer.planning.stopping import Limits
    from llm_installer.training.trainer import Trainer, row_lengths

    base = build(job)
    if float8:
        from llm_installer.models.float8 import hold_in_float8

        hold_in_float8(base, job["device"])
    torch.manual_seed(1)
    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(base, settings)
    rows = [
        Row(np.array(r["ids"], dtype=np.int32), np.arange(len(r["ids"])) >= r["prompt"], i)
        for i, r in enumerate(job["rows"])
    ]
    steps = -(-len(rows) // job["batch"])
    course = Course(
        epochs=1.0, effective_batch_size=job["batch"], schedule="linear", total_steps=steps, warmup_steps=0,
        evaluation_every=10**6, evaluation_rows=1, limits=Limits(1, 1.0, 1), stop_rules=(),
    )  # fmt: skip
    plan = Plan(
        mode="medium", task="instruct", device=job["device"],
        precision="bfloat16" if job["device"] == "cuda" else "float32", lora_r=RANK,
        lora_alpha=2.0 * RANK, lora_dropout=0.0, target_modules=tuple(TARGETS), fan_in_fan_out=False,
        learning_rate=RATE, micro_batch_tokens=job["tokens"], micro_batch_rows=job["batch"],
        max_seq_length=job["length"], course=course, seed=0, packing=job["packed"],
    )  # fmt: skip
    trainer, lengths, said = Trainer(model, plan, 0), row_lengths(rows), []
    watch, order = Watch(job["device"]), epoch_steps(lengths, job["batch"], seed=0, epoch=0)
    for number, step in enumerate(order):
        if job["profile"] and number == WARM:
            said = [profiled(lambda step=step: trainer.step(trainer.micro_batches(rows, lengths, step), RATE))]
        watch.step(trainer.step(trainer.micro_batches(rows, lengths, step), RATE * (1 - number / len(order)))[0])
    return watch, [*trainer.notes, *said]


def profiled(step: Any) -> str:
    """What one step does: the time of its kernels beside that of the clock, and the kernels that take most."""
    from torch.profiler import ProfilerActivity, profile

    cuda = torch.cuda.is_available()
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as found:
        step()
        if cuda:
            torch.cuda.synchronize()
    clock, events = time.perf_counter() - began, found.key_averages()
    busy = sum(e.self_device_time_total for e in events) / 1e3
    key = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    return f"a profiled step: {1e3 * clock:.1f} ms, kernels {busy:.1f} ms\n{events.table(sort_by=key, row_limit=30)}"


def peers(job: dict[str, Any], tool: str) -> Watch:
    """TRL's SFTTrainer at its best, on PEFT's model or on Unsloth's: no checkpointing, rows of like length together."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    plain = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<pad>")
    if tool == "unsloth":
        model = of_unsloth(job, tokenizer)
    else:
        torch.manual_seed(1)
        settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="CAUSAL_LM")
        model = get_peft_model(build(job), settings)
    records = [
        {"input_ids": r["ids"], "attention_mask": [1] * len(r["ids"]),
         "labels": [-100] * r["prompt"] + r["ids"][r["prompt"] :]}
        for r in job["rows"]
    ]  # fmt: skip
    longest = max(len(r["ids"]) for r in job["rows"])
    rows = max(1, min(job["batch"], job["tokens"] // longest))
    while job["batch"] % rows:
        rows -= 1
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(), num_train_epochs=1, seed=0, learning_rate=RATE, logging_steps=1,
        save_strategy="no", report_to="none", weight_decay=0.01, disable_tqdm=True, use_cpu=job["device"] == "cpu",
        per_device_train_batch_size=rows, gradient_accumulation_steps=job["batch"] // rows, max_length=job["length"],
        gradient_checkpointing=False, bf16=job["device"] == "cuda", train_sampling_strategy="group_by_length",
    )  # fmt: skip
    watch = Watch(job["device"])

    class Each(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.step()

    trainer = SFTTrainer(
        model, args=arguments, train_dataset=Dataset.from_list(records), processing_class=tokenizer, callbacks=[Each()]
    )
    trainer.train()
    watch.losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return watch


def of_unsloth(job: dict[str, Any], tokenizer: Any) -> Any:
    """Its model reads a folder: one with the same random weights."""
    from unsloth import FastLanguageModel

    folder = tempfile.mkdtemp()
    build(job).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    torch.cuda.empty_cache()
    model, _ = FastLanguageModel.from_pretrained(
        folder, max_seq_length=job["length"], dtype=torch.bfloat16, load_in_4bit=False
    )
    return FastLanguageModel.get_peft_model(
        model, r=RANK, lora_alpha=2 * RANK, lora_dropout=0, bias="none", target_modules=TARGETS,
        use_gradient_checkpointing=False, random_state=1,
    )  # fmt: skip


def matrix_rate(device: str) -> float:
    """Bfloat16 FLOP/s of a large product."""
    side, best = 8192 if device == "cuda" else 512, float("inf")
    a = torch.randn(side, side, device=device).bfloat16()
    for _ in range(8):
        began = time.perf_counter()
        float((a @ a)[0, 0])
        best = min(best, time.perf_counter() - began)
    return float(2 * side**3 / best)


def main() -> None:
    """Build, train once over the rows, print what it took."""
    tool, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    limit = matrix_rate(job["device"])
    watch, notes = ours(job, tool == "ours fp8") if tool.startswith("ours") else (peers(job, tool), [])
    tokens = sum(len(r["ids"]) for r in job["rows"])
    steps, seconds = len(watch.ends), watch.ends[-1] - watch.began
    after = min(WARM, steps - 1)
    peak = torch.cuda.max_memory_allocated() if job["device"] == "cuda" else 1024 * resource.getrusage(0).ru_maxrss
    tail = watch.losses[-max(1, len(watch.losses) // 4) :]
    steady = tokens * (steps - after) / steps / (watch.ends[-1] - watch.ends[after - 1])
    result = {
        "steady": steady, "whole": tokens / seconds, "seconds": seconds, "peak": peak, "losses": watch.losses,
        "final_loss": sum(tail) / len(tail), "limit": limit, "notes": notes,
        "supervised": 1 - sum(r["prompt"] for r in job["rows"]) / tokens,
    }  # fmt: skip
    if job["profile"] and notes:
        result["profile"] = notes[-1]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
