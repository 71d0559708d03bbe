"""The option surface: frozen, complete, and the same from command line and Python."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from llm_installer.api import lora_sft
from llm_installer.cli.options import click_options
from llm_installer.core.errors import UsageError
from llm_installer.planning.options import Options, options_table
from llm_installer.planning.settings import described, flag, settings

SURFACE = """
data dataset_format columns answers_as validation_data validation_split max_examples mix task_prefix chunk_words
text_rows order max_seq_length allow_cut_answers train_on_prompt strict show
mode circular max_circular_epochs circular_batch_multiplier epochs learning_rate lr_scheduler warmup_steps
batch_size effective_batch_size gradient_accumulation_steps gradient_checkpointing
optimizer weight_decay max_grad_norm packing compile fast precision seed
method use_4bit use_8bit lora_r lora_alpha lora_dropout target_modules rank_pattern alpha_pattern
use_rslora use_dora init_lora_weights loraplus_ratio neftune_noise_alpha
patience overfitting_threshold min_evaluations force_epochs
resume resume_from resume_anyway
gpus nnodes node_rank rdzv_endpoint
model_path output push dry_run timed skip_test test_prompt
tensorboard tensorboard_port tensorboard_only report_to wandb_project wandb_entity mlflow_tracking_uri
mlflow_experiment_name eval_prompts status json save_now stop_now
""".split()  # noqa: SIM905


def parse(*arguments: str) -> Options:
    """Options as the command line reads them."""
    found: list[Options] = []

    @click.command()
    @click_options
    def command(**given: object) -> None:
        found.append(Options(**given))  # type: ignore[arg-type]

    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    if done.exit_code:
        raise UsageError(done.output)
    return found[0]


def test_no_option_appears_without_an_argument_for_it() -> None:
    assert [f.name for f in fields(Options)] == SURFACE


def test_defaults_are_the_same_from_command_line_and_python() -> None:
    assert parse() == Options() == Options.from_kwargs()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "a b.json", "--mode", "quality"], {"data": "a b.json", "mode": "slow"}),
        (["--show"], {"show": 3}),
        (["--show", "5"], {"show": 5}),
        (["--tensorboard-only"], {"tensorboard_only": 6006}),
        (["--tensorboard-only", "7000"], {"tensorboard_only": 7000}),
        (["--no-tensorboard"], {"tensorboard": False}),
        (["--epochs", "0.5", "--learning-rate", "2e-4"], {"epochs": 0.5, "learning_rate": 2e-4}),
        (["--force-epochs", "--seed", "7"], {"force_epochs": True, "seed": 7}),
    ],
)
def test_command_line_spellings(arguments: list[str], expected: dict[str, object]) -> None:
    assert parse(*arguments) == Options(**expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lora_rank": 8}, "no option 'lora_rank'; did you mean 'lora_r'?"),
        ({"mode": "ultra"}, "mode='ultra'"),
        ({"lora_r": 0}, "lora_r=0"),
        ({"epochs": "many"}, "epochs='many'"),
        ({"optimizer": "adam"}, "'adamw_torch', .*'lion'"),
        ({"validation_split": 1.5}, "validation_split=1.5"),
    ],
)
def test_python_refuses_what_the_command_line_refuses(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        Options.from_kwargs(**given)


REAL = [one.name for one in described(Options) if one.kind is float]
WHOLE = [one.name for one in described(Options) if one.kind is int]


@pytest.mark.parametrize("name", REAL + WHOLE)
def test_no_number_is_nan_or_infinite_or_absurd(name: str) -> None:
    wrong = ["a"] if name == "lora_r" else [1]  # a rank may grow: [4, 8]
    for value in (math.nan, math.inf, -math.inf, 10**23, 1e23, True, wrong):
        with pytest.raises(UsageError, match=f"^{name}="):
            Options.from_kwargs(**{name: value})
    for typed in ("nan", "inf", "99999999999999999999999"):
        with pytest.raises(UsageError, match=flag(name)):
            parse(flag(name), typed)


def test_nan_is_called_what_it_is() -> None:
    with pytest.raises(UsageError, match="'--epochs': nan is not a number"):
        parse("--epochs", "nan")
    with pytest.raises(UsageError, match="num_epochs=nan: nan is not a number"):
        Options.from_kwargs(num_epochs=math.nan)
    with pytest.raises(UsageError, match=r"lora_r=8\.5: 8\.5 is not a whole number"):
        Options.from_kwargs(lora_r=8.5)
    assert Options.from_kwargs(lora_r=8.0, seed=2**32 - 1, lora_alpha="16") == Options(
        lora_r=8, seed=2**32 - 1, lora_alpha=16.0
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"data_path": []}, "data_path="),
        ({"data": [3]}, "data="),
        ({"data": 3}, "data=3: this is of type int"),
        ({"model_path": ["a"]}, "model_path="),
        ({"test_prompt": b"x"}, "test_prompt="),
        ({"resume": 2}, "resume=2: .* True or False"),
        ({"gradient_checkpointing": 1.5}, "gradient_checkpointing=1.5"),
        ({"packing": 2}, "packing=2"),
    ],
)
def test_python_refuses_what_is_of_another_type(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Options.from_kwargs(**given)


def test_lists_are_joined_as_they_would_be_typed() -> None:
    made = Options.from_kwargs(data_path=[Path("a b.json"), "c.json"], target_modules=("q_proj", "v_proj"), gpus=2)
    assert made == Options(data="a b.json,c.json", target_modules="q_proj,v_proj", gpus="2")


def test_lora_sft_refuses_no_model_before_anything_is_loaded() -> None:
    with pytest.raises(UsageError, match="model_path=None"):
        lora_sft(None, "my.json")  # type: ignore[arg-type]


def test_python_takes_the_names_that_other_trainers_use() -> None:
    made = Options.from_kwargs(data_path="d", num_epochs=2, max_seq_len=64, micro_batch_size=3, ckpt_output_dir="o")
    assert made == Options(data="d", epochs=2, max_seq_length=64, batch_size=3, output="o")
    made = Options.from_kwargs(
        load_in_4bit=True, use_rslora=True, init_lora_weights=True, rank_pattern={"q": 8, "v": 4}
    )
    assert made == Options(use_4bit=True, use_rslora=True, rank_pattern="q=8,v=4")
    assert Options.from_kwargs(load_in_8bit=True, optim="adamw_8bit").optimizer == "adamw_bnb_8bit"


def test_every_option_is_in_the_docs_table_with_its_help() -> None:
    table = options_table()
    for f in fields(Options):
        assert f"`--{f.name.replace('_', '-')}" in table
        assert settings(f).help in table


@pytest.mark.parametrize(
    ("given", "sources"),
    [
        ({}, None),
        ({"data": "d"}, "d"),
        ({"mix": "a.json=3,b c.json=1"}, "a.json,b c.json"),
        ({"data": "d", "mix": "a.json=3"}, "d"),
    ],
)
def test_a_mix_names_the_data_where_nothing_else_does(given: dict[str, str], sources: str | None) -> None:
    assert Options(**given).sources == sources  # type: ignore[arg-type]
