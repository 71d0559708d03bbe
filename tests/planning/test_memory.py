"""The memory formula and what is given up when memory is short, in the planner's order; FLOPs per token."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import Linear, ModelInfo, read_model_info
from llm_installer.planning.compute_path import EAGER, FUSED, path_of
from llm_installer.planning.fitting import fit_memory, memory_rows
from llm_installer.planning.flops import flops_per_token, known_peak_flops, mfu
from llm_installer.planning.layers import adapter_parameters, linears
from llm_installer.planning.memory import MemoryPlan, plan_memory, weight_bytes
from llm_installer.planning.method import Method
from llm_installer.planning.micro_batch import asked_layers
from llm_installer.planning.setup import Adapters, Setup

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


def setup(
    info: ModelInfo = LARGE, free: float = 139, device: str = "cuda", dropout: float = 0.0, quantised: str = "",
    dora: bool = False, **given
) -> Setup:  # fmt: skip
    hardware = Hardware(device, "a device", 1, int(free * GIB), int(free * GIB), True, 8)
    method, adapters = Method(quantised=quantised, dora=dora), Adapters(16, 32.0, dropout, ALL)
    asked = {"precision": "bfloat16", "packing": False, "longest": 1024, **given}
    return Setup(model=info, hardware=hardware, adapters=adapters, method=method, **asked)


def planned(*model, path=None, **given) -> MemoryPlan:
    return plan_memory(setup(*model, **given), path)


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
    ("info", "length", "billions"),
    [
        (SMALL, 512, 2.11), (SMALL, 2048, 2.34), (SMALL, 8192, 3.26), (MIDDLE, 512, 5.13), (MIDDLE, 2048, 5.48),
        (MIDDLE, 8192, 6.89), (LARGE, 512, 30.74), (LARGE, 2048, 32.15), (LARGE, 8192, 37.79),
    ],
    ids=lambda v: getattr(v, "name", str(v)),
)  # fmt: skip
def test_flops_per_token_are_those_of_the_table(info, length, billions) -> None:
    assert flops_per_token(info, rank=16, length=length) / 1e9 == pytest.approx(billions, rel=0.01)


def test_mfu_is_of_the_peak_of_the_gpu_by_name() -> None:
    assert known_peak_flops("NVIDIA H200") == known_peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert known_peak_flops("NVIDIA H100 PCIe") == 756e12
    assert known_peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert mfu(1000, 2e9, 10e12) == pytest.approx(0.2)
    assert mfu(1000, 2e9, known_peak_flops("some other card")) is None


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
    shapes = {
        "transformer.h.0.attn.c_attn.weight": (8, 24),
        "transformer.wte.weight": (100, 8),
        "vision_tower.blocks.0.mlp.weight": (7, 7),
        "transformer.h.0.ln_1.weight": (8,),
    }
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
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
    made = setup(device="cpu", quantised=quantised, dora=dora, dropout=dropout)
    assert (path_of(made) is FUSED) is fused
    assert path_of(dataclasses.replace(made, fast=False)) is EAGER


def test_each_thing_that_the_slow_paths_keep_is_counted() -> None:
    def kept(**given) -> int:
        return planned(**given).per_layer

    inputs, outputs = 6 * 4096 + 14336, 2 * 4096 + 2 * 1024 + 2 * 14336 + 4096
    assert kept(quantised="nf4") == kept() < kept(quantised="int8") / 2
    assert kept(dropout=0.1) - kept(dora=True) == inputs - 6 * outputs
    assert kept(quantised="int8") - kept(dora=True) == 2 * (2 * 4096 + 14336) - 6 * outputs


def test_packed_rows_keep_one_output_more_and_no_blocks_of_scores() -> None:
    plain, packed = (planned(SMALL, device="cpu", path=FUSED, packing=on) for on in (False, True))
    assert packed.per_layer - plain.per_layer == 2 * 896
    assert (plain.transient, packed.transient) == (1792 * 14, 2 * 2 * (4864 + 896))
    assert planned(SMALL, device="cpu", precision="float32").transient == 2 * packed.transient


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
    rows = memory_rows(setup(free=24), 4096)
    assert [name for name, _, _ in rows] == [
        "bfloat16, no checkpointing", "bfloat16, every layer checkpointed", "8-bit, no checkpointing",
        "8-bit, every layer checkpointed", "4-bit, no checkpointing", "4-bit, every layer checkpointed",
    ]  # fmt: skip
    assert [verdict.split()[0] for _, _, verdict in rows] == ["fits"] * 6
    assert rows[0][2].endswith("tokens per micro-batch") and rows[1][2] == "fits"
    assert memory_rows(setup(free=4), 4096)[0][2] == "does not fit"


@pytest.mark.parametrize(("given", "expected"), [(None, None), ("on", 32), ("off", 0), ("4", 4), ("99", 32)])
def test_gradient_checkpointing_is_on_off_or_a_number(given, expected) -> None:
    assert asked_layers(given, 32) == expected


@pytest.mark.parametrize("given", ["maybe", "-3", "1.5"])
def test_gradient_checkpointing_is_nothing_else(given) -> None:
    with pytest.raises(UsageError, match="say on, off or a number of layers"):
        asked_layers(given, 32)


def test_a_cpu_without_room_is_no_error() -> None:
    assert planned(device="cpu", free=1, precision="float32").fitting_tokens() == 0


def test_in_float8_a_weight_is_a_byte_where_its_layer_fits() -> None:
    """8 billion parameters: 1.05 billion of embeddings and head in 16 bits, the rest in 8."""
    assert weight_bytes(LARGE, 2, "fp8") / 1e9 == pytest.approx(9.1, rel=0.01)
    odd = dataclasses.replace(LARGE, linears=(Linear("q_proj", 4096, 4096, 32), Linear("up_proj", 4096, 14337, 32)))
    assert weight_bytes(LARGE, 2) - weight_bytes(odd, 2, "fp8") == 32 * 4096 * 4096
    here, there = planned(quantised="fp8"), planned()
    assert here.per_layer == there.per_layer and here.workspace == 4096 * 14336 and here.transient > there.transient


def test_the_table_shows_float8_where_the_gpu_has_it() -> None:
    made = setup()
    able = dataclasses.replace(made, hardware=dataclasses.replace(made.hardware, float8=True))
    names = [[name for name, _, _ in memory_rows(each, 4096)] for each in (made, able)]
    assert [name for name in names[1] if name not in names[0]] == [
        "float8, no checkpointing",
        "float8, every layer checkpointed",
    ]
