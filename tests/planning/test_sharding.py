"""Whether a base is sharded over several processes: only where no device holds it, in 16 and in 4 bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.decide import make_plan
from llm_installer.planning.memory import MemoryPlan, weight_bytes
from llm_installer.planning.method import Method
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.setup import Adapters, Setup
from llm_installer.planning.sharding import asked_processes, shard_bytes, shared_memory

LARGE = ModelInfo(
    path=Path("m"), name="Llama-3-70B", model_type="llama", architecture="", parameters=int(70.6e9), dtype="bfloat16",
    vocab_size=128256, hidden_size=8192, intermediate_size=28672, layers=80, heads=64, kv_heads=8, head_dim=128,
    max_positions=8192, chat_template=True, vision=False, weight_bytes=0,
)  # fmt: skip
WHOLE, PACKED = weight_bytes(LARGE, 2) / GIB, weight_bytes(LARGE, 2, "nf4") / GIB


def gpu(free: float, device: str = "cuda", devices: int = 1) -> Hardware:
    return Hardware(device, "a device", devices, int(free * GIB), int(free * GIB), True, 8)  # type: ignore[arg-type]


def shared(hardware: Hardware, quantised: str, processes: int, longest: int = 1024) -> tuple[MemoryPlan, bool]:
    method = Method(quantised=quantised)
    adapters = Adapters(16, 32.0, 0.0, ("all-linear",))
    return shared_memory(Setup(LARGE, hardware, "bfloat16", adapters, method, False, longest), processes)


@pytest.mark.parametrize(
    ("quantised", "free", "processes", "device", "sharded"),
    [
        ("", WHOLE * 1.4, 4, "cuda", False),
        ("", WHOLE * 0.9, 4, "cuda", True),
        ("", WHOLE * 0.9, 1, "cuda", False),
        ("", WHOLE * 0.9, 4, "cpu", False),
        ("nf4", WHOLE * 0.9, 4, "cuda", False),
        ("nf4", PACKED * 1.4, 2, "cuda", False),
        ("nf4", PACKED * 0.9, 2, "cuda", True),
        ("int8", WHOLE * 0.4, 4, "cuda", True),
    ],
)
def test_a_base_is_sharded_only_where_no_device_holds_it(
    quantised: str, free: float, processes: int, device: str, sharded: bool
) -> None:
    memory, found = shared(gpu(free, device), quantised, processes)
    assert found is sharded
    assert (memory.weights < weight_bytes(LARGE, 2, quantised)) is sharded


def test_a_base_that_leaves_no_room_for_one_row_is_sharded() -> None:
    free = WHOLE / 0.92 + 8
    assert shared(gpu(free), "", 2, longest=256) == (shared(gpu(free), "", 1)[0], False)
    memory, sharded = shared(gpu(free), "", 2, longest=4096)
    assert sharded and memory.fitting_tokens(LARGE.layers) >= 4096


def test_rows_that_fit_neither_way_do_not_shard_a_base_that_fits() -> None:
    assert shared(gpu(WHOLE * 1.4), "", 2, longest=10_000_000)[1] is False


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_a_shard_is_its_share_two_layers_and_what_is_no_layer(processes: int) -> None:
    outside = 2 * LARGE.vocab_size * LARGE.hidden_size * 2
    for quantised in ("", "nf4"):
        whole = weight_bytes(LARGE, 2, quantised)
        layers = whole - outside
        scales = layers * 0.016 / 0.516 if quantised else 0.0
        expected = outside + scales + (layers - scales) * (1 / processes + 2 / 80)
        assert shard_bytes(LARGE, 2, quantised, processes) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("given", "processes"),
    [
        ({}, 1), ({"gpus": "2"}, 2), ({"gpus": "all"}, 8), ({"nnodes": 3}, 24), ({"gpus": "2", "nnodes": 3}, 6),
        ({"gpus": "0"}, 1),
    ],
)  # fmt: skip
def test_how_many_share_a_run(given: dict[str, object], processes: int) -> None:
    assert asked_processes(Options(**given), gpu(80, devices=8)) == processes  # type: ignore[arg-type]


@pytest.mark.parametrize("quantised", ["", "nf4"])
def test_the_plan_says_so_and_fits_more_tokens(quantised: str) -> None:
    """The rows of a step stay what they are for one GPU."""
    handler = Handler(name="llama", model_types=("llama",))
    facts = DataFacts(rows=1000, validation_rows=100, task="instruct", mean_length=200, longest=400)

    def plan(**given: object) -> Plan:
        options = Options(data="x", use_4bit=quantised == "nf4", **given)  # type: ignore[arg-type]
        free = (PACKED if quantised else WHOLE) * 0.8
        return make_plan(options, LARGE, handler, gpu(free, devices=4), facts, (1024, "because"))

    alone, together = plan(), plan(gpus="all")
    assert "not even that fits" in alone.why["micro_batch_tokens"]
    assert together.why["micro_batch_tokens"].endswith(
        "; no single GPU can hold the base, so it is sharded over all of them"
    )
    assert together.predicted_peak_bytes < alone.predicted_peak_bytes
    assert together.course.effective_batch_size == alone.course.effective_batch_size
    assert dataclasses.replace(together, why={}).micro_batch_tokens >= alone.micro_batch_tokens
