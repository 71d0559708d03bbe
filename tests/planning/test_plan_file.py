"""plan.json: what is written reads back, so does the form before; a field that is wrong is named."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from llm_installer.core.errors import TrainingError
from llm_installer.core.files import write_json
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.cuts import NOTHING_CUT
from llm_installer.planning.decide import make_plan
from llm_installer.planning.modes import MODES
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan, flat
from llm_installer.planning.table import plan_rows

BEFORE = Path(__file__).parent / "plan_before_course.json"
"""Written before plans had a course; mode non-stop on an H200."""
INFO = ModelInfo(
    path=Path("/m"), name="m", model_type="llama", architecture="LlamaForCausalLM", parameters=8_030_000_000,
    dtype="bfloat16", vocab_size=128256, hidden_size=4096, intermediate_size=14336, layers=32, heads=32, kv_heads=8,
    head_dim=128, max_positions=8192, chat_template=True, vision=False, weight_bytes=16_060_000_000,
)  # fmt: skip
HANDLER = Handler(name="llama", model_types=("llama",), target_modules=("q_proj", "k_proj", "v_proj", "o_proj"))
H200 = Hardware("cuda", "H200", 1, 139 * GIB, 140 * GIB, True, 16)
FACTS = DataFacts(9000, 1000, "instruct", 200, 900, mix=(("a.jsonl", 0.75), ("b.jsonl", 0.25)))
GIVEN = {"rank_pattern": "q_proj=4", "lora_dropout": 0.1, "use_4bit": True, "patience": 7, "warmup_steps": 12}


def plan(**given: object) -> Plan:
    return make_plan(Options(data="x", **given), INFO, HANDLER, H200, FACTS, (1024, "because"))


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_reads_back_as_it_was_written(mode: str, tmp_path: Path) -> None:
    made = plan(mode=mode, **GIVEN)
    write_json(tmp_path / "plan.json", made.to_json())
    assert Plan.from_json(json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))) == made


def test_a_plan_of_the_version_before_reads_as_the_same_plan() -> None:
    old = json.loads(BEFORE.read_text(encoding="utf-8"))
    assert "course" not in old and "fast" not in old and old["epochs"] is None
    # What was decided otherwise then.
    chosen = {name: old[name] for name in ("lora_r", "lora_alpha", "learning_rate", "effective_batch_size")}
    read, now = Plan.from_json(old), plan(mode="non-stop", alpha_pattern="q_proj=8", **GIVEN, **chosen)
    assert read.course.epochs == read.course.limits.perplexity == math.inf
    course = dataclasses.replace(now.course, evaluation_every=read.course.evaluation_every)
    now = dataclasses.replace(now, course=dataclasses.replace(course, evaluation_rows=read.course.evaluation_rows))
    # Steps that are recorded, and their memory, came later.
    now = dataclasses.replace(now, graphs=read.graphs, predicted_peak_bytes=read.predicted_peak_bytes)
    ours, theirs = now.to_json() | {"why": {}}, read.to_json() | {"why": {}}
    assert theirs == ours, "the same options decide the same"
    rows, today = ({row.name for row in plan_rows(each)} for each in (read, now))
    assert today - rows == {"CUDA graphs"} and rows <= today, "its reasons have the names of today"


def test_both_forms_are_flat_by_name() -> None:
    old = json.loads(BEFORE.read_text(encoding="utf-8"))
    new = Plan.from_json(old).to_json()
    assert flat(old) == old
    assert flat(new) == old | {
        "fast": True,
        "cut": asdict(NOTHING_CUT),
        "adapted": "",
        "rank_steps": [],
        "graphs": False,
    }


def put(place: str, value: object) -> Callable[[dict], None]:
    """What sets the value at this dotted place."""

    def change(values: dict) -> None:
        *above, name = place.split(".")
        for each in above:
            values = values[each]
        values[name] = value

    return change


@pytest.mark.parametrize(
    ("place", "value", "wanted"),
    [
        ("lora_r", "many", "lora_r in plan.json must be a whole number, not 'many'"),
        ("lora_r", True, "lora_r in plan.json must be a whole number, not True"),
        ("lora_r", None, "lora_r in plan.json must be a whole number, not None"),
        ("learning_rate", "1e-4", "learning_rate in plan.json must be a number, not '1e-4'"),
        ("packing", 1, "packing in plan.json must be true or false, not 1"),
        ("task", "poetry", "task in plan.json must be instruct or text or vision, not 'poetry'"),
        ("target_modules", "q_proj", "target_modules in plan.json must be a list, not 'q_proj'"),
        ("target_modules", ["q_proj", 3], r"target_modules\[1\] in plan.json must be a text, not 3"),
        ("mix", [["a.jsonl"]], r"mix\[0\] in plan.json must be a list of 2"),
        ("method", "lora", "method in plan.json must be an object, not 'lora'"),
        (
            "method.rank_pattern",
            [["q_proj", "4"]],
            r"method.rank_pattern\[0\]\[1\] in plan.json must be a whole number",
        ),
        ("course", [], r"course in plan.json must be an object, not \[\]"),
        ("course.limits.patience", 0.5, "course.limits.patience in plan.json must be a whole number, not 0.5"),
        ("why.lora_r", 3, "why.lora_r in plan.json must be a text, not 3"),
        ("tensor_parallel", 2, "plan.json has the field tensor_parallel, which this version does not know"),
        ("course.pauses", 2, "plan.json has the field course.pauses, which this version does not know"),
    ],
)
def test_what_is_wrong_is_named(place: str, value: object, wanted: str) -> None:
    values = json.loads(json.dumps(plan().to_json()))
    put(place, value)(values)
    with pytest.raises(TrainingError, match=wanted) as refused:
        Plan.from_json(values)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["lora_r", "total_steps", "limits"])
def test_what_is_missing_is_named(name: str) -> None:
    old = json.loads(BEFORE.read_text(encoding="utf-8"))
    del old[name]
    with pytest.raises(TrainingError, match=f"lacks the field (course.)?{name}"):
        Plan.from_json(old)


def test_a_list_is_not_a_plan() -> None:
    with pytest.raises(TrainingError, match=r"plan.json must be an object, not \[\]"):
        Plan.from_json([])  # type: ignore[arg-type]
