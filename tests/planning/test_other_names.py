"""Names of other trainers: each that their guides use is understood, or refused with what to write instead."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.cli.options import GroupedCommand, click_options
from llm_installer.cli.other_names import own_words
from llm_installer.cli.train import train
from llm_installer.core.errors import UsageError
from llm_installer.planning.micro_batch import asked_layers
from llm_installer.planning.name_rows import NAMES
from llm_installer.planning.names import keyword, names_table, translated, truth
from llm_installer.planning.options import Options
from tests.generated import many

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

ADAPTERS_AND_SFT = {
    "r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "bias": "none", "task_type": "CAUSAL_LM",
    "target_modules": ["q_proj", "v_proj"], "output_dir": "out", "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8, "learning_rate": 2e-4, "max_steps": 500, "logging_steps": 10,
    "optim": "adamw_torch", "fp16": False, "bf16": False, "max_length": 1024, "dataset_text_field": "text",
    "lr_scheduler_type": "cosine", "warmup_steps": 50, "dataloader_num_workers": 2, "dataloader_pin_memory": True,
    "remove_unused_columns": False, "gradient_checkpointing": True, "train_dataset": "data.jsonl", "model": "tiny",
    "peft_config": object(), "args": object(), "text_field": "content", "base_model_name": "tiny",
    "dataset_name": "data.jsonl", "num_train_epochs": 3,
}  # fmt: skip
"""A pipeline of PEFT and TRL."""
INSTRUCT = {
    "lora": True, "-m": "gpt", "-c": "tiny", "-n": "2000", "num_epochs": 1, "lora_r": 16, "lora_alpha": 32,
    "lora_dropout": 0.1, "save_model": True, "push_to_hub": True, "base_model_path": "tiny",
    "lora_adapter_path": "output/my-lora-model", "device": "cpu", "target_modules": ["c_attn", "c_proj"],
}  # fmt: skip
"""A command and functions for small models."""
SFT = {
    "model_path": "tiny", "data_path": "data.jsonl", "ckpt_output_dir": "out", "lora_r": 64, "lora_alpha": 128,
    "lora_dropout": 0.0, "num_epochs": 3, "learning_rate": 2e-4, "target_modules": SEVEN, "load_in_4bit": True,
    "load_in_8bit": False, "effective_batch_size": 128, "micro_batch_size": 2, "bf16": True, "sample_packing": True,
    "wandb_project": "my-lora-project", "wandb_entity": "my-team", "enable_model_splitting": True,
    "nproc_per_node": 4, "packing": True, "fp16": True, "max_seq_len": 2048, "use_rslora": True, "use_dora": False,
    "init_lora_weights": True, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 8}, "loftq_config": {},
    "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_use_double_quant": True,
    "lr_scheduler": "linear", "weight_decay": 0.01, "max_grad_norm": 0.3, "flash_attention": True, "tf32": True,
    "max_tokens_per_gpu": 4096, "save_samples": 10, "data_output_dir": "tmp", "checkpoint_at_epoch": True,
    "accelerate_full_state_at_epoch": True, "save_steps": 500, "save_total_limit": 3, "eval_steps": 500,
    "eval_data_path": "e.jsonl", "per_device_eval_batch_size": 2, "dataset_type": "alpaca", "seed": 3407,
    "field_messages": "messages", "field_instruction": "question", "field_input": "input", "field_output": "reply",
    "trust_remote_code": False, "finetune_vision_layers": False, "finetune_language_layers": True, "nnodes": 1,
    "node_rank": 0, "rdzv_id": 1, "rdzv_endpoint": "host:29400", "master_addr": "host", "master_port": 1,
    "wandb_run_name": "a", "tensorboard_log_dir": "logs", "mlflow_tracking_uri": "uri", "mlflow_run_name": "a",
    "mlflow_experiment_name": "e", "backend": "unsloth",
}  # fmt: skip
"""A function for LoRA with SFT."""
ALL = [(name, value) for guide in (ADAPTERS_AND_SFT, INSTRUCT, SFT) for name, value in guide.items()]
FIELDS = [*vars(Options())]


def parse(*words: str) -> Options:
    """Options as the command reads them. Raises UsageError."""
    found: list[Options] = []

    @click.command(cls=GroupedCommand)
    @click_options
    def command(**more: object) -> None:
        found.append(Options(**more))  # type: ignore[arg-type]

    done = CliRunner().invoke(command, words, standalone_mode=True)
    if isinstance(done.exception, UsageError):
        raise done.exception
    if done.exit_code:
        raise UsageError(done.output)
    return found[0]


@pytest.mark.parametrize(("name", "value"), ALL, ids=[f"{name}={value!r:.12}" for name, value in ALL])
def test_every_name_of_the_guides_is_understood_or_refused_with_what_to_write(name: str, value: object) -> None:
    try:
        made = Options.from_kwargs(**{name: value})
    except UsageError as error:
        said, (shown, _, instead) = str(error), str(error).partition(": ")
        assert shown == keyword(name, value) and any(
            word in instead
            for word in ("leave it out", "write ", "give ", "choose ", "set WANDB", "set MLFLOW", "with --")
        ), said
        return
    row = NAMES.get(name)
    if made == Options():
        usual = {"bias", "task_type", "use_dora", "load_in_8bit", "init_lora_weights"}
        assert name in usual or (row and str(value) in map(str, row.anyway)), "silently ignored"
    else:
        own = row.own if row else name
        assert [n for n in FIELDS if getattr(made, n) != getattr(Options(), n)] == [own]


OBJECTS = ("peft_config", "args", "rank_pattern", "alpha_pattern", "loftq_config", "gradient_checkpointing")
"""What cannot be typed as it is in Python, or is read by the plan."""
TYPED = [(name, value) for name, value in ALL if name not in OBJECTS]


@pytest.mark.parametrize(("name", "value"), TYPED, ids=[f"{name}={value!r:.12}" for name, value in TYPED])
def test_the_command_line_understands_what_python_does(name: str, value: object) -> None:
    """With underscores, and with a value behind each switch, as some trainers want it."""
    word = name if name.startswith("-") else f"--{name}"
    given = ",".join(value) if isinstance(value, list) else str(value)
    ways = [(word, given), (f"{word.replace('_', '-')}={given}",)] + ([(word,)] if value is True else [])
    try:
        wanted = Options.from_kwargs(**{name: value})
    except UsageError:
        for way in ways:
            with pytest.raises(UsageError, match=f"^{word.replace('_', '-')}[: ]"):
                parse(*way)
        return
    for way in ways[:2] if name in ("packing", "init_lora_weights") else ways:
        assert parse(*way) == wanted, way


def test_two_names_of_one_setting_are_refused_where_they_differ() -> None:
    with pytest.raises(UsageError, match=r"^epochs=3 and num_epochs=4 mean the same setting; give one of them$"):
        Options.from_kwargs(epochs=3, num_epochs=4)
    assert Options.from_kwargs(epochs=3, num_epochs=3).epochs == 3
    with pytest.raises(UsageError, match=r"^--num-epochs and --epochs mean the same setting"):
        parse("--epochs", "3", "--num_epochs", "4")
    with pytest.raises(UsageError, match=r"^--num-epochs is given twice"):
        parse("--num_epochs", "3", "--num-epochs", "4")
    assert Options.from_kwargs(data=["a.json", "b.json"], data_path="a.json,b.json").data == "a.json,b.json"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--epochs 3 --num_epochs 3", Options(epochs=3)),
        ("--num_epochs=3 --epochs=3.0", Options(epochs=3)),
        ("--num_epochs 3 --num-epochs 3", Options(epochs=3)),
        ("--data a.json --data_path a.json --dataset a.json", Options(data="a.json")),
        ("--use-4bit --load_in_4bit yes", Options(use_4bit=True)),
        ("--packing --sample_packing True", Options(packing="on")),
        ("--precision bfloat16 --bf16", Options(precision="bfloat16")),
    ],
)
def test_two_names_that_say_the_same_are_one(words: str, meant: Options) -> None:
    assert parse(*words.split()) == meant


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--data a.json --dataset b.json", "^--dataset and --data mean the same setting"),
        ("--use-4bit --load_in_4bit off", "^--load-in-4bit and --use-4bit mean the same setting"),
        ("--packing off --sample_packing", "^--sample-packing and --packing mean the same setting"),
        ("--precision bfloat16 --bf16 0 --fp16 0", "^--bf16 and --precision mean the same setting"),
        ("--precision bfloat16 --fp16 no --bf16 off", "^--(bf16|fp16) and --precision mean the same setting"),
        ("--dtype fp32", "Invalid value for '--dtype': 'fp32' is not one of"),
        ("--precision fp32", "Invalid value for '--precision': 'fp32' is not one of"),
        ("--load_in_4bit=perhaps", "--use-4bit.* does not take a value"),
    ],
)
def test_what_is_refused_is_called_as_it_was_typed(words: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(*words.split())


@pytest.mark.parametrize("on", ["1", "true", "True", "yes", "on", "YES"])
def test_a_word_of_truth_means_the_same_everywhere(on: str) -> None:
    off = {"1": "0", "yes": "no", "YES": "NO", "on": "off"}.get(on, "false")
    for word, name, value in [
        ("--use-4bit", "use_4bit", (True, False)), ("--load_in_4bit", "use_4bit", (True, False)),
        ("--packing", "packing", ("on", "off")), ("--sample_packing", "packing", ("on", "off")),
        ("--tensorboard", "tensorboard", (True, False)), ("--qlora", "method", ("qlora", "lora")),
    ]:  # fmt: skip
        for typed, meant in zip((on, off), value, strict=True):
            assert getattr(parse(word, typed), name) == meant == getattr(parse(f"{word}={typed}"), name)
            assert getattr(Options.from_kwargs(**{word[2:].replace("-", "_"): typed}), name) == meant
    assert parse("--bf16", on) == Options(precision="bfloat16") == Options.from_kwargs(bf16=on)
    assert on == "1" or asked_layers(on, 4) == 4


def test_a_bare_flag_means_on() -> None:
    words = ("--gradient-checkpointing", "--packing", "--compile", "--fast", "--bf16", "--data", "a.json")
    meant = Options(gradient_checkpointing="on", packing="on", compile="on", precision="bfloat16", data="a.json")
    assert parse(*words) == parse(*words[-2:], *words[:-2]) == meant
    assert parse("--gradient-checkpointing", "2", "--packing", "off") == Options(
        gradient_checkpointing="2", packing="off"
    )


@pytest.mark.parametrize(
    ("halves", "precision"),
    [
        ({"bf16": True}, "bfloat16"),
        ({"fp16": True}, "float16"),
        ({"bf16": True, "fp16": False}, "bfloat16"),
        ({"bf16": False, "fp16": True}, "float16"),
        ({"bf16": False, "fp16": False}, "float32"),
        ({"bf16": "True"}, "bfloat16"),
    ],
)
def test_two_switches_say_one_precision(halves: dict[str, object], precision: str) -> None:
    assert Options.from_kwargs(**halves) == Options(precision=precision)
    assert parse(*(word for name, on in halves.items() for word in (f"--{name}", str(on)))).precision == precision


def test_both_halves_contradict_and_a_half_that_is_off_says_nothing() -> None:
    with pytest.raises(UsageError, match=r"^bf16=True and fp16=True contradict each other; give one of them$"):
        Options.from_kwargs(bf16=True, fp16=True)
    with pytest.raises(UsageError, match=r"^bf16=False: .*write --precision float32, or leave it out$"):
        Options.from_kwargs(bf16=False)


def test_columns_are_said_together() -> None:
    made = Options.from_kwargs(field_instruction="q", field_output="a", field_input="input")
    assert made == Options(columns="prompt=q,answer=a")


def test_words_behind_an_option_are_its_value_whatever_they_look_like() -> None:
    assert parse("--test-prompt", "--lora_r", "--num_epochs=2") == Options(test_prompt="--lora_r", epochs=2)
    assert parse("--lora_r=4", "--show").lora_r == 4
    assert parse("--no_tensorboard").tensorboard is False
    assert [asked_layers(word, 4) for word in ("True", "on", "false", "2")] == [4, 4, 0, 2]
    with pytest.raises(UsageError, match=r"^--num-epochs needs a value$"):
        parse("--num_epochs")


WORDS = [
    "--data",
    "a.json",
    "--show",
    "--epochs",
    "3",
    "--",
    "-h",
    "--no-tensorboard",
    "--resume",
    "--mode=fast",
    "-",
    "",
]


@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_words_of_our_own_stay_as_they_are(words: list[str]) -> None:
    assert own_words(words) == words


def test_a_shell_that_completes_a_command_refuses_nothing() -> None:
    train.make_context("train", ["--num_epochs"], resilient_parsing=True)


@settings(max_examples=many(300), deadline=None)
@given(
    name=st.sampled_from(sorted(NAMES)),
    value=st.one_of(
        st.booleans(), st.integers(-2, 9), st.floats(), st.text(max_size=8),
        st.sampled_from(["none", "nf4", "on", "auto"]),
        st.lists(st.text(max_size=3), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
        st.none(), st.builds(object),
    ),
)  # fmt: skip
def test_no_value_of_any_name_is_ignored(name: str, value: object) -> None:
    row = NAMES[name]
    try:
        meant = translated({name: value})
        made = Options.from_kwargs(**{name: value})
    except UsageError as error:
        assert "\n" not in str(error).replace(repr(value), "") and len(str(error)) > 20
        return
    if not meant:
        switched = "" if (on := truth(value)) is None else str(on).lower()
        assert value is None or {str(value).lower(), switched} & {str(word).lower() for word in row.anyway}
    elif made == Options():
        said = meant[0].value
        assert said is None or (isinstance(said, str) and not said.strip()) or truth(said) is False


def test_every_row_means_a_setting_or_says_what_to_write() -> None:
    assert not set(NAMES) & set(FIELDS), "a name of our own needs no row"
    for row in NAMES.values():
        assert row.own in FIELDS or (not row.own and row.otherwise), row.name
        assert f"| `{row.name}` |" in names_table()


@pytest.mark.parametrize("name", sorted(name for name in NAMES if not name.startswith("-")))
def test_a_model_may_be_called_as_another_trainers_setting_is(name: str) -> None:
    assert own_words([name, "--data", "d.jsonl"]) == [name, "--data", "d.jsonl"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"lr": 1e-3}, {"learning_rate": 1e-3}),
        ({"torch_dtype": "torch.bfloat16"}, {"precision": "bfloat16"}),
        ({"torch_dtype": "auto"}, {}),
        ({"bf16": 1}, {"precision": "bfloat16"}),
        ({"push_to_hub": 0}, {}),
        ({"nproc_per_node": 1}, {}),
        ({"resume_from_checkpoint": True}, {"resume_from": "last"}),
        ({"resume_from_checkpoint": False}, {}),
        ({"dataset_type": "sharegpt"}, {"dataset_format": "sharegpt"}),
        (
            {"field_instruction": "instruction", "field_output": "response"},
            {"columns": "prompt=instruction,answer=response"},
        ),
        ({"field_instruction": "instruction", "field_output": "output"}, {}),
    ],
)
def test_values_mean_what_they_say_elsewhere(given: dict[str, object], meant: dict[str, object]) -> None:
    assert {one.name: one.value for one in translated(given)} == meant


def test_a_negative_number_is_a_value() -> None:
    assert own_words(["--max_steps", "-1", "tiny"]) == ["tiny"]


def test_a_path_to_resume_from_is_no_model() -> None:
    assert own_words(["--resume_from_checkpoint", "runs/a", "tiny"]) == ["tiny", "--resume-from", "runs/a"]
    assert own_words(["--resume_from_checkpoint", "True", "tiny"]) == ["tiny", "--resume-from", "last"]
