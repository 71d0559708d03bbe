"""The plan: every table row, the order of precedence, and a reason for every value."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.errors import UsageError
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.chooser import DataFacts, choose_length, choose_precision
from llm_installer.planning.decide import make_plan
from llm_installer.planning.duration import EVALUATION_COST, FORWARD, LEAST_EVALUATION_ROWS
from llm_installer.planning.growth import cycle_batch, steps_of_cycles
from llm_installer.planning.layers import adapter_parameters
from llm_installer.planning.modes import MODES, epochs_of
from llm_installer.planning.options import Options
from llm_installer.planning.schedule import rate_scale
from llm_installer.planning.table import plan_rows
from tests.generated import many

INFO = ModelInfo(
    path=Path("/m"), name="m", model_type="llama", architecture="LlamaForCausalLM", parameters=8_030_000_000,
    dtype="bfloat16", vocab_size=128256, hidden_size=4096, intermediate_size=14336, layers=32, heads=32, kv_heads=8,
    head_dim=128, max_positions=8192, chat_template=True, vision=False, weight_bytes=16_060_000_000,
)  # fmt: skip
HANDLER = Handler(name="llama", model_types=("llama",), target_modules=("q_proj", "k_proj", "v_proj", "o_proj"))
H200 = Hardware("cuda", "H200", 1, 139 * GIB, 140 * GIB, True, 16)
V100 = Hardware("cuda", "V100", 1, 30 * GIB, 32 * GIB, False, 8)
CPU = Hardware("cpu", "CPU", 1, 20 * GIB, 24 * GIB, True, 2)
FACTS = DataFacts(rows=9000, validation_rows=1000, task="instruct", mean_length=200, longest=900)


def plan(info=INFO, hardware=H200, facts=FACTS, handler=HANDLER, length=(1024, "because"), **given):
    return make_plan(Options(data="x", **given), info, handler, hardware, facts, length)


def sized(parameters: float) -> ModelInfo:
    return dataclasses.replace(INFO, parameters=int(parameters))


@pytest.mark.parametrize(
    ("parameters", "most"),
    [(0.26e6, 8), (0.9e9, 8), (1e9, 16), (2.9e9, 16), (3e9, 32), (6.9e9, 32), (7e9, 64), (13e9, 128), (30e9, 256)],
)
def test_the_rank_is_what_the_data_can_fill_and_at_most_what_is_usual_for_the_size(
    parameters: float, most: int
) -> None:
    def rank(answer_tokens: float) -> int:
        facts = dataclasses.replace(FACTS, answer_tokens=answer_tokens)
        return plan(info=sized(parameters), facts=facts).lora_r

    assert rank(1e12) == most
    assert rank(1e5) == min(most, 16)
    per_rank = adapter_parameters(INFO, 1, HANDLER.target_modules)
    for wanted in (16, 32, 64, 128):
        assert rank(wanted * per_rank) == min(most, wanted)
        assert rank(wanted * per_rank + 1) == min(most, 2 * wanted)


@pytest.mark.parametrize(
    ("hidden", "rate"), [(64, 6e-3), (256, 3.9e-3), (576, 1.7e-3), (2048, 4.9e-4), (4096, 2.4e-4), (8192, 1.2e-4)]
)
def test_the_rate_follows_the_width_and_not_the_rank(hidden: int, rate: float) -> None:
    info = dataclasses.replace(INFO, hidden_size=hidden)
    assert {plan(info=info, lora_r=rank).learning_rate for rank in (1, 8, 64, 512)} == {rate}
    assert {plan(info=info, lora_r=rank).lora_alpha for rank in (1, 8, 64, 512)} == {32.0}


def test_a_model_of_unknown_width_gets_a_cautious_rate() -> None:
    made = plan(info=dataclasses.replace(INFO, hidden_size=0))
    assert made.learning_rate == 2e-4
    assert made.why["learning_rate"].startswith("cautious: config.json does not say how wide")


@pytest.mark.parametrize(("rows", "batch"), [(1, 4), (499, 4), (500, 8), (999, 8), (1000, 16), (1_000_000, 16)])
def test_rows_per_step_follow_the_rows_and_not_the_epochs(rows: int, batch: int) -> None:
    facts = dataclasses.replace(FACTS, rows=rows, validation_rows=rows // 10)
    found = {plan(facts=facts, epochs=epochs).course.effective_batch_size for epochs in (None, 1.0, 3.0, 50.0)}
    assert found == {batch}


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [(1, 6), (200, 6), (201, 5), (244, 5), (245, 4), (314, 4), (315, 3), (1000, 3), (1_000_000, 3)],
)
def test_few_rows_are_gone_through_more_often(rows: int, epochs: int) -> None:
    made = plan(facts=dataclasses.replace(FACTS, rows=rows, validation_rows=max(1, rows // 10)))
    assert made.course.epochs == epochs
    assert made.why["epochs"] == ("3 in mode medium, more for so few rows" if epochs > 3 else "mode medium")
    for mode, times in (("slow", 2), ("fast", 1 / 3), ("adaptive", 1)):
        assert epochs_of(MODES[mode], rows, "vision") == pytest.approx(epochs * times, abs=0.67), mode
    assert epochs_of(MODES["medium"], rows, "text") == 3
    assert epochs_of(MODES["circular"], rows, "instruct") == 100
    assert epochs_of(MODES["non-stop"], rows, "instruct") == math.inf


def test_memory_is_that_of_the_rows_of_a_step() -> None:
    """A micro-batch may hold more tokens than a step of short rows has."""
    peaks = [plan(facts=dataclasses.replace(FACTS, longest=longest)).predicted_peak_bytes for longest in (8, 16, 10**6)]
    assert peaks == sorted(peaks) and peaks[0] < peaks[1] < peaks[2]
    tokens = {plan(facts=dataclasses.replace(FACTS, longest=longest)).micro_batch_tokens for longest in (8, 10**6)}
    assert len(tokens) == 1, "what is computed stays the same"


@pytest.mark.parametrize("mode", ["slow", "medium", "fast"])
def test_modes_are_rows_of_one_table(mode: str) -> None:
    made, usual, row = plan(mode=mode), plan(), MODES[mode]
    assert made.learning_rate == pytest.approx(usual.learning_rate * row.learning_rate_scale)
    assert made.course.epochs == row.epochs
    assert made.course.effective_batch_size == min(16, row.effective_batch_size)


def test_the_user_wins_everywhere_and_the_reason_says_so() -> None:
    given = dict(
        lora_r=5, lora_alpha=7.0, lora_dropout=0.2, learning_rate=1e-3, epochs=2.0, effective_batch_size=6,
        target_modules="q_proj,v_proj", precision="float32",
    )  # fmt: skip
    made = plan(**given)
    for name, value in given.items():
        chosen = getattr(made.course if hasattr(made.course, name) else made, name)
        assert chosen == (("q_proj", "v_proj") if name == "target_modules" else value)
        assert made.why[name] == "you set it"


def test_every_shown_value_has_a_reason_and_the_plan_is_json() -> None:
    for mode in MODES:
        made = plan(mode=mode)
        assert all(row.why.strip() for row in plan_rows(made))
        assert json.loads(json.dumps(made.to_json(), allow_nan=False))["mode"] == mode


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"batch_size": 4}, 16),
        ({"gradient_accumulation_steps": 3}, 15),
        ({"batch_size": 4, "gradient_accumulation_steps": 3}, 12),
        ({"effective_batch_size": 24, "batch_size": 8}, 24),
        ({"gradient_accumulation_steps": 4}, 16),
        ({"gradient_accumulation_steps": 5}, 15),
    ],
)
def test_parts_of_the_batch_agree(given: dict[str, int], expected: int) -> None:
    assert plan(**given).course.effective_batch_size == expected


@settings(max_examples=many(60), deadline=None)
@given(rows=st.integers(1, 40), mode=st.sampled_from(sorted(MODES)), of=st.integers(4, 3000), wanted=st.booleans())
def test_rows_at_once_do_not_change_what_is_learned(rows: int, mode: str, of: int, wanted: bool) -> None:
    facts = dataclasses.replace(FACTS, rows=of)
    more = {"effective_batch_size": 3 * rows} if wanted else {}
    plain, made = plan(facts=facts, mode=mode, **more), plan(facts=facts, mode=mode, batch_size=rows, **more)
    changed = {"why": {}, "micro_batch_rows": plain.micro_batch_rows}
    assert dataclasses.replace(made, **changed) == dataclasses.replace(plain, why={})
    assert {k: v for k, v in made.why.items() if k != "micro_batch_tokens"} == {
        k: v for k, v in plain.why.items() if k != "micro_batch_tokens"
    }
    most = of if made.cycles else made.course.effective_batch_size
    assert made.micro_batch_rows == min(rows, most)
    said = made.why["micro_batch_tokens"]
    assert ("are more than a step has; --effective-batch-size gives it more" in said) == (rows > most)


def test_the_plan_says_which_flag_set_the_batch() -> None:
    shown = {row.name: row for row in plan_rows(plan(batch_size=2))}
    assert (shown["batch size"].value, shown["batch size"].why) == ("16", "usual for so many rows")
    assert shown["micro-batch"].value == "2 rows, 4096 tokens" and shown["micro-batch"].flag == "--batch-size"
    assert shown["micro-batch"].why.startswith("you set the rows; what is learned does not depend on them; ")
    shown = {row.name: row for row in plan_rows(plan(batch_size=2, gradient_accumulation_steps=4))}
    assert (shown["batch size"].value, shown["batch size"].why) == (
        "8", "--batch-size 2 x --gradient-accumulation-steps 4",
    )  # fmt: skip
    shown = {row.name: row for row in plan_rows(plan(gradient_accumulation_steps=5))}
    assert (shown["batch size"].value, shown["micro-batch"].value) == ("15", "3 rows, 4096 tokens")
    assert shown["batch size"].why == "usual for so many rows; a multiple of --gradient-accumulation-steps 5"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch_size": 4, "gradient_accumulation_steps": 3, "effective_batch_size": 16}, "leave one of the three out"),
        ({"batch_size": 5, "effective_batch_size": 16}, "cannot be split by 5"),
        ({"gradient_accumulation_steps": 7, "effective_batch_size": 16}, "cannot be split by 7"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(given: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan(**given)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 37, 100, 1000, 100_000])
@pytest.mark.parametrize("mode", list(MODES))
def test_small_data_still_makes_a_run(rows: int, mode: str) -> None:
    facts = dataclasses.replace(FACTS, rows=rows, validation_rows=rows // 10)
    made = plan(facts=facts, mode=mode)
    steps = made.course.total_steps or -(-rows // made.course.effective_batch_size)
    assert made.course.warmup_steps <= steps / 10
    none = "too few steps for one"
    assert (made.why["warmup_steps"] == none) == (made.course.warmup_steps == 0), made.why["warmup_steps"]
    assert 1 <= made.course.evaluation_every <= steps
    if made.course.total_steps:
        assert made.course.total_steps // made.course.evaluation_every >= min(5, made.course.total_steps)
    assert made.course.effective_batch_size >= 1


@given(st.integers(1, 20_000), st.integers(0, 2000), st.sampled_from([m for m in MODES if m != "non-stop"]))
def test_evaluations_take_at_most_a_tenth_of_a_run(rows: int, validation: int, mode: str) -> None:
    course = plan(facts=dataclasses.replace(FACTS, rows=rows, validation_rows=validation), mode=mode).course
    times = 2 + sum(course.evaluation_due(step - 1, step) for step in range(1, course.total_steps))
    cost = times * course.evaluation_rows * (2 if validation else 1) * FORWARD / (rows * course.epochs)
    few = course.evaluation_rows <= LEAST_EVALUATION_ROWS or rows < 50  # fewer would tell nothing
    few |= mode == "circular" and validation > rows  # it always looks at all rows, and at least five times
    assert cost <= EVALUATION_COST * 1.35 or few, "with what rounding adds"


@given(st.integers(1, 3000), st.integers(1, 400))
def test_no_evaluation_comes_shortly_before_the_last(total: int, every: int) -> None:
    course = dataclasses.replace(plan().course, total_steps=total, evaluation_every=every, early_evaluation_every=0)
    due = [step for step in range(1, total) if course.evaluation_due(step - 1, step)]
    assert [step for step in range(1, total) if step % every == 0 and total - step >= every / 2] == due
    gaps = [later - step for step, later in itertools.pairwise([0, *due, total])]
    assert all(every / 2 <= gap < every * 1.5 for gap in gaps[1:])


def test_force_epochs_switches_every_stop_rule_off_but_broken_losses() -> None:
    assert plan(force_epochs=True).course.stop_rules == ("non-finite loss",)


@pytest.mark.parametrize(
    ("info", "hardware", "dtype", "expected"),
    [
        (INFO, H200, "float16", "bfloat16"),
        (INFO, V100, "float16", "float16"),
        (INFO, V100, "bfloat16", "bfloat16"),
        (INFO, CPU, "float16", "bfloat16"),
        (INFO, dataclasses.replace(CPU, bf16=False), "float16", "float32"),
        (sized(3e5), CPU, "bfloat16", "float32"),
    ],
)
def test_precision_comes_from_family_and_hardware(info, hardware, dtype, expected) -> None:
    assert choose_precision(info, dataclasses.replace(HANDLER, dtype=dtype), hardware)[0] == expected


def test_micro_batch_shrinks_with_memory_and_never_below_a_row() -> None:
    roomy, tight = plan(), plan(hardware=dataclasses.replace(V100, free_bytes=17 * GIB))
    assert roomy.micro_batch_tokens == 4096
    assert tight.micro_batch_tokens == 1024, "one longest row, since nothing more fits"


def test_length_is_the_shortest_that_loses_under_one_percent() -> None:
    lost = [(64, 0.5), (128, 0.011), (192, 0.009), (256, 0.0)]
    assert choose_length(Options(), INFO, HANDLER, lost)[0] == 192
    assert choose_length(Options(max_seq_length=100), INFO, HANDLER, lost) == (100, "you set it")
    assert choose_length(Options(), INFO, HANDLER, [(4096, 0.5)])[0] == HANDLER.max_length
    short = dataclasses.replace(INFO, max_positions=512)
    assert choose_length(Options(), short, HANDLER, [(4096, 0.5)])[0] == 512
    with pytest.raises(UsageError, match="give at most 512"):
        choose_length(Options(max_seq_length=513), short, HANDLER, lost)


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 9), (1, 10), (10, 100), (100, 5000)])
def test_rate_rises_then_falls_to_almost_nothing(warmup: int, total: int) -> None:
    scales = [rate_scale(step, warmup, total) for step in range(1, total + 1)]
    assert all(0 < s <= 1 for s in scales)
    assert max(scales) == scales[warmup] == 1
    assert scales == sorted(scales[:warmup]) + sorted(scales[warmup:], reverse=True)
    if total > 20:
        assert scales[-1] < 0.01


SMALL = dataclasses.replace(INFO, parameters=135_000_000, vocab_size=49152, hidden_size=576, intermediate_size=1536,
                            layers=30, heads=9, kv_heads=3, head_dim=64)  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "hardware", "given", "on", "reason"),
    [
        (100, CPU, {}, False, "too short"),
        (9000, CPU, {}, True, "long enough"),
        (9000, dataclasses.replace(CPU, cores=512), {}, False, "too short"),
        (9000, H200, {}, False, "CPUs"),
        (9000, dataclasses.replace(CPU, compiler=True), {"precision": "float32"}, True, "long enough"),
        (9000, dataclasses.replace(CPU, compiler=True), {"precision": "bfloat16"}, False, "kernels in C"),
        (200, CPU, {"compile": "on"}, True, "you set it"),
        (9000, CPU, {"compile": "off"}, False, "you set it"),
    ],
)
def test_long_runs_on_a_cpu_are_compiled(rows: int, hardware: Hardware, given: dict, on: bool, reason: str) -> None:
    made = plan(info=SMALL, hardware=hardware, facts=dataclasses.replace(FACTS, rows=rows), **given)
    assert made.compiling == on
    assert reason in made.why["compiling"]
    assert ("torch.compile" in [row.name for row in plan_rows(made)]) == on


@pytest.mark.parametrize("compiler", [False, True])
@pytest.mark.parametrize("compile", [None, "on", "off"])
def test_kernels_may_be_compiled_unless_nothing_may_and_the_memory_knows(compiler: bool, compile: str | None) -> None:
    hardware = dataclasses.replace(CPU, compiler=compiler)
    made = plan(info=SMALL, hardware=hardware, precision="bfloat16", **({"compile": compile} if compile else {}))
    bare = plan(info=SMALL, hardware=CPU, precision="bfloat16")
    assert made.kernels == (compile != "off")
    assert (made.predicted_peak_bytes < bare.predicted_peak_bytes) == (compiler and made.kernels)


@pytest.mark.parametrize("multiplier", [1.0, 0.01, 1.5, 3.0])
@pytest.mark.parametrize("cycles", [0.4, 1.0, 3.3, 40.5])
def test_steps_of_many_cycles_are_those_of_each(multiplier: float, cycles: float) -> None:
    def batch_of(cycle: int) -> int:
        return cycle_batch(4, multiplier, cycle, 100)

    each = sum(math.ceil(100 / batch_of(cycle)) for cycle in range(int(cycles)))
    rest = (cycles - int(cycles)) * math.ceil(100 / batch_of(int(cycles)))
    assert steps_of_cycles(100, cycles, batch_of) == max(1, math.ceil(each + rest))


def test_a_million_epochs_are_counted_at_once() -> None:
    asked: list[int] = []
    assert steps_of_cycles(100, 1e6, lambda cycle: asked.append(cycle) or 4) == 25 * 10**6
    assert len(asked) < 5


def test_one_is_not_many() -> None:
    facts = dataclasses.replace(FACTS, rows=40, validation_rows=0)
    rows = {row.name: row for row in plan_rows(plan(facts=facts, epochs=1.0, effective_batch_size=8, warmup_steps=1))}
    assert (rows["evaluation"].value, rows["warm-up"].value) == ("every step", "1 step")
    assert rows["steps"].why == "40 rows x 1 epoch / batch size 8"
    assert {row.name: row.why for row in plan_rows(plan(epochs=2.5))}["steps"].startswith("9,000 rows x 2.5 epochs")


@pytest.mark.parametrize("given", [{"rank_pattern": "q_proj=" + "9" * 20}, {"alpha_pattern": "q_proj=nan"}])
def test_patterns_hold_numbers_that_make_sense(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"is not a (whole )?number above 0"):
        plan(**given)
