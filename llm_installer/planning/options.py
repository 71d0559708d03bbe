"""Every setting of a training run, declared once: click flags, Python keywords and the docs table come from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from llm_installer.core.errors import UsageError
from llm_installer.planning.modes import MODES, ORDERS, SYNONYMS
from llm_installer.planning.optimizers import OPTIMIZERS
from llm_installer.planning.optimizers import SYNONYMS as OPTIMIZER_NAMES
from llm_installer.planning.pairs import parse_pairs
from llm_installer.planning.schedule import SCHEDULES
from llm_installer.planning.settings import (
    Command,
    add_click_options,
    checked,
    setting,
    settings,
    settings_table,
    suggest,
)

UNDECISIVE = ("Output", "Watching", "Control", "Going on", "Several GPUs")
"""Groups of settings that change nothing in what is learned."""


@dataclass(frozen=True)
class Options:
    """What the user asked for. None means: choose for me, and say why."""

    data: str | None = setting(
        "What to learn from: a file, a directory, a glob, or several of these with commas between.", "Data",
        aliases=("data_path",), metavar="PATH",
    )  # fmt: skip
    dataset_format: str | None = setting("Take every record as this format.", "Data", metavar="NAME")
    columns: str | None = setting(
        'Map the columns of a table: prompt=Question,answer="Best Answer".', "Data", metavar="MAP"
    )
    validation_data: str | None = setting(
        "Measure on these examples instead of a share of the training data.", "Data",
        aliases=("eval_data_path",), metavar="PATH",
    )  # fmt: skip
    validation_split: float | None = setting(
        "Share of the prompts held out for measuring.", "Data", minimum=0, maximum=0.9
    )
    max_examples: int | None = setting("Learn from a random sample of this many examples.", "Data", minimum=1)
    mix: str | None = setting(
        "Weights of files in training, a.json=3,b.json=1; others weigh 1; without --data these files are the data.",
        "Data", metavar="MAP",
    )  # fmt: skip
    task_prefix: str | None = setting(
        "Put [NAME] before the first user turn (or the text) of a file's rows: a.json=SUMMARISE,b.json=QA.", "Data",
        metavar="MAP",
    )  # fmt: skip
    chunk_words: int | None = setting(
        "Cut plain text into rows of this many words; a text stays on one side of the split.", "Data", minimum=1
    )
    order: str = setting("How the first epoch goes through the rows.", "Data", default="random", choices=tuple(ORDERS))
    max_seq_length: int | None = setting(
        "Longest row, in tokens; longer ones are cut.", "Data", aliases=("max_seq_len",), minimum=8
    )
    train_on_prompt: bool = setting("Learn the prompts too, not only the answers.", "Data", default=False)
    strict: bool = setting(
        "Refuse data with rows that cannot teach, instead of leaving them out.", "Data", default=False
    )
    show: int | None = setting(
        "Print N rows with learned and masked tokens marked, then end.", "Data", minimum=1, optional_value=3
    )

    mode: str = setting(
        "How to train.", "Training", default="medium", choices=tuple(MODES), synonyms=tuple(SYNONYMS.items())
    )
    circular: bool = setting("The same as --mode circular.", "Training", default=False)
    max_circular_epochs: int | None = setting("Cycles of mode circular.", "Training", minimum=1)
    circular_batch_multiplier: float | None = setting(
        "How the batch grows from cycle to cycle: below 2 added, from 2 on multiplied; 1 doubles up to 16.", "Training",
        minimum=0.01, metavar="X",
    )  # fmt: skip
    epochs: float | None = setting("Passes over the data.", "Training", aliases=("num_epochs",), minimum=0.001)
    learning_rate: float | None = setting("Peak learning rate.", "Training", minimum=0)
    lr_scheduler: str | None = setting(
        "How the rate changes in the run.", "Training", choices=tuple(SCHEDULES), aliases=("lr_scheduler_type",)
    )
    batch_size: int | None = setting(
        "Rows computed at once; chosen from memory.", "Training", aliases=("micro_batch_size",), minimum=1
    )
    effective_batch_size: int | None = setting("Rows per optimizer step.", "Training", minimum=1)
    gradient_accumulation_steps: int | None = setting("Batches per optimizer step.", "Training", minimum=1)
    gradient_checkpointing: str | None = setting(
        "Compute layers twice instead of keeping them: on, off, or how many; chosen from memory.", "Training",
        metavar="WHICH",
    )  # fmt: skip
    packing: str | None = setting(
        "Rows one after the other without padding, none of which sees another.", "Training", choices=("on", "off")
    )
    compile: str | None = setting(
        "on: PyTorch's compiler, too; off: nothing is compiled; chosen by the length of the run.", "Training",
        choices=("on", "off"),
    )  # fmt: skip
    fast: str = setting(
        "off: plain PEFT and transformers everywhere, to compare with; the result is the same.", "Training",
        default="on", choices=("on", "off"),
    )  # fmt: skip
    lora_r: int | None = setting("LoRA rank; chosen from the number of parameters.", "Training", minimum=1)
    lora_alpha: float | None = setting("LoRA alpha; twice the rank.", "Training", minimum=0)
    lora_dropout: float | None = setting("Dropout before the LoRA.", "Training", minimum=0, maximum=0.99)
    target_modules: str | None = setting(
        "Layers that get a LoRA, with commas between, or all-linear.", "Training", metavar="NAMES"
    )
    precision: str | None = setting(
        "Precision of the frozen base model.", "Training", choices=("bfloat16", "float16", "float32")
    )
    seed: int = setting("Seed of everything random.", "Training", default=42, minimum=0)

    method: str | None = setting("qlora holds the base in 4 bits.", "Method", choices=("lora", "qlora"))
    use_4bit: bool = setting(
        "The same as --method qlora (bitsandbytes NF4).", "Method", default=False, aliases=("load_in_4bit",)
    )
    use_8bit: bool = setting(
        "Hold the base in 8 bits (bitsandbytes).", "Method", default=False, aliases=("load_in_8bit",)
    )
    optimizer: str | None = setting(
        "What moves the adapters.", "Method", choices=tuple(OPTIMIZERS), synonyms=tuple(OPTIMIZER_NAMES.items()),
        aliases=("optim",),
    )  # fmt: skip
    use_rslora: bool = setting("Scale by alpha / sqrt(rank), for high ranks.", "Method", default=False)
    use_dora: bool = setting("Learn the size of each output apart from its direction.", "Method", default=False)
    init_lora_weights: str = setting(
        "How the adapters begin.", "Method", default="true", choices=("true", "gaussian", "pissa", "olora"),
        synonyms=(("True", "true"),),
    )  # fmt: skip
    loraplus_ratio: float | None = setting("LoRA+: B learns this many times faster than A.", "Method", minimum=1)
    rank_pattern: str | None = setting("Other ranks for some layers: q_proj=8,v_proj=16.", "Method", metavar="MAP")
    alpha_pattern: str | None = setting("Other alphas for some layers: q_proj=16.", "Method", metavar="MAP")
    neftune_noise_alpha: float | None = setting(
        "NEFTune: noise of this size on the embeddings in training.", "Method", minimum=0
    )
    weight_decay: float | None = setting("Pull of the adapters towards zero.", "Method", minimum=0)
    max_grad_norm: float | None = setting("Longest gradient; longer ones are cut.", "Method", minimum=0.001)
    warmup_steps: int | None = setting("Steps in which the rate rises.", "Method", minimum=0)

    patience: int | None = setting("Evaluations without improvement before stopping.", "Stopping", minimum=1)
    overfitting_threshold: float | None = setting(
        "Relative gap between validation and training loss that counts as overfitting.", "Stopping", minimum=0
    )
    min_evaluations: int | None = setting("Evaluations before overfitting can stop the run.", "Stopping", minimum=1)
    force_epochs: bool = setting("Train exactly the given epochs; never stop early.", "Stopping", default=False)

    gpus: str | None = setting(
        "GPUs of this machine to train on; the rows per step stay as they are.", "Several GPUs",
        aliases=("nproc_per_node",), metavar="N|all",
    )  # fmt: skip
    nnodes: int | None = setting(
        "Machines that train together; give the same command on each.", "Several GPUs", minimum=1
    )
    node_rank: int | None = setting("Which of the machines this is, from 0.", "Several GPUs", minimum=0)
    rdzv_endpoint: str | None = setting(
        "Where the machines meet: a name of the first one, and a free port.", "Several GPUs", metavar="HOST:PORT"
    )

    resume: bool = setting("Go on with the newest unfinished run.", "Going on", default=False)
    resume_from: str | None = setting(
        "Go on from this checkpoint or run.", "Going on", aliases=("resume_from_checkpoint",), metavar="PATH"
    )
    resume_anyway: bool = setting(
        "With changed data, model or options: begin a new run from the checkpoint's weights.", "Going on", default=False
    )

    model_path: str | None = setting("The model directory.", "Output", metavar="DIR")
    output: str | None = setting(
        "Write the adapter here and leave ./lora alone.", "Output", aliases=("ckpt_output_dir",), metavar="DIR"
    )
    dry_run: bool = setting("Print the plan and end.", "Output", default=False)
    skip_test: bool = setting("Skip the comparison of base and tuned answers.", "Output", default=False)
    test_prompt: str | None = setting("Also answer this in the comparison.", "Output", metavar="TEXT")

    tensorboard: bool = setting("Show the run in TensorBoard while it lasts.", "Watching", default=True)
    tensorboard_port: int = setting(
        "First port to try for TensorBoard.", "Watching", default=6006, minimum=1, maximum=65535
    )
    tensorboard_only: int | None = setting(
        "Only show past runs, on this port.", "Watching", minimum=1, maximum=65535, optional_value=6006
    )
    report_to: str | None = setting("Also report to wandb, mlflow or both.", "Watching", metavar="NAMES")
    wandb_project: str | None = setting("Project on W&B; reports to wandb.", "Watching", metavar="NAME")
    mlflow_tracking_uri: str | None = setting("MLflow server or folder; reports to mlflow.", "Watching", metavar="URI")
    mlflow_experiment_name: str | None = setting("Experiment in MLflow; reports to mlflow.", "Watching", metavar="NAME")
    eval_prompts: str | None = setting(
        "Answer the prompts in this file at each evaluation: a .txt line each, or .json(l) prompts or messages.",
        "Watching", metavar="FILE",
    )  # fmt: skip

    status: bool = setting("Show how the present or the last training stands.", "Control", default=False)
    json: bool = setting("With --status: print one JSON object.", "Control", default=False)
    save_now: bool = setting("Have the present training write a checkpoint after its step.", "Control", default=False)
    stop_now: bool = setting(
        "End the present training after its step; the best so far is published.", "Control", default=False
    )

    @property
    def sources(self) -> str | None:
        """What to learn from: --data, or else the files that --mix names."""
        return self.data or (",".join(parse_pairs(self.mix, "--mix")) if self.mix else None)

    @property
    def resuming(self) -> bool:
        """Whether an earlier run is to be gone on with."""
        return self.resume or self.resume_from is not None

    @property
    def controlling(self) -> bool:
        """Whether this is about a training that goes on elsewhere."""
        return self.status or self.json or self.save_now or self.stop_now

    def given(self) -> dict[str, Any]:
        """Every setting that differs from its default, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    @classmethod
    def from_kwargs(cls, **given: Any) -> Options:
        """Options from Python keywords or a web form. Raises UsageError for unknown names and values out of range."""
        names = {alias: f.name for f in fields(cls) for alias in settings(f).aliases}
        known = {f.name: f for f in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            name = names.get(key, key)
            if name not in known:
                raise UsageError(f"There is no option {key!r}{suggest(key, [*known, *names])}")
            values[name] = checked(cls, known[name], value)
        return cls(**values)


def click_options(command: Command) -> Command:
    """Give a click command one option for each field of Options."""
    return add_click_options(command, Options)


def some_options(*names: str) -> Callable[[Command], Command]:
    """Give a click command one option for each of these fields of Options."""
    return lambda command: add_click_options(command, Options, names)


def options_table() -> str:
    """The options as Markdown tables, one per group, for docs/training.md."""
    return settings_table(Options)


def decides(name: str) -> bool:
    """Whether a setting changes what is learned; those that do not may change when a run is gone on with."""
    return settings(next(f for f in fields(Options) if f.name == name)).group not in UNDECISIVE
