"""The table of a plan: names, reasons and flags of its rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.compute_path import EAGER, path_of
from llm_installer.planning.decide import make_plan
from llm_installer.planning.memory import plan_memory
from llm_installer.planning.modes import MODES
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.registry import find_handler
from llm_installer.planning.settings import flag
from llm_installer.planning.table import PlanRow, plan_rows

CPU = Hardware("cpu", "CPU", 1, 8 * GIB, 8 * GIB, True, 2, True)
GPU = Hardware("cuda", "GPU", 1, 80 * GIB, 80 * GIB, True, 8)


@pytest.fixture
def planned(tiny_llama: Path):
    info = read_model_info(tiny_llama)

    def make(hardware: Hardware = CPU, **options: object) -> Plan:
        facts = DataFacts(400, 40, "instruct", 50, 100)
        return make_plan(Options(data="x", **options), info, find_handler(info), hardware, facts, (256, "because"))

    return make


def named(plan: Plan) -> dict[str, PlanRow]:
    return {row.name: row for row in plan_rows(plan)}


def test_a_mode_says_where_it_was_overruled(planned) -> None:
    assert named(planned(mode="fast"))["mode"].why == f"{MODES['fast'].why}; takes 1/3 as long as medium"
    for given in ({"epochs": 16.0}, {"learning_rate": 1e-3}, {"effective_batch_size": 6}, {"lr_scheduler": "linear"}):
        assert named(planned(mode="fast", **given))["mode"].why.endswith("; your own settings override it"), given


def test_no_warm_up_is_called_none(planned) -> None:
    assert named(planned(warmup_steps=0))["warm-up"].value == "none"
    assert named(planned(warmup_steps=1))["warm-up"].value == "1 step"


EVERYTHING = {
    "mode": "slow", "precision": "float32", "lora_r": 4, "lora_alpha": 9.0, "lora_dropout": 0.1,
    "target_modules": "q_proj", "rank_pattern": "q_proj=2", "alpha_pattern": "q_proj=5", "optimizer": "sgd",
    "loraplus_ratio": 16.0, "neftune_noise_alpha": 5.0, "learning_rate": 1e-3, "warmup_steps": 3,
    "lr_scheduler": "linear", "epochs": 2.0, "weight_decay": 0.1, "max_grad_norm": 0.5, "effective_batch_size": 6,
    "packing": "on", "compile": "on", "gradient_checkpointing": "on", "patience": 9, "order": "short-first", "seed": 7,
}  # fmt: skip
SHOWN = {
    "mode": ("mode", "slow"), "precision": ("precision", "float32"), "LoRA rank": ("lora_r", "4"),
    "LoRA alpha": ("lora_alpha", "9"), "LoRA dropout": ("lora_dropout", "0.1"),
    "target modules": ("target_modules", "q_proj"), "per-layer ranks": ("rank_pattern", "q_proj: 2"),
    "per-layer alphas": ("alpha_pattern", "q_proj: 5"), "optimizer": ("optimizer", "sgd"),
    "LoRA+ ratio": ("loraplus_ratio", "16"), "NEFTune noise": ("neftune_noise_alpha", "5"),
    "learning rate": ("learning_rate", "0.001"), "warm-up": ("warmup_steps", "3 steps"),
    "LR schedule": ("lr_scheduler", "linear"), "epochs": ("epochs", "2"), "weight decay": ("weight_decay", "0.1"),
    "gradient clipping": ("max_grad_norm", "norm 0.5"), "batch size": ("effective_batch_size", "6"),
    "packing": ("packing", "on"), "torch.compile": ("compile", "on"),
    "gradient checkpointing": ("gradient_checkpointing", "2 layers"),
    "early stopping": ("patience", "patience 9, gap 10%"),
    "order": ("order", "short-first"), "seed": ("seed", "7"),
}  # fmt: skip


def test_the_flag_of_a_row_sets_its_value(planned) -> None:
    """Every option is given, and each comes out in the row that names it."""
    rows = named(planned(**EVERYTHING))
    assert {name: (rows[name].flag, rows[name].value) for name in SHOWN} == {
        name: (flag(option), value) for name, (option, value) in SHOWN.items()
    }
    assert {option for option, _ in SHOWN.values()} == set(EVERYTHING)


@pytest.mark.parametrize(
    "options",
    [
        {}, EVERYTHING, {"use_8bit": True}, {"method": "qlora"}, {"fast": "off"}, {"use_rslora": True},
        *({"mode": mode} for mode in MODES),
    ],
    ids=str,
)  # fmt: skip
def test_every_row_is_complete_and_its_flag_exists(planned, options: dict[str, object]) -> None:
    rows = plan_rows(planned(**options))
    flags = {flag(f.name) for f in dataclasses.fields(Options)}
    assert all(row.name and row.value and row.why for row in rows)
    assert {row.name for row in rows if row.flag not in flags} == {"steps", "evaluation", "checkpoints"}
    assert {row.flag for row in rows} - flags == {""}
    assert len({row.name for row in rows}) == len(rows)


def test_cycles_have_a_flag_of_their_own(planned) -> None:
    rows = named(planned(mode="circular"))
    assert rows["cycles"].flag == "--max-circular-epochs" and "epochs" not in rows


def test_sizes_say_their_unit(planned) -> None:
    assert named(planned())["micro-batch"].why.endswith(" MiB of 8.0 GiB")


PLAIN = "plain PEFT: you asked for --fast off"


@pytest.mark.parametrize("hardware", [CPU, GPU], ids=["CPU", "GPU"])
def test_fast_off_is_plain_everywhere_and_says_so(planned, hardware: Hardware, tiny_llama: Path) -> None:
    usual, plain = planned(hardware, precision="bfloat16"), planned(hardware, precision="bfloat16", fast="off")
    assert usual.fast and usual.kernels and (usual.packing or hardware is CPU)
    assert not (plain.fast or plain.kernels or plain.packing or plain.compiling)
    assert plain.why["packing"] == plain.why["compiling"] == PLAIN
    assert named(plain)["fast paths"] == PlanRow("fast paths", "off", PLAIN, "--fast")
    assert "fast paths" not in named(usual)
    made = plain.setup(read_model_info(tiny_llama), hardware)
    assert path_of(made) is EAGER and not made.hardware.compiler
    fast = usual.setup(read_model_info(tiny_llama), hardware)
    assert plan_memory(made).peak(4096) > plan_memory(fast).peak(4096)
    assert plain.course == usual.course and plain.learning_rate == usual.learning_rate


def test_a_setup_knows_whether_kernels_are_compiled(planned, tiny_llama: Path) -> None:
    info = read_model_info(tiny_llama)
    assert planned().setup(info, CPU).hardware == CPU
    assert not planned(compile="off").setup(info, CPU).hardware.compiler
