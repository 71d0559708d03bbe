"""The rows of names.py: every name of a setting that guides of other trainers use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """What somebody calls a setting, and what becomes of it."""

    name: str
    """As a keyword; with its dash where it is one letter on a command line."""
    own: str = ""
    """The setting of this program; empty where there is none."""
    values: tuple[tuple[object, object], ...] = ()
    """What its values are called here; others stay as they are."""
    form: str = ""
    """How the value is written here, where more belongs to it."""
    anyway: tuple[object, ...] = ()
    """Values that ask for what is done anyway."""
    otherwise: str = ""
    """What to write instead of every other value, with flags as on the command line."""
    optional: bool = False
    """Whether the data may lack what it names, so that the usual value is left out."""
    joins: bool = False
    """Whether several such names say one setting together."""


def _same(own: str, *names: str) -> list[Name]:
    """Names that mean a setting, with the same values."""
    return [Name(name, own) for name in names]


def _column(target: str, *names: str, usual: str = "") -> list[Name]:
    """Names that say which column is what; `usual` is read by its name anyway."""
    anyway = (usual,) if usual else ()
    optional = target == "context"
    return [
        Name(name, "columns", form=f"{target}={{}}", anyway=anyway, optional=optional, joins=True) for name in names
    ]


def _none(otherwise: str, *names: str, anyway: tuple[object, ...] = ()) -> list[Name]:
    """Names that mean nothing here beside what is done anyway."""
    return [Name(name, anyway=anyway, otherwise=otherwise) for name in names]


_TORCH = tuple((f"torch.{name}", name) for name in ("bfloat16", "float16", "float32"))
_FORMATS = tuple((name, name) for name in ("alpaca", "sharegpt", "openai", "completion"))
_ON = ((True, "on"), (False, "off"))
_RENDEZVOUS = "machines meet at one place; write --rdzv-endpoint first-host:29400"
_IN_WORDS = "give each of its values as an option, for example --lora-r 16 --lora-alpha 32 --epochs 3"
_NOT_FLOAT = "that does not say which precision it shall be; write --precision float32, or leave it out"
_BY_DEVICE = "that is chosen by the device; leave it out"
_WHERE = "it takes the name of a repository here; write --push OWNER/NAME"

_ROWS = [
    *_same("model_path", "model", "model_name_or_path", "base_model_name", "base_model_path", "-c"),
    *_same("data", "data_path", "dataset", "dataset_name", "train_dataset"),
    *_same("validation_data", "eval_data_path", "eval_dataset"),
    *_same("max_seq_length", "max_seq_len", "max_length"),
    *_same("max_examples", "num_samples", "-n"),
    Name("chunk_size", "chunk_words", anyway=(0,)),
    *_same("learning_rate", "lr"),
    *_same("epochs", "num_epochs", "num_train_epochs"),
    *_same("lr_scheduler", "lr_scheduler_type"),
    *_same("batch_size", "micro_batch_size", "per_device_train_batch_size"),
    *_same("gradient_accumulation_steps", "gradient_accumulation"),
    *_same("optimizer", "optim"),
    *_same("lora_r", "r"),
    *(
        Name(name, "precision", values=_TORCH, anyway=("auto",))
        for name in ("dtype", "torch_dtype", "bnb_4bit_compute_dtype")
    ),
    *_same("use_4bit", "load_in_4bit"),
    *_same("use_8bit", "load_in_8bit"),
    # Words and no switch: a path may stand there, too.
    Name("resume_from_checkpoint", "resume_from", values=(("True", "last"),), anyway=("False",)),
    Name("nproc_per_node", "gpus", anyway=(1,)),
    *_same("output", "ckpt_output_dir", "output_dir"),
    Name("bf16", "precision", values=((True, "bfloat16"),), otherwise=_NOT_FLOAT),
    Name("fp16", "precision", values=((True, "float16"),), otherwise=_NOT_FLOAT),
    Name("sample_packing", "packing", values=_ON),
    Name("lora", "method", values=((True, "lora"),), otherwise="nothing but LoRA is trained here; leave it out"),
    Name("qlora", "method", values=((True, "qlora"), (False, "lora"))),
    Name(
        "dataset_type", "dataset_format", values=(("chat_template", "openai"), *_FORMATS),
        otherwise="rows are read from text, not from token ids; leave it out, or name a format with --dataset-format",
    ),
    *_column("text", "text_field", "dataset_text_field"),
    *_column("messages", "field_messages", usual="messages"),
    *_column("prompt", "field_instruction", usual="instruction"),
    *_column("context", "field_input", usual="input"),
    *_column("answer", "field_output", usual="output"),
    *_none("biases are not trained; leave it out", "bias", "lora_bias", anyway=("none",)),
    *_none("only causal language models are trained here; leave it out", "task_type", anyway=("CAUSAL_LM",)),
    *_none("the adapter is always saved; leave it out", "save_model", anyway=(True,)),
    *_none(_WHERE, "push_to_hub", anyway=(False,)),
    *_same("push", "hub_model_id"),
    *_none("code in the folder of a model is never run; leave it out", "trust_remote_code", anyway=(False,)),
    *_none(
        "the layers are split over several GPUs only where no single one can hold the model; leave it out",
        "enable_model_splitting", anyway=(True,),
    ),
    *_none("the language layers are what is adapted; leave it out", "finetune_language_layers", anyway=(True,)),
    *_none("the layers that see are not adapted; leave it out", "finetune_vision_layers", anyway=(False,)),
    *_none("4 bits are always NF4 here; leave it out", "bnb_4bit_quant_type", anyway=("nf4",)),
    *_none("the scales are always quantised, too; leave it out", "bnb_4bit_use_double_quant", anyway=(True,)),
    *_none(
        "columns that mean nothing are not read; leave it out, and say with --columns text=KEY which is meant",
        "remove_unused_columns", anyway=(True,),
    ),
    *_none("copies to a GPU are always from pinned memory; leave it out", "dataloader_pin_memory", anyway=(True,)),
    *_none("all rows are encoded before the first step; leave it out", "dataloader_num_workers", anyway=(0,)),
    *_none(
        "a run is as long as its epochs, and the plan says how many steps that is; write --epochs 1, for example",
        "max_steps", anyway=(-1,),
    ),
    *_none("give the steps themselves with --warmup-steps; a tenth of the run is usual", "warmup_ratio"),
    *_none("every step is written to metrics.jsonl; leave it out", "logging_steps", anyway=(1,)),
    *_none(
        "checkpoints are written every 30 seconds, and the newest two and the best are kept; leave it out",
        "save_steps", "save_total_limit", "checkpoint_at_epoch", "accelerate_full_state_at_epoch",
    ),
    *_none("the plan says when the model is evaluated; leave it out", "eval_steps"),
    *_none("evaluations take as many rows at once as memory holds; leave it out", "per_device_eval_batch_size"),
    *_none(
        "the tokens of a micro-batch are chosen to fit into memory; to limit its rows, write --batch-size 1",
        "max_tokens_per_gpu",
    ),
    *_none("encoded rows are kept in the cache of LLM_HOME; leave it out", "data_output_dir", "save_samples"),
    *_none(_BY_DEVICE, "flash_attention", "tf32", "backend"),
    *_none(
        "the GPU is used where there is one; leave it out, or hide the GPU with CUDA_VISIBLE_DEVICES=", "device",
        anyway=("auto",),
    ),
    *_none("choose one of true, gaussian, pissa and olora with --init-lora-weights", "loftq_config"),
    *_none("a run is named by its id; for another name set WANDB_NAME", "wandb_run_name"),
    *_none("a run is named by its id; for another name set MLFLOW_RUN_NAME", "mlflow_run_name"),
    *_none("the curves are in the folder of the run, as ./lora/logs; leave it out", "tensorboard_log_dir"),
    *_none(_RENDEZVOUS, "rdzv_id", "master_addr", "master_port"),
    *_none("name the run that made it, with --resume-from runs/ID --resume-anyway", "lora_adapter_path"),
    *_none("the family is read from the model's own files; leave it out", "-m"),
    *_none(_IN_WORDS, "peft_config", "args"),
]  # fmt: skip
NAMES = {row.name: row for row in _ROWS}
"""By name."""
