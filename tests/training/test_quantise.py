"""A base in 4 or 8 bits, on the CPU: it really is, it learns, and its adapter works where it is said to work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from llm_installer.core.errors import ModelError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_many import encode_all
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.models.base import add_lora, load_base
from llm_installer.models.quantise import STORED, settle_quantised, unquantised, unquantised_line
from llm_installer.planning.method import Method
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import adapter_weights, save_adapter
from llm_installer.training.fast.interface import speed_up
from llm_installer.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
STORY = "one day a little cat sat on the mat and saw a big red ball in the sun"


@pytest.fixture(params=["nf4", "int8"])
def quantised(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stories(shared: Path) -> Path:
    return shared / "models" / "stories260K"


@pytest.fixture
def story_rows(stories: Path) -> list[Any]:
    """Rows of the real pretrained model's language that follow a rule it can learn."""
    encoder = Encoder(load_tokenizer(stories))
    words = STORY.split()
    texts = [" ".join(words[(i * j) % 16] for j in range(1, 12)) for i in range(48)]
    made = [Example((Message("assistant", t),), Origin("t", i), kind="text") for i, t in enumerate(texts)]
    return list(encode_all(made, encoder)[0])


def trainer_of(folder: Path, plan: Plan) -> Trainer:
    base = load_base(folder, plan.precision, "cpu", plan.method.quantised)
    return Trainer(add_lora(base, plan), plan, pad=0)


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(3, 63).view(3, 20)).logits
    return found.float()


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and "lora_" not in n}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_real_model_learns_on_a_quantised_base(
    stories: Path, story_rows: list[Any], plan_for: Callable[..., Plan], tmp_path: Path, quantised: str, precision: str
) -> None:
    plan = plan_for(32, method=Method(quantised=quantised), precision=precision, learning_rate=4e-3)
    trainer = trainer_of(stories, plan)
    held_out, whole = story_rows[32:], load_base(stories, precision, "cpu")
    assert (logits(trainer.model) - logits(whole)).abs().max() > 0.1, "quantisation shows"
    before = trainer.evaluate(held_out)
    for step in range(20):
        trainer.step([trainer.batch(story_rows, (np.arange(8) + 8 * step) % 32)], plan.learning_rate)
        if step == 1:
            grads = {n: p.grad for n, p in trainer.model.named_parameters() if p.requires_grad}
    after = trainer.evaluate(held_out)
    assert after < 0.6 * before
    assert len(grads) == 2 * 7 * 5
    stored = {type(m).__name__ for n, m in linear_layers(trainer.model).items() if "lm_head" not in n}
    assert stored == {STORED[quantised]}
    assert type(trainer.model.get_output_embeddings()) is nn.Linear
    assert {p.dtype for p in trainer.trained} == {torch.float32}
    save_adapter(tmp_path / "a", trainer.model, adapter_weights(trainer.model), lambda fresh: None)
    same = PeftModel.from_pretrained(
        load_base(stories, precision, "cpu", quantised), str(tmp_path / "a"), is_trainable=True
    )
    trained = logits(trainer.model)
    speed_up(same)  # in 16 bits the fast paths round elsewhere
    assert (logits(same) - trained).abs().max() < 1e-5, "on the base it was trained on: the same"
    full = trainer_of(stories, plan_for(32, precision=precision))
    full.model = PeftModel.from_pretrained(whole, str(tmp_path / "a"))
    full.fast.loss.model = full.model
    assert full.evaluate(held_out) < 0.65 * before, "on the whole base: nearly as good"


def test_every_adapter_has_a_gradient_after_an_evaluation(
    tiny_llama: Path, make_rows: Callable, plan_for: Callable[..., Plan], quantised: str
) -> None:
    """bitsandbytes repacks weights for inference on some CPUs at the first evaluation, which then have no gradient."""
    rows = make_rows(16)
    found = []
    for evaluate in (False, True):
        plan = plan_for(16, method=Method(quantised=quantised))
        trainer = trainer_of(tiny_llama, plan)
        if evaluate:
            trainer.evaluate(rows)
        trainer.step([trainer.batch(rows, np.arange(8))], 1e-2)
        trainer.model.train()
        trainer.accelerator.backward(trainer.loss_sum(trainer.batch(rows, np.arange(8))))
        found.append([p.grad.clone() for p in trainer.trained])
    assert all(g.abs().max() > 0 for g in found[1])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_fast_path_of_a_cpu_is_not_taken_even_where_it_is_offered(tiny_llama: Path) -> None:
    model = load_base(tiny_llama, "bfloat16", "cpu", "nf4")
    layers = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    assert len(layers) == 14 and not any(m.support_avx512bf16_for_cpu for m in layers)
    sizes = [m.weight.shape for m in layers]
    logits(model)
    assert [m.weight.shape for m in layers] == sizes


def test_a_four_bit_layer_takes_half_a_byte_and_its_scales(stories: Path) -> None:
    model = load_base(stories, "float32", "cpu", "nf4")
    layers = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    held = sum(m.weight.nbytes + m.weight.quant_state.absmax.nbytes for m in layers)
    weights = sum(m.in_features * m.out_features for m in layers)
    assert all(m.weight.quant_state.nested for m in layers), "the scales are quantised too"
    assert held / weights == pytest.approx(0.5 + 1 / 64, rel=1e-3)


def test_loading_makes_no_noise(
    tiny_llama: Path, quantised: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bitsandbytes"):
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as the command line does
        logits(load_base(tiny_llama, "float32", "cpu", quantised))
    assert not [r for r in caplog.records if r.name.startswith("bitsandbytes")]
    said = capfd.readouterr()
    assert "bitsandbytes" not in said.out + said.err and "kernels" not in said.out + said.err


def test_gpt2s_layers_are_quantised_too(tmp_path: Path, plan_for: Callable[..., Plan], quantised: str) -> None:
    """They are Conv1D, stored the other way round; the adapter still fits the whole base."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32)).save_pretrained(tmp_path)
    plan = plan_for(8, method=Method(quantised=quantised), target_modules=("c_attn", "c_proj"), fan_in_fan_out=True)
    base = load_base(tmp_path, "float32", "cpu", quantised)
    assert unquantised(base) == {}
    model = add_lora(base, plan)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_()
    save_adapter(tmp_path / "a", model, adapter_weights(model), lambda fresh: None)
    full = PeftModel.from_pretrained(load_base(tmp_path, "float32", "cpu"), str(tmp_path / "a"))
    change, kept = logits(full) - logits(model), logits(full)
    with full.disable_adapter():
        assert change.abs().max() < 0.3 * (kept - logits(full)).abs().max()


def test_odd_sizes_are_quantised_too(tmp_path: Path, quantised: str) -> None:
    """Neither rows nor whole weights are multiples of the 64 numbers that share a scale."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=36, intermediate_size=51, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    whole, small = (load_base(tmp_path, "float32", "cpu", name) for name in ("", quantised))
    assert unquantised(small) == {}
    spread = logits(whole).std()
    assert 0 < (logits(small) - logits(whole)).std() < 0.2 * spread
    small.train()
    assert (small(input_ids=torch.arange(3, 63).view(3, 20)).logits - logits(whole)).std() < 0.2 * spread


def test_what_stays_whole_is_named(tmp_path: Path, quantised: str) -> None:
    config = MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2, max_position_embeddings=32,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    said = unquantised_line(load_base(tmp_path, "float32", "cpu", quantised))
    assert said.startswith("Not quantised")
    assert "model.layers.mlp.experts.gate_up_proj (4,096 weights)" in said
    assert "embed_tokens" not in said and "lm_head" not in said and "norm" not in said


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="No layer of Sequential can be quantised"):
        settle_quantised(nn.Sequential(nn.Conv1d(2, 2, 1)), "nf4", torch.float32)  # type: ignore[arg-type]
