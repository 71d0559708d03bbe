"""Compiled gates and norms: gradients of plain PEFT, and plain PyTorch where nothing can be compiled."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from llm_installer.data.batches import collate
from llm_installer.data.encoding.row import Row
from llm_installer.training.fast.compiled import Compiler
from llm_installer.training.fast.cpu import parallel
from llm_installer.training.fast.gates import GATES, compiled_gate
from llm_installer.training.fast.interface import make_parallel, speed_up
from llm_installer.training.fast.loss import SupervisedLoss
from llm_installer.training.fast.norms import compiled_norm, eager_norm

SIZES: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8)),
}
compiles = pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="needs a C++ compiler")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


def gradients(model: nn.Module) -> dict[str, Tensor]:
    ids = torch.randint(1, 100, (2, 17), generator=torch.Generator().manual_seed(1))
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_plain_peft(family: str) -> None:
    torch.manual_seed(0)
    base = FAMILIES[family]().requires_grad_(False)
    for name, weight in base.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.normal_(weight, mean=float(family == "llama"), std=0.2)
    model = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear"))
    plain = gradients(model)
    notes = speed_up(model, compiling=True)
    parts = sum(type(m).__name__.endswith(("RMSNorm", "MLP")) for m in model.modules())
    assert f"{parts} of these {parts} compiled" in notes
    own = gradients(model)
    assert own.keys() == plain.keys()
    assert max(float((own[n] - g).norm() / g.norm()) for n, g in plain.items()) < 1e-5


@compiles
@pytest.mark.slow
def test_two_micro_batches_at_once_go_through_it() -> None:
    """Every replica runs what was compiled, and the model was searched for products before."""
    random = np.random.default_rng(0)
    rows = [Row(random.integers(1, 100, n).astype(np.int32), np.arange(n) > 4, i) for i, n in enumerate((30, 25))]
    batches = [collate([row], 0) for row in rows]
    found = []
    for compiling in (False, True):
        torch.manual_seed(0)
        base = FAMILIES["llama"]().bfloat16().requires_grad_(False)
        model = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear"))
        models = [model, parallel.replica(model)]
        notes = speed_up(model, compiling, 1, kernels=False)
        assert any("compiled" in note for note in notes) == compiling
        together, note = make_parallel(models, SupervisedLoss(model, kernels=False), compiling)
        assert together, note
        loss = together.add_gradients(batches, 50)
        grads = [p.grad.flatten().float() for p in model.parameters() if p.grad is not None]
        found.append((float(loss), torch.cat(grads)))
    (plain, expected), (loss, own) = found
    assert loss == pytest.approx(plain, rel=1e-3)
    assert float((own - expected).norm() / expected.norm()) < 3e-2


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("kind", GATES)
def test_a_compiled_gate_in_16_bits_is_as_near_to_the_truth_as_the_other(kind: str) -> None:
    random = torch.Generator().manual_seed(0)
    gate, up, outer = (torch.randn(40, 48, generator=random).bfloat16() for _ in range(3))
    ways = (GATES[kind], compiled_gate(kind), GATES[kind])
    found = [
        (way.forward(g, u), *way.backward(o, g, u))
        for way, (g, u, o) in zip(
            ways, [[t.to(kind_of).clone() for t in (gate, up, outer)] for kind_of in TYPES], strict=True
        )
    ]
    assert_as_near(found)


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("gemma", [False, True])
def test_a_compiled_norm_in_16_bits_is_as_near_to_the_truth_as_the_other(gemma: bool) -> None:
    random = torch.Generator().manual_seed(0)
    x, outer, weight = (torch.randn(*size, generator=random).bfloat16() for size in ((40, 32), (40, 32), (32,)))
    ways = (eager_norm(1e-5, gemma), compiled_norm(1e-5, gemma), eager_norm(1e-5, gemma))
    found = []
    for way, kind_of in zip(ways, TYPES, strict=True):
        flat, o, w = x.to(kind_of), outer.to(kind_of), weight.to(kind_of)
        result, spread = way.forward(flat, w)
        found.append((result, way.backward(o, flat, w, spread)))
    assert_as_near(found)


TYPES = (torch.bfloat16, torch.bfloat16, torch.float64)
"""Of the present way, of the compiled one, and of the truth."""


def assert_as_near(found: list[tuple[Tensor, ...]]) -> None:
    """The second is no further from the third than the first, but for a tenth."""
    for eager, compiled, true in zip(*found, strict=True):
        assert float((compiled.double() - true).norm()) <= 1.1 * float((eager.double() - true).norm())


@compiles
@pytest.mark.slow
def test_more_kinds_of_norms_are_compiled_than_torch_allows_by_itself() -> None:
    """Each kind, type and number of rows that is one or more is compiled anew, from the same code."""
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(8)
    for gemma, rows, dtype, grad in itertools.product((False, True), (1, 6), (torch.float32, torch.float64), (0, 1)):
        with torch.set_grad_enabled(bool(grad)):
            (own, _), (plain, _) = (
                make(1e-5, gemma).forward(x[:rows].to(dtype), weight.to(dtype)) for make in (compiled_norm, eager_norm)
            )
        assert torch.allclose(own, plain, atol=1e-6)


@pytest.mark.slow
def test_without_a_compiler_everything_stays_as_it_was(tmp_path: Path) -> None:
    code = "from llm_installer.training.fast.compiled import Compiler\nprint(Compiler().refusal() or 'works')"
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() and run.stdout.strip() != "works"


def test_a_model_says_why_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiler, "refusal", lambda _: "there is no compiler")
    model = get_peft_model(FAMILIES["llama"]().requires_grad_(False), LoraConfig(r=2, target_modules=["q_proj"]))
    notes = speed_up(model, compiling=True)
    assert "nothing is compiled: there is no compiler" in notes
    assert "memory-saving gates in 2 layers and 5 memory-saving norms" in notes
