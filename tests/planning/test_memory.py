"""The memory formula and what is given up when memory is short, in the planner's order; operations per token."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import pytest

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import Linear, ModelInfo, read_model_info
from llm_installer.planning.backoff import asked_layers
from llm_installer.planning.fitting import fit_memory, memory_rows
from llm_installer.planning.flops import checkpointing_flops, flops_per_token, known_limit, share_of_limit
from llm_installer.planning.memory import (
    EAGER,
    FUSED,
    MemoryPlan,
    adapter_parameters,
    linears,
    plan_memory,
    weight_bytes,
)
from llm_installer.planning.memory_table import path_of

ALL = ("all-linear",)


def shape(name: str, parameters: float, vocabulary: int, hidden: int, inner: int, layers: int, heads: int, kv: int):
    """A Llama-like model of a real one's sizes."""
    return ModelInfo(
        path=Path("m"), name=name, model_type="llama", architecture="", parameters=int(parameters), dtype="bfloat16",
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, layers=layers, heads=heads, kv_heads=kv,
        head_dim=hidden // heads, max_positions=8192, chat_template=True, vision=False, weight_bytes=0,
    )  # fmt: skip


SMALL = shape("Qwen2.5-0.5B", 494e6, 151936, 896, 4864, 24, 14, 2)
MIDDLE = shape("Llama-3.2-1B", 1.236e9, 128256, 2048, 8192, 16, 32, 8)
LARGE = shape("Llama-3-8B", 8.03e9, 128256, 4096, 14336, 32, 32, 8)


def planned(info: ModelInfo = LARGE, free: float = 139, **given) -> MemoryPlan:
    asked = {"dtype": "bfloat16", "rank": 16, "free_bytes": int(free * GIB), "device": "cuda", **given}
    return plan_memory(info, **asked)


@pytest.mark.parametrize(
    ("info", "weights", "packed", "adapters"),
    [(SMALL, 0.92, 0.43, 8.80), (MIDDLE, 2.30, 0.96, 11.27), (LARGE, 14.96, 5.31, 41.94)],
    ids=lambda v: getattr(v, "name", str(v)),
)
def test_weights_and_adapters_are_those_of_the_real_models(info, weights, packed, adapters) -> None:
    assert weight_bytes(info, 2) / GIB == pytest.approx(weights, rel=0.01)
    assert weight_bytes(info, 2, "nf4") / GIB == pytest.approx(packed, rel=0.02)
    assert adapter_parameters(info, 16, ALL) / 1e6 == pytest.approx(adapters, rel=0.001)


@pytest.mark.parametrize(
    ("info", "length", "billions", "again"),
    [
        (SMALL, 512, 2.11, 2.86), (SMALL, 2048, 2.34, 3.16), (SMALL, 8192, 3.26, 4.35),
        (MIDDLE, 512, 5.13, 7.13), (MIDDLE, 2048, 5.48, 7.58), (MIDDLE, 8192, 6.89, 9.40),
        (LARGE, 512, 30.74, 44.92), (LARGE, 2048, 32.15, 46.73), (LARGE, 8192, 37.79, 53.98),
    ],
    ids=lambda v: getattr(v, "name", str(v)),
)  # fmt: skip
def test_operations_per_token_are_those_of_the_table(info, length, billions, again) -> None:
    once = flops_per_token(info, rank=16, length=length)
    assert once / 1e9 == pytest.approx(billions, rel=0.01)
    more = checkpointing_flops(info, rank=16, length=length, layers=info.layers)
    assert (once + more) / 1e9 == pytest.approx(again, rel=0.01)
    half = checkpointing_flops(info, rank=16, length=length, layers=info.layers // 2)
    assert half == pytest.approx(more / 2)


def test_the_share_of_a_limit_is_of_the_gpu_by_name() -> None:
    assert known_limit("NVIDIA H200") == known_limit("NVIDIA H100 80GB HBM3") == 989e12
    assert known_limit("NVIDIA H100 PCIe") == 756e12
    assert known_limit("NVIDIA A100-SXM4-80GB") == 312e12
    assert share_of_limit(1000, 2e9, 10e12) == pytest.approx(0.2)
    assert share_of_limit(1000, 2e9, known_limit("some other card")) is None


def test_linear_layers_come_from_the_headers(tiny_llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    info = read_model_info(tiny_llama)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    real = {n.rpartition(".")[2]: m for n, m in model.named_modules() if "layers." in n and hasattr(m, "in_features")}
    assert {n.name: (n.inputs, n.outputs, n.count) for n in info.linears} == {
        name: (m.in_features, m.out_features, 2) for name, m in real.items()
    }
    assert set(linears(dataclasses.replace(info, linears=()))) == set(info.linears), "the guess is a Llama"


def test_layers_stored_the_other_way_round_are_turned_and_towers_left_out(tmp_path: Path) -> None:
    tensors = {
        "transformer.h.0.attn.c_attn.weight": [8, 24],
        "transformer.wte.weight": [100, 8],
        "vision_tower.blocks.0.mlp.weight": [7, 7],
        "transformer.h.0.ln_1.weight": [8],
    }
    header = json.dumps({k: {"dtype": "F32", "shape": s, "data_offsets": [0, 0]} for k, s in tensors.items()}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1, "n_embd": 8}', encoding="utf-8")
    assert read_model_info(tmp_path).linears == (Linear("c_attn", 8, 24, 1),)


def test_the_fast_path_keeps_less_and_so_do_checkpointed_layers() -> None:
    eager, fused = planned(path=EAGER), planned(path=FUSED)
    assert fused.per_layer < 0.6 * eager.per_layer
    assert fused.logits < 0.1 * eager.logits, "logits a chunk at a time"
    peaks = [fused.peak(16384, k) for k in range(33)]
    assert peaks[:29] == sorted(peaks[:29], reverse=True), "the last ones save less than the input they keep"
    assert peaks[32] - fused.fixed < 0.2 * (peaks[0] - fused.fixed)
    assert all(fused.peak(fused.fitting_tokens(k), k) <= fused.room for k in range(33))


@pytest.mark.parametrize(
    ("quantised", "dora", "dropout", "fused"),
    [("", False, 0.0, True), ("nf4", False, 0.0, True), ("int8", False, 0.0, False), ("nf4", True, 0.0, False),
     ("", False, 0.1, False)],
)  # fmt: skip
def test_the_path_is_what_training_takes(quantised, dora, dropout, fused) -> None:
    assert (path_of(quantised, dora, dropout, "cpu") is FUSED) is fused


def test_each_thing_that_the_slow_paths_keep_is_counted() -> None:
    def kept(*way, **given) -> int:
        return planned(LARGE, path=path_of(*way, "cuda"), **given).per_layer

    inputs, outputs = 6 * 4096 + 14336, 2 * 4096 + 2 * 1024 + 2 * 14336 + 4096
    assert kept("nf4", False, 0.0, quantised="nf4") == kept("", False, 0.0) < kept("int8", False, 0.0) / 2
    assert kept("", False, 0.1) - kept("", True, 0.0) == inputs - 6 * outputs
    assert kept("int8", False, 0.0) - kept("", True, 0.0) == 2 * (2 * 4096 + 14336) - 6 * outputs


def test_packed_rows_keep_one_output_more_and_no_blocks_of_scores() -> None:
    plain, packed = (planned(SMALL, device="cpu", path=FUSED, packed=on) for on in (False, True))
    assert packed.per_layer - plain.per_layer == 2 * 896
    assert (plain.transient, packed.transient) == (1792 * 14, 2 * 2 * (4864 + 896))
    assert planned(SMALL, device="cpu", dtype="float32").transient == 2 * packed.transient


@pytest.mark.parametrize(
    ("free", "quantised", "tokens", "again"),
    [
        (139, "", 4096, "no"), (24, "", 2048, "some"), (17.6, "", 300, "most"), (12, "nf4", 2048, "some"),
        (24, "nf4", 2048, "no"),
    ],
)  # fmt: skip
def test_tokens_are_given_up_first_and_then_time(free, quantised, tokens, again) -> None:
    memory = planned(free=free, quantised=quantised, path=FUSED)
    fit = fit_memory(memory, enough=4096, longest=300, step_tokens=10_000, smaller=memory)
    assert fit.fits and fit.tokens >= tokens, fit
    assert {"no": fit.checkpointed == 0, "some": 0 < fit.checkpointed < 32, "most": fit.checkpointed > 16}[again], fit
    assert fit.peak <= free * GIB * 0.92
    assert not fit.checkpointed or memory.fitting_tokens(fit.checkpointed - 1) < fit.tokens, "the fewest that do"


def test_what_fits_nowhere_says_so_and_names_what_would() -> None:
    asked = {"enough": 4096, "longest": 500, "step_tokens": 3000}
    fit = fit_memory(planned(free=8), **asked, smaller=planned(free=8, quantised="nf4"))
    assert (fit.fits, fit.tokens, fit.checkpointed) == (False, 500, 32)
    assert "--method qlora would" in fit.why
    assert "qlora" not in fit_memory(planned(free=4), **asked, smaller=planned(free=4, quantised="nf4")).why


def test_the_layers_that_the_user_asks_for_are_kept() -> None:
    fit = fit_memory(planned(), enough=4096, longest=500, step_tokens=3000, smaller=planned(), layers=7)
    assert (fit.fits, fit.checkpointed, fit.tokens) == (True, 7, 4096)


def test_the_table_has_a_verdict_for_every_way() -> None:
    rows = memory_rows(lambda q: planned(free=24, quantised=q, path=FUSED), "bfloat16", 4096)
    assert [name for name, _, _ in rows] == [
        "bfloat16, no checkpointing", "bfloat16, every layer checkpointed", "8-bit, no checkpointing",
        "8-bit, every layer checkpointed", "4-bit, no checkpointing", "4-bit, every layer checkpointed",
    ]  # fmt: skip
    assert [verdict.split()[0] for _, _, verdict in rows] == ["fits"] * 6
    assert rows[0][2].endswith("tokens at once") and rows[1][2] == "fits"
    assert memory_rows(lambda q: planned(free=4, quantised=q), "bfloat16", 4096)[0][2] == "does not fit"


@pytest.mark.parametrize(("given", "expected"), [(None, None), ("on", 32), ("off", 0), ("4", 4), ("99", 32)])
def test_gradient_checkpointing_is_on_off_or_a_number(given, expected) -> None:
    assert asked_layers(given, 32) == expected


@pytest.mark.parametrize("given", ["maybe", "-3", "1.5"])
def test_gradient_checkpointing_is_nothing_else(given) -> None:
    with pytest.raises(UsageError, match="say on, off or a number of layers"):
        asked_layers(given, 32)


def test_a_cpu_without_room_is_no_error() -> None:
    machine = Hardware("cpu", "CPU", 1, GIB, GIB, False, 2)
    memory = plan_memory(LARGE, dtype="float32", rank=8, free_bytes=machine.free_bytes)
    assert memory.fits_tokens == 0
