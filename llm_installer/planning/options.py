"""Every setting of a training run, declared once: click flags, Python keywords and the docs table come from here."""

from __future__ import annotations

from dataclasses import dataclass, fields

from llm_installer.planning.modes import MODES, ORDERS, SYNONYMS
from llm_installer.planning.name_rows import NAMES
from llm_installer.planning.names import translated
from llm_installer.planning.optimizers import OPTIMIZERS
from llm_installer.planning.optimizers import SYNONYMS as OPTIMIZER_NAMES
from llm_installer.planning.pairs import parse_pairs
from llm_installer.planning.ranks import METAVAR as RANKS
from llm_installer.planning.schedule import SCHEDULES
from llm_installer.planning.settings import ON_OFF, built, from_keywords, setting, settings, settings_table

UNDECISIVE = ("Resume", "Several GPUs", "Output", "Monitoring", "Run control")
"""Groups of settings that do not change what is trained."""


@dataclass(frozen=True)
class Options:
    """What the user asked for. None means: choose for me, and say why."""

    data: str | None = setting(
        "What to train on: a file, a folder, a glob, or several of these separated by commas.", "Data",
        metavar="PATH", several=True,
    )  # fmt: skip
    dataset_format: str | None = setting("Read every record in this format.", "Data", metavar="NAME")
    columns: str | None = setting(
        'Columns to use: prompt=Question,answer="Best Answer"; of one file: a.csv:prompt=Ask.', "Data", metavar="MAP"
    )
    answers_as: str = setting(
        "json: train on answers that are objects as JSON text.", "Data", default="text", choices=("text", "json")
    )
    validation_data: str | None = setting(
        "Validate on these examples instead of a share of the training data.", "Data",
        metavar="PATH", several=True,
    )  # fmt: skip
    validation_split: float | None = setting(
        "Share of the prompts to hold out for validation.", "Data", minimum=0, maximum=0.9
    )
    max_examples: int | None = setting("Train on a random sample of this many examples.", "Data", minimum=1)
    mix: str | None = setting(
        "Weights of files in training: a.json=3,b.json=1; the others weigh 1. Alone, it also says what to train on.",
        "Data", metavar="MAP",
    )  # fmt: skip
    task_prefix: str | None = setting(
        "Put [NAME] before the first user turn (or the text) of a file's rows: a.json=SUMMARISE,b.json=QA.", "Data",
        metavar="MAP",
    )  # fmt: skip
    chunk_words: int | None = setting(
        "Cut plain text into rows of this many words; all rows of a text stay on one side of the split.", "Data",
        minimum=1,
    )  # fmt: skip
    text_rows: str | None = setting(
        "What a row of a .txt file is: a line, a paragraph, or a piece of the whole text as long as the model reads; "
        "chosen from the file.", "Data", choices=("lines", "paragraphs", "whole"),
    )  # fmt: skip
    order: str = setting("Order of the rows in the first epoch.", "Data", default="random", choices=tuple(ORDERS))
    max_seq_length: int | None = setting("Maximum length of a row, in tokens; longer rows are cut.", "Data", minimum=8)
    allow_cut_answers: bool = setting(
        "Train even where cutting rows loses more than a fifth of the answer tokens.", "Data", default=False
    )
    train_on_prompt: bool = setting("Train on the prompts too, not only on the answers.", "Data", default=False)
    strict: bool = setting("Refuse data with unusable records instead of skipping them.", "Data", default=False)
    show: int | None = setting(
        "Print N rows with the tokens that are trained on marked, then exit.", "Data", minimum=1, optional_value=3
    )

    mode: str = setting(
        "Pace of the training.", "Training", default="medium", choices=tuple(MODES), synonyms=tuple(SYNONYMS.items())
    )
    circular: bool = setting("The same as --mode circular.", "Training", default=False)
    max_circular_epochs: int | None = setting("Number of cycles in mode circular.", "Training", minimum=1, maximum=1e6)
    circular_batch_multiplier: float | None = setting(
        "Growth of the batch size from cycle to cycle: added below 2, multiplied from 2 on; 1 doubles it up to 16.",
        "Training", minimum=0.01, metavar="X",
    )  # fmt: skip
    epochs: float | None = setting("Number of epochs.", "Training", minimum=0.001, maximum=1e6)
    learning_rate: float | None = setting("Peak learning rate.", "Training", minimum=0)
    lr_scheduler: str | None = setting("Learning-rate schedule.", "Training", choices=tuple(SCHEDULES))
    warmup_steps: int | None = setting("Steps over which the learning rate rises to its peak.", "Training", minimum=0)
    batch_size: int | None = setting(
        "Rows computed at once (a micro-batch): a matter of memory and speed, not of what is learned; chosen to fit.",
        "Training", minimum=1,
    )  # fmt: skip
    effective_batch_size: int | None = setting("Batch size: rows per optimizer step.", "Training", minimum=1)
    gradient_accumulation_steps: int | None = setting("Micro-batches per optimizer step.", "Training", minimum=1)
    gradient_checkpointing: str | None = setting(
        "Recompute activations in the backward pass instead of keeping them: on, off, or in how many layers; chosen "
        "to fit into memory.", "Training", metavar="WHICH", optional_value="on",
    )  # fmt: skip
    optimizer: str | None = setting(
        "Optimizer for the adapters.", "Training", choices=tuple(OPTIMIZERS), synonyms=tuple(OPTIMIZER_NAMES.items()),
    )  # fmt: skip
    weight_decay: float | None = setting("Weight decay of the adapters.", "Training", minimum=0)
    max_grad_norm: float | None = setting(
        "Gradient clipping: scale gradients down to this norm.", "Training", minimum=0.001
    )
    packing: str | None = setting(
        "Put several rows into one sequence, without padding; none of them attends to another.", "Training",
        choices=ON_OFF,
    )  # fmt: skip
    compile: str | None = setting(
        "on: use PyTorch's compiler as well; off: compile nothing. Chosen by the length of the run.", "Training",
        choices=ON_OFF,
    )  # fmt: skip
    fast: str = setting(
        "off: use plain PEFT and transformers everywhere, to compare with; the result is the same.", "Training",
        default="on", choices=ON_OFF,
    )  # fmt: skip
    precision: str | None = setting(
        "Precision of the frozen base weights.", "Training", choices=("bfloat16", "float16", "float32")
    )
    seed: int = setting("Seed of everything random.", "Training", default=42, minimum=0, maximum=2**32 - 1)

    method: str | None = setting(
        "qlora quantises the base to 4 bits; fp8 holds it in float8, which is faster on GPUs that have it.", "Method",
        choices=("lora", "qlora", "fp8"),
    )  # fmt: skip
    use_4bit: bool = setting("The same as --method qlora (bitsandbytes NF4).", "Method", default=False)
    use_8bit: bool = setting("Quantise the base to 8 bits (bitsandbytes).", "Method", default=False)
    lora_r: int | str | None = setting(
        "LoRA rank; chosen by the sizes of data and model. 4,8,16 lets it grow over the run.", "Method", minimum=1,
        metavar=RANKS,
    )  # fmt: skip
    lora_alpha: float | None = setting("LoRA alpha; 32 unless given.", "Method", minimum=0)
    lora_dropout: float | None = setting("Dropout on the input of the adapters.", "Method", minimum=0, maximum=0.99)
    target_modules: str | None = setting(
        "Modules to adapt, separated by commas, or all-linear; experts adds routed experts.", "Method", metavar="NAMES"
    )
    rank_pattern: str | None = setting("Ranks for some modules: q_proj=8,v_proj=16.", "Method", metavar="MAP")
    alpha_pattern: str | None = setting("Alphas for some modules: q_proj=16.", "Method", metavar="MAP")
    use_rslora: bool = setting(
        "rsLoRA: scale the adapters by alpha / sqrt(rank), for high ranks.", "Method", default=False
    )
    use_dora: bool = setting(
        "DoRA: train the magnitude of weights apart from their direction.", "Method", default=False
    )
    init_lora_weights: str = setting(
        "Initialisation of the adapters.", "Method", default="true", choices=("true", "gaussian", "pissa", "olora"),
        synonyms=(("True", "true"),),
    )  # fmt: skip
    loraplus_ratio: float | None = setting("LoRA+: learning rate of B divided by that of A.", "Method", minimum=1)
    neftune_noise_alpha: float | None = setting(
        "NEFTune: strength of the noise on the embeddings during training.", "Method", minimum=0
    )

    patience: int | None = setting("Evaluations without improvement before the run stops.", "Stopping", minimum=1)
    overfitting_threshold: float | None = setting(
        "Relative gap between validation and training loss that counts as overfitting.", "Stopping", minimum=0
    )
    min_evaluations: int | None = setting("Evaluations before overfitting can stop the run.", "Stopping", minimum=1)
    force_epochs: bool = setting("Train for exactly the given epochs; never stop early.", "Stopping", default=False)

    resume: bool = setting("Resume the newest unfinished run.", "Resume", default=False)
    resume_from: str | None = setting("Resume from this run or checkpoint.", "Resume", metavar="PATH")
    resume_anyway: bool = setting(
        "If data, model or options have changed, start a new run from the checkpoint's weights.", "Resume",
        default=False,
    )  # fmt: skip

    gpus: str | None = setting(
        "GPUs of this machine to train on; the batch size does not change.", "Several GPUs",
        metavar="N|all",
    )  # fmt: skip
    nnodes: int | None = setting(
        "Machines that train together; run the same command on each.", "Several GPUs", minimum=1
    )
    node_rank: int | None = setting("Number of this machine, from 0.", "Several GPUs", minimum=0)
    rdzv_endpoint: str | None = setting(
        "Where the machines meet: the first one's host name and a free port.", "Several GPUs", metavar="HOST:PORT"
    )

    model_path: str | None = setting("The model directory.", "Output", metavar="DIR")
    output: str | None = setting("Write the adapter here and leave ./lora alone.", "Output", metavar="DIR")
    push: str | None = setting(
        "Push the adapter to this repository of the Hugging Face hub when the run is done.", "Output",
        metavar="OWNER/NAME",
    )  # fmt: skip
    dry_run: bool = setting("Print the plan and exit.", "Output", default=False)
    timed: bool = setting(
        "With --dry-run: load the model and time a few steps, to say how long training would take.", "Output",
        default=False,
    )  # fmt: skip
    skip_test: bool = setting("Skip the comparison of base and tuned answers.", "Output", default=False)
    test_prompt: str | None = setting("Ask this in the comparison, too.", "Output", metavar="TEXT")

    tensorboard: bool = setting("Show the run in TensorBoard while it lasts.", "Monitoring", default=True)
    tensorboard_port: int = setting(
        "First port to try for TensorBoard.", "Monitoring", default=6006, minimum=1, maximum=65535
    )
    tensorboard_only: int | None = setting(
        "Only show past runs, on this port.", "Monitoring", minimum=1, maximum=65535, optional_value=6006
    )
    report_to: str | None = setting("Also report to wandb, mlflow or both.", "Monitoring", metavar="NAMES")
    wandb_project: str | None = setting("Project on W&B; implies wandb.", "Monitoring", metavar="NAME")
    wandb_entity: str | None = setting("Team or user on W&B; implies wandb.", "Monitoring", metavar="NAME")
    mlflow_tracking_uri: str | None = setting("MLflow server or folder; implies mlflow.", "Monitoring", metavar="URI")
    mlflow_experiment_name: str | None = setting("Experiment in MLflow; implies mlflow.", "Monitoring", metavar="NAME")
    eval_prompts: str | None = setting(
        "Answer the prompts of this file at each evaluation: one a line in a .txt, prompts or messages in a .json(l).",
        "Monitoring", metavar="FILE",
    )  # fmt: skip

    status: bool = setting("Show the status of the current or the last run.", "Run control", default=False)
    json: bool = setting("With --status or --dry-run: print one JSON object.", "Run control", default=False)
    save_now: bool = setting("Write a checkpoint after the current step.", "Run control", default=False)
    stop_now: bool = setting(
        "Stop after the current step; the best adapter so far is published.", "Run control", default=False
    )

    @property
    def sources(self) -> str | None:
        """What to train on: --data, or else the files that --mix names."""
        return self.data or (",".join(parse_pairs(self.mix, "--mix")) if self.mix else None)

    @property
    def resuming(self) -> bool:
        """Whether an earlier run is to be resumed."""
        return self.resume or self.resume_from is not None

    @property
    def controlling(self) -> str:
        """The option that makes this about a training in another process; empty where there is none."""
        names = ("status", *(() if self.dry_run else ("json",)), "save_now", "stop_now")
        return next((name for name in names if getattr(self, name)), "")

    def given(self) -> dict[str, object]:
        """Every setting that differs from its default, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    @classmethod
    def from_kwargs(cls, **given: object) -> Options:
        """Options from Python keywords or a web form. Raises UsageError for unknown names and values out of range."""
        return built(cls, from_keywords(cls, translated(given), [*NAMES]))


def options_table() -> str:
    """The options as Markdown tables, one per group, for docs/reference/options.md."""
    return settings_table(Options)


def decides(name: str) -> bool:
    """Whether a setting changes what is trained; those that do not may change when a run is resumed."""
    return settings(next(f for f in fields(Options) if f.name == name)).group not in UNDECISIVE
