"""One run of compare.py in a process of its own: the tool's name and the job file in, one line of JSON out."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
RANK, RATE = 16, 2e-4
Losses = list[float]


def dtype_of(job: dict[str, Any]) -> torch.dtype:
    """What everything at its best computes in."""
    return torch.bfloat16 if job["dtype"] == "bfloat16" else torch.float32


def build(job: dict[str, Any], dtype: torch.dtype) -> Any:
    """The frozen model: random weights, the same in every process."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **job["shape"], max_position_embeddings=2048, pad_token_id=0, bos_token_id=None, eos_token_id=0
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(dtype).to(job["device"])
    model.config.use_cache = False
    return model.requires_grad_(False)


def adapted(model: Any) -> Any:
    """Adapters on it, the same in every process."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="CAUSAL_LM"))


def ours(job: dict[str, Any], _best: bool) -> tuple[Callable[[], Losses], int]:
    """The product's own Trainer and batches."""
    from llm_installer.core.hardware import GIB, Hardware
    from llm_installer.data.batches import epoch_steps
    from llm_installer.data.encoding.row import Row
    from llm_installer.planning.course import Course
    from llm_installer.planning.micro_batch import ENOUGH_ON_CPU, ENOUGH_TOKENS
    from llm_installer.planning.plan import Plan
    from llm_installer.planning.stopping import Limits
    from llm_installer.training.trainer import Trainer, row_lengths

    rows = [
        Row(np.array(r["ids"], dtype=np.int32), np.arange(len(r["ids"])) >= r["prompt"], i)
        for i, r in enumerate(job["rows"])
    ]
    tokens_at_once = ENOUGH_ON_CPU if job["device"] == "cpu" else ENOUGH_TOKENS[1][1]
    hardware = Hardware(job["device"], "", 1, GIB, GIB, True, 1)
    course = Course(
        epochs=1.0, effective_batch_size=job["batch"], schedule="linear", total_steps=-(-len(rows) // job["batch"]),
        warmup_steps=0, evaluation_every=10**6, evaluation_rows=1, limits=Limits(1, 1.0, 1), stop_rules=(),
    )  # fmt: skip
    plan = Plan(
        mode="medium", task="instruct", device=hardware.device, precision=job["dtype"], lora_r=RANK,
        lora_alpha=2.0 * RANK, lora_dropout=0.0, target_modules=tuple(TARGETS), fan_in_fan_out=False,
        learning_rate=RATE, micro_batch_tokens=tokens_at_once, micro_batch_rows=job["batch"], max_seq_length=2048,
        course=course, seed=0, packing=job["device"] == "cuda",
    )  # fmt: skip
    trainer = Trainer(adapted(build(job, dtype_of(job))), plan, 0)

    def run() -> Losses:
        lengths = row_lengths(rows)
        steps = epoch_steps(lengths, job["batch"], seed=0, epoch=0)
        return [
            trainer.step(trainer.micro_batches(rows, lengths, step), RATE * (1 - i / len(steps)))[0]
            for i, step in enumerate(steps)
        ]

    return run, sum(len(r.ids) for r in rows)


def common(job: dict[str, Any], folder: str) -> dict[str, Any]:
    """Training arguments that every peer shares."""
    return {
        "output_dir": folder, "per_device_train_batch_size": job["batch"], "num_train_epochs": 1, "seed": 0,
        "learning_rate": RATE, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "weight_decay": 0.01,
        "use_cpu": job["device"] == "cpu", "disable_tqdm": True, "dataloader_pin_memory": job["device"] != "cpu",
    }  # fmt: skip


def row_by_row(job: dict[str, Any]) -> dict[str, Any]:
    """A step's rows one after the other: on a CPU up to three times as fast as together, in a quarter of the memory,
    since nothing is padded and less memory is faulted in."""
    if job["device"] != "cpu":
        return {}
    return {"per_device_train_batch_size": 1, "gradient_accumulation_steps": job["batch"]}


def transformers_trainer(job: dict[str, Any], best: bool) -> tuple[Callable[[], Losses], int]:
    """Trainer with padded batches: float32 by default; at its best in this machine's dtype, and row by row on a CPU."""
    from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Trainer, TrainingArguments

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=small_tokenizer(), pad_token="<pad>")
    records = [labelled(r) for r in job["rows"]]
    model = adapted(build(job, dtype_of(job) if best else torch.float32))
    extra = {"train_sampling_strategy": "group_by_length", **row_by_row(job)} if best else {}
    arguments = TrainingArguments(**common(job, tempfile.mkdtemp()), **extra)
    collate = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=None)
    trainer = Trainer(model, arguments, train_dataset=records, data_collator=collate)
    return peer_run(trainer), sum(len(r["input_ids"]) for r in records)


def trl_trainer(job: dict[str, Any], best: bool, packed: bool = False) -> tuple[Callable[[], Losses], int]:
    """SFTTrainer; at its best in this machine's own dtype, no checkpointing, row by row, and on a GPU packing."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=small_tokenizer(), pad_token="<pad>", eos_token="<pad>")
    records = [labelled(r) for r in job["rows"]]
    data = Dataset.from_list(records)
    extra: dict[str, Any] = {}
    if best:
        grouped = {"packing": True, "max_length": 2048, "per_device_train_batch_size": 1}
        extra = {
            "gradient_checkpointing": False,
            "bf16": job["dtype"] == "bfloat16",
            **(grouped if packed or job["device"] == "cuda" else row_by_row(job)),
        }
    model = adapted(build(job, dtype_of(job) if best else torch.float32))
    arguments = SFTConfig(**{**common(job, tempfile.mkdtemp()), **extra})
    trainer = SFTTrainer(model, args=arguments, train_dataset=data, processing_class=tokenizer)
    return peer_run(trainer), sum(len(r["input_ids"]) for r in records)


def labelled(row: dict[str, Any]) -> dict[str, list[int]]:
    """A row as peers want it: prompts are not learned."""
    ids, prompt = row["ids"], row["prompt"]
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "labels": [-100] * prompt + ids[prompt:],
    }


def small_tokenizer() -> Any:
    """A tokenizer that only pads: rows are tokens already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))


def peer_run(trainer: Any) -> Callable[[], Losses]:
    """Train, and read the logged losses."""

    def run() -> Losses:
        trainer.train()
        return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]

    return run


TOOLS: dict[str, Callable[[dict[str, Any], bool], tuple[Callable[[], Losses], int]]] = {
    "ours": ours,
    "transformers": transformers_trainer,
    "trl": trl_trainer,
}


def reserve_freed_memory() -> None:
    """What the product does before it trains on a CPU."""
    from llm_installer.training.fast.interface import prepare_process

    prepare_process("cpu")


def memory(device: str) -> int:
    """Peak bytes so far: of the process, or of the GPU's allocator."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Build, train once over the rows, print what it took."""
    name, _, kind = sys.argv[1].partition(" ")
    job = json.loads(Path(sys.argv[2]).read_text())
    if job["device"] == "cpu" and (name == "ours" or kind == "kept"):
        reserve_freed_memory()
    if kind == "packed":
        run, tokens = trl_trainer(job, best=True, packed=True)
    else:
        run, tokens = TOOLS[name](job, kind in ("best", "kept"))
    base, began = memory(job["device"]), time.perf_counter()
    losses = run()
    if job["device"] == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    tail = losses[-max(1, len(losses) // 4) :]
    result = {
        "tokens_per_second": tokens / seconds, "seconds": seconds, "peak": memory(job["device"]), "base": base,
        "losses": losses, "final_loss": sum(tail) / len(tail),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
