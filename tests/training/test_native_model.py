"""A model that takes the kernels in C, all of them or those that its processor has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from llm_installer.training.device_memory import checkpoint_layers
from llm_installer.training.fast.cpu.native.attention import usable
from llm_installer.training.fast.cpu.native.library import processor
from llm_installer.training.fast.interface import speed_up
from llm_installer.training.fast.kernel_choice import choose

pytestmark = pytest.mark.skipif(
    not os.environ.get("CC") and not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler"
)
attends = pytest.mark.skipif(not usable(), reason="attention in C is for processors with dot products of bfloat16")

SHAPE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip


def adapted() -> Any:
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE)).bfloat16().requires_grad_(False)
    return get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear"))


@attends
def test_a_model_takes_them_all_unless_nothing_may_be_compiled() -> None:
    model = adapted()
    notes = speed_up(model)
    assert "C kernels for 5 norms, 2 gates, 2 rotary embeddings" in notes
    assert "C kernels for attention" in notes and not any("memory-saving" in note for note in notes)
    notes = speed_up(adapted(), kernels=False)
    assert (
        "memory-saving gates in 2 layers and 5 memory-saving norms" in notes
        and "attention by blocks of queries" in notes
    )
    assert not any("C kernels" in note for note in notes)


def test_models_in_float32_are_not_asked() -> None:
    assert choose("cpu", torch.float32) == choose("cpu", torch.bfloat16, False) == (None, "")


@pytest.mark.parametrize("kernels", [True, False])
def test_checkpointed_layers_have_the_same_gradients(kernels: bool) -> None:
    """They compute again what was to be kept, and hand it out once."""
    ids = torch.randint(1, 300, (2, 30), generator=torch.Generator().manual_seed(1))
    found = []
    for count in (0, 1, 2):
        model = adapted()
        speed_up(model, kernels=kernels)
        assert checkpoint_layers(model, count) == count
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(map(torch.equal, found[0], found[1])) and all(map(torch.equal, found[0], found[2]))


@pytest.mark.skipif("avx512_bf16" not in processor(), reason="a processor with dot products of bfloat16")
def test_a_processor_without_dot_products_of_bfloat16_takes_all_but_attention(tmp_path: Path) -> None:
    environment = {**os.environ, "LLM_KERNELS": str(tmp_path), "CC": "cc -mno-avx512bf16"}
    ask = "import sys; sys.path.insert(0, sys.argv[1]); import test_native as n, test_native_model as t"
    ask += "; print(t.usable(), n.library()[1] or 'works')"
    ask += "; n.test_norms(31, 0.0, 'llama'); print(t.speed_up(t.adapted()))"
    command = [sys.executable, "-W", "ignore", "-c", ask, str(Path(__file__).parent)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.startswith("False works") and "C kernels for 5 norms" in said and "blocks of queries" in said
