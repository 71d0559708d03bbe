"""What the options of a method decide, what they exclude, and what the plan says of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import Linear, read_model_info
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.contradictions import refuse_contradictions
from llm_installer.planning.decide import make_plan
from llm_installer.planning.optimizers import OPTIMIZERS
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.registry import find_handler
from llm_installer.planning.table import plan_rows

CPU = Hardware("cpu", "CPU", 1, 8 * GIB, 8 * GIB, False, 2)
GPU = Hardware("cuda", "GPU", 1, 80 * GIB, 80 * GIB, True, 8)


@pytest.fixture
def planned(tiny_llama: Path):
    info = read_model_info(tiny_llama)

    def make(hardware: Hardware = CPU, rows: int = 400, **options: object) -> Plan:
        facts = DataFacts(rows, 40, "instruct", 50, 100)
        return make_plan(Options(data="x", **options), info, find_handler(info), hardware, facts, (256, "test"))

    return make


@pytest.mark.parametrize(
    ("options", "name", "rate", "scale"),
    [
        ({}, "lora", 1.0, 4.0),
        ({"method": "lora"}, "lora", 1.0, 4.0),
        ({"method": "qlora"}, "qlora", 0.8, 4.0),
        ({"use_4bit": True}, "qlora", 0.8, 4.0),
        ({"method": "lora", "use_4bit": True}, "qlora", 0.8, 4.0),
        ({"use_8bit": True}, "8-bit lora", 0.8, 4.0),
        ({"use_dora": True}, "lora + dora", 1.0, 4.0),
        ({"use_rslora": True, "lora_r": 64}, "lora + rslora", 1.0, 2.0),
        ({"use_rslora": True, "lora_r": 16, "lora_alpha": 8}, "lora + rslora", 1.0, 2.0),
        ({"lora_r": 256}, "lora", 1.0, 0.125),
        ({"init_lora_weights": "pissa"}, "lora + pissa", 1.0, 4.0),
        ({"loraplus_ratio": 16}, "lora + lora+", 0.25, 4.0),
        ({"neftune_noise_alpha": 5}, "lora + neftune", 1.0, 4.0),
        ({"optimizer": "lion"}, "lora", 0.3, 4.0),
        ({"optimizer": "sgd", "method": "qlora"}, "qlora", 16.0, 4.0),
    ],
)
def test_a_method_has_a_name_a_rate_and_a_printed_scale(planned, options, name: str, rate: float, scale: float) -> None:
    plan = planned(**options)
    assert plan.method.name == name
    assert plan.learning_rate == pytest.approx(planned().learning_rate * rate)
    rows = {row.name: (row.value, row.why) for row in plan_rows(plan)}
    assert rows["method"][0] == name
    assert float(rows["LoRA scale"][0]) == scale
    assert rows["optimizer"][1]
    assert "quantised" in rows["learning rate"][1] if plan.method.quantised else True


def test_a_given_rate_is_obeyed_whatever_the_method(planned) -> None:
    assert planned(method="qlora", optimizer="lion", learning_rate=1e-4).learning_rate == 1e-4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"use_4bit": True, "use_8bit": True}, "--use-4bit and --use-8bit contradict"),
        ({"method": "qlora", "use_8bit": True}, "--method qlora and --use-8bit contradict"),
        ({"method": "lora", "use_4bit": True}, "--method lora and --use-4bit contradict"),
        ({"init_lora_weights": "pissa", "use_4bit": True}, "--init-lora-weights pissa needs unquantised weights"),
        ({"init_lora_weights": "olora", "use_8bit": True}, "--init-lora-weights olora needs unquantised weights"),
        ({"init_lora_weights": "olora", "use_dora": True}, "--init-lora-weights olora and --use-dora"),
        ({"use_8bit": True, "use_dora": True}, "--use-dora needs the size of every weight"),
        ({"method": "fp8", "use_dora": True}, "--use-dora needs the size of every weight"),
        ({"method": "fp8", "use_4bit": True}, "--method fp8 holds the base in float8, and --use-4bit"),
        ({"init_lora_weights": "pissa", "method": "fp8"}, "--init-lora-weights pissa needs unquantised weights"),
        ({"fast": "off", "packing": "on"}, "--fast off and --packing on contradict"),
        ({"fast": "off", "compile": "on"}, "--fast off and --compile on contradict"),
    ],
)
def test_what_excludes_each_other_is_refused_in_one_sentence(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        refuse_contradictions(Options(**options))
    assert "\n" not in str(refused.value)


def test_what_does_not_exclude_each_other_is_not_refused() -> None:
    for options in (
        {},
        {"method": "lora", "use_8bit": True},
        {"method": "qlora", "use_4bit": True, "use_dora": True},
        {"init_lora_weights": "pissa"},
    ):
        refuse_contradictions(Options(**options))


@pytest.mark.parametrize(
    ("options", "ranks", "alphas"),
    [
        ({"rank_pattern": "q_proj=4,v_proj=16"}, {"q_proj": 4, "v_proj": 16}, {}),
        ({"rank_pattern": "q_proj=4", "lora_alpha": 16}, {"q_proj": 4}, {}),
        ({"rank_pattern": "q_proj=4", "alpha_pattern": "q_proj=1"}, {"q_proj": 4}, {"q_proj": 1.0}),
        ({"alpha_pattern": "o_proj=2.5"}, {}, {"o_proj": 2.5}),
    ],
)
def test_patterns(planned, options: dict[str, object], ranks: dict[str, int], alphas: dict[str, float]) -> None:
    method = planned(**options).method
    assert (dict(method.rank_pattern), dict(method.alpha_pattern)) == (ranks, alphas)


@pytest.mark.parametrize("text", ["q_proj=0", "q_proj=1.5", "q_proj=many", "q_proj", "q_proj=1,q_proj=2"])
def test_patterns_that_say_nothing_are_refused(planned, text: str) -> None:
    with pytest.raises(UsageError, match="--rank-pattern"):
        planned(rank_pattern=text)


@pytest.mark.parametrize(
    ("rows", "given", "steps"),
    [(400, None, 30), (400, 20, 20), (400, 0, 0), (8000, None, 100), (8000, 600, 600), (4, None, 0)],
)
def test_warm_up_is_a_tenth_at_most_unless_given(planned, rows: int, given: int | None, steps: int) -> None:
    plan = planned(rows=rows, warmup_steps=given)
    assert plan.course.warmup_steps == steps
    assert given is not None or plan.course.warmup_steps <= plan.course.total_steps / 10


def test_a_run_that_only_warms_up_is_refused(planned) -> None:
    with pytest.raises(UsageError, match="--warmup-steps 300 leaves nothing of a run of 300 steps"):
        planned(warmup_steps=300)
    assert planned(warmup_steps=300, mode="non-stop").course.warmup_steps == 300, (
        "a run without an end has room for any"
    )


def test_decay_and_gradient_limit_reach_the_plan(planned) -> None:
    plan = planned(weight_decay=0.0, max_grad_norm=0.3)
    assert (plan.weight_decay, plan.max_grad_norm) == (0.0, 0.3)
    assert plan.why["weight_decay"] == plan.why["max_grad_norm"] == "you set it"


def test_paging_needs_a_gpu_and_says_what_to_use_instead(planned) -> None:
    with pytest.raises(UsageError, match="no NVIDIA GPU here; use --optimizer adamw_bnb_8bit"):
        planned(optimizer="paged_adamw_8bit")
    assert planned(GPU, optimizer="paged_adamw_8bit").method.optimizer == "paged_adamw_8bit"


def test_the_usual_optimizer_suits_the_device(planned) -> None:
    apple = Hardware("mps", "Apple GPU", 1, 8 * GIB, 8 * GIB, True, 8)
    chosen = [planned(hardware).method.optimizer for hardware in (CPU, GPU, apple)]
    assert chosen == ["adamw_torch_fused", "adamw_torch_fused", "adamw_torch"]


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_has_a_reason_in_the_plan(planned, optimizer: str) -> None:
    plan = planned(GPU, optimizer=optimizer)
    assert plan.why["optimizer"] == f"you set it: {OPTIMIZERS[optimizer].why}"


def test_a_plan_reads_back_as_it_was_written(planned) -> None:
    plan = planned(rank_pattern="q_proj=4", alpha_pattern="v_proj=3", neftune_noise_alpha=5, use_4bit=True)
    assert Plan.from_json(plan.to_json()).method == plan.method
    assert dataclasses.replace(plan).method is plan.method


def test_float8_is_for_gpus_that_have_it_and_for_layers_that_fit(planned, tiny_llama: Path) -> None:
    ada = dataclasses.replace(GPU, float8=True)
    plan = planned(ada, method="fp8")
    assert (plan.method.name, plan.method.quantised, plan.precision) == ("fp8 lora", "fp8", "bfloat16")
    assert plan.learning_rate == planned(ada).learning_rate
    row = next(row for row in plan_rows(plan) if row.name == "base weights")
    assert row.value.startswith("float8 (e4m3") and row.flag == "--method" and "output layer" in row.why
    assert "gains no time" in next(r for r in plan_rows(planned(method="fp8")) if r.name == "base weights").why
    for other in (GPU, Hardware("mps", "Apple GPU", 1, 8 * GIB, 8 * GIB, True, 8)):
        with pytest.raises(UsageError, match=f"and {other.name} has no products in float8; leave it out, or use"):
            planned(other, method="fp8")
    odd = dataclasses.replace(read_model_info(tiny_llama), name="odd", linears=(Linear("q_proj", 100, 64, 2),))
    facts = DataFacts(40, 5, "instruct", 50, 100)
    with pytest.raises(UsageError, match="widths are multiples of 16, and odd has none; leave it out"):
        make_plan(Options(data="x", method="fp8"), odd, find_handler(odd), ada, facts, (256, "test"))


def test_the_micro_batch_knows_that_a_quantised_base_is_smaller(tiny_llama: Path) -> None:
    huge = dataclasses.replace(
        read_model_info(tiny_llama), parameters=8_000_000_000, hidden_size=4096, intermediate_size=14336, layers=32,
        heads=32, kv_heads=8, head_dim=128, vocab_size=128256, linears=(),
    )  # fmt: skip

    def gigabytes(**options: object) -> float:
        facts = DataFacts(400, 40, "instruct", 50, 100)
        # What the layers keep differs, too: where each is checkpointed, the weights decide.
        given = Options(data="x", gradient_checkpointing="on", **options)
        made = make_plan(given, huge, find_handler(huge), GPU, facts, (256, "test"))
        return float(made.why["micro_batch_tokens"].split("about ")[1].split(" GiB of")[0])

    whole, eight, four = gigabytes(), gigabytes(use_8bit=True), gigabytes(method="qlora")
    assert whole > eight + 3 and eight > four + 2
