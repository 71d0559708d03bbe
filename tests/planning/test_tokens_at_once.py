"""Which sizes of a micro-batch are timed, and which of them is chosen; what fits a GPU of 24 GB at the first try."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.decide import make_plan
from llm_installer.planning.memory import plan_memory
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.setup import Adapters
from llm_installer.planning.tokens_at_once import as_timed, fastest, goes_on, worth_timing

HANDLER = Handler(
    name="llama", model_types=("llama",), target_modules=("all-linear",), dtype="bfloat16", max_length=2048
)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
OFF = 1.05
"""How far a measured peak was above its prediction, and a little more."""


def model(name: str, parameters: float, vocabulary: int, hidden: int, inner: int, layers: int, heads: int, kv: int):
    return ModelInfo(
        path=Path("m"), name=name, model_type="llama", architecture="", parameters=int(parameters), dtype="bfloat16",
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, layers=layers, heads=heads, kv_heads=kv,
        head_dim=hidden // heads, max_positions=8192, chat_template=True, vision=False, weight_bytes=0,
    )  # fmt: skip


SMALL = model("0.5B", 494e6, 151936, 896, 4864, 24, 14, 2)
MIDDLE = model("1B", 1.236e9, 128256, 2048, 8192, 16, 32, 8)
LARGE = model("8B", 8.03e9, 128256, 4096, 14336, 32, 32, 8)


def gpu(free: float, device: str = "cuda") -> Hardware:
    return Hardware(device, "a GPU", 1, int(free * GIB), int(free * GIB), True, 8, float8=True)  # type: ignore[arg-type]


def planned(info: ModelInfo, hardware: Hardware, length: int = 2048, **options) -> Plan:
    facts = DataFacts(1000, 50, "instruct", 0.8 * length, length, answer_tokens=2e5)
    return make_plan(Options(data="x", **options), info, HANDLER, hardware, facts, (length, "test"))


@pytest.mark.parametrize(
    ("info", "options", "tokens"),
    [(LARGE, {"method": "qlora"}, 3000), (MIDDLE, {}, 8192), (LARGE, {"method": "fp8"}, 2400)],
    ids=["8B in 4 bits", "1B in bfloat16", "8B in float8"],
)
@pytest.mark.parametrize("length", [512, 2048])
def test_a_card_of_24_gigabytes_gets_a_plan_that_fits_at_the_first_try(info, options, tokens, length) -> None:
    """23.3 GiB are free on an idle RTX 4090."""
    plan = planned(info, gpu(23.3), length, **options)
    assert OFF * plan.predicted_peak_bytes < 23.3 * GIB, "with what predictions were off by where they were measured"
    assert plan.micro_batch_tokens >= tokens and plan.checkpointed_layers == 0
    assert "does not fit" not in plan.why["micro_batch_tokens"] and "not even" not in plan.why["micro_batch_tokens"]


@pytest.mark.parametrize(
    ("info", "tokens", "packed", "measured"),
    [(LARGE, 4096, False, 30), (LARGE, 16384, True, 77), (MIDDLE, 8192, False, 10), (SMALL, 16384, False, 14)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_predictions_are_those_that_were_measured_on_a_gpu(info, tokens, packed, measured) -> None:
    """Peaks in GB of an H200, 26 November 2026: rank 16 on q, k, v, o, rows of 2048 tokens (benchmarks/compare.py)."""
    plan = planned(info, gpu(139))
    setup = dataclasses.replace(plan.setup(info, gpu(139)), packing=packed, adapters=Adapters(16, 32.0, 0.0, ATTENTION))
    assert plan_memory(setup).peak(tokens) / 1e9 == pytest.approx(measured, rel=0.07)


def test_larger_sizes_are_timed_where_a_step_has_several_parts() -> None:
    plan = planned(LARGE, gpu(139))
    assert plan.micro_batch_tokens == 4096
    assert worth_timing(plan, 26_000) == (8192, 16384)
    assert worth_timing(plan, 7_000) == (8192,), "two parts at most: a fourfold one would be no larger"
    assert worth_timing(plan, 4_000) == (), "a step is one micro-batch"


@pytest.mark.parametrize(
    "plan",
    [
        planned(LARGE, gpu(139, "cpu")),
        planned(LARGE, gpu(139), batch_size=2),
        planned(LARGE, gpu(139), gradient_accumulation_steps=4),
        planned(LARGE, gpu(20)),
    ],
    ids=["a CPU", "rows of the user's own", "parts of the user's own", "checkpointed layers"],
)
def test_nothing_is_timed_where_a_larger_one_cannot_pay(plan: Plan) -> None:
    assert worth_timing(plan, 100_000) == ()


def test_nothing_is_timed_in_several_processes() -> None:
    assert worth_timing(planned(LARGE, gpu(139)), 100_000, processes=2) == ()


@pytest.mark.parametrize(
    ("rates", "chosen", "on"),
    [
        ({4096: 100.0}, 4096, True),
        ({4096: 100.0, 8192: 110.0}, 8192, True),
        ({4096: 100.0, 8192: 102.0}, 4096, False),
        ({4096: 100.0, 8192: 90.0}, 4096, False),
        ({4096: 100.0, 8192: 108.0, 16384: 110.0}, 8192, False),
        ({4096: 100.0, 8192: 108.0, 16384: 120.0}, 16384, True),
    ],
)
def test_the_smallest_of_the_fastest_is_chosen(rates: dict[int, float], chosen: int, on: bool) -> None:
    assert fastest(rates) == chosen and goes_on(rates) is on
    plan = as_timed(planned(LARGE, gpu(139)), rates)
    assert plan.micro_batch_tokens == chosen
    if len(rates) > 1:
        assert plan.why["micro_batch_tokens"].startswith(
            "about the fastest of those that were timed: 100 tokens/s with"
        )
