"""Adapters above a base in float8: fused as PEFT computes them, and after training as good as above float32."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from llm_installer.data.encoding.row import Row
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.models.base import add_lora, load_base
from llm_installer.models.float8 import hold_in_float8, is_float8, unround
from llm_installer.planning.method import Method
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import adapter_weights, save_adapter
from llm_installer.training.fast.float8 import fuse_adapters
from llm_installer.training.trainer import Trainer

IDS = torch.arange(3, 63).view(3, 20)
CLOSE = 0.005
"""How far the held-out loss may be from that above float32, as a share of it."""


def model_of(folder: Path, multiple: int, precision: str = "float32", dropout: float = 0.0) -> PeftModel:
    """Adapters with B that is not zero above a base of which every width in multiples of `multiple` is in float8."""
    base = load_base(folder, precision, "cpu")
    hold_in_float8(base, "cpu", multiple)
    torch.manual_seed(1)
    made = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, lora_dropout=dropout, target_modules="all-linear"))
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.05)
    assert isinstance(made, PeftModel)
    return made.train()


def learned(model: PeftModel) -> tuple[Tensor, Tensor]:
    """Logits and all gradients of adapters, one after the other."""
    result = model(input_ids=IDS, labels=IDS, use_cache=False)
    result.loss.backward()
    found = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return result.logits.detach().float(), found


def off(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


@pytest.mark.parametrize(
    ("multiple", "precision", "said"),
    [
        (4, "float32", ["fused LoRA above float8 on 35 of 35 layers"]),
        (16, "float32", ["fused LoRA above float8 on 20 of 35 layers", "fused LoRA on 15 of 15 layers"]),
        (4, "bfloat16", ["fused LoRA above float8 on 35 of 35 layers"]),
    ],
)
def test_fused_it_is_what_peft_computes(shared: Path, multiple: int, precision: str, said: list[str]) -> None:
    model = model_of(shared / "models" / "stories260K", multiple, precision)
    logits, gradients = learned(model)
    assert all(p.dtype == torch.float32 for n, p in model.named_parameters() if "lora_" in n)
    assert fuse_adapters(model) == said
    found = learned(model)
    # An input that is off in its last bits may be rounded to the next float8 number.
    close = 5e-3 if precision == "float32" else 0.05
    assert off(found[0], logits) < close and off(found[1], gradients) < 4 * close


def test_layers_with_one_input_cast_it_once(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_installer.training.fast import float8 as fused

    model, own, calls = model_of(shared / "models" / "stories260K", 4), fused.cast_rows, []
    fuse_adapters(model)
    monkeypatch.setattr(fused, "cast_rows", lambda *x: calls.append(x) or own(*x))
    model(input_ids=IDS, use_cache=False)
    assert len(calls) == 4 * 5, "q, k and v; o; gate and up; down: in five layers"


def test_with_dropout_peft_computes_the_adapters(shared: Path) -> None:
    notes = fuse_adapters(model_of(shared / "models" / "stories260K", 4, dropout=0.1))
    assert notes[0] == "fused LoRA on 0 of 35 layers"


def text_rows(shared: Path) -> list[Row]:
    """Alpaca's words in rows of 128 tokens, all learned; in an order of their own."""
    records = json.loads((shared / "data" / "alpaca" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    words = "\n".join(f"{r['instruction']} {r['input']}\n{r['output']}" for r in records)[:400_000]
    ids = np.array(load_tokenizer(shared / "models" / "stories260K")(words)["input_ids"], dtype=np.int32)
    rows = [
        Row(part, np.ones(128, dtype=bool), i) for i, part in enumerate(ids[: len(ids) // 128 * 128].reshape(-1, 128))
    ]
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


@pytest.mark.slow
def test_the_held_out_loss_is_within_half_a_percent_of_float32s(
    shared: Path, plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    """Every linear layer is in float8, those too that are too narrow for a GPU's."""
    rows, folder = text_rows(shared), shared / "models" / "stories260K"
    learned_rows, held_out = rows[:800], rows[800:864]
    losses: dict[str, float] = {}
    for way in ("", "fp8"):
        plan = plan_for(800, batch=16, learning_rate=5e-3, lora_r=8, lora_alpha=16.0, target_modules=("all-linear",))
        base = load_base(folder, "float32", "cpu")
        if way:
            hold_in_float8(base, "cpu", 4)
        trainer = Trainer(add_lora(base, plan), plan, pad=0)
        before = trainer.evaluate(held_out)
        for step in range(50):
            batch = trainer.batch(learned_rows, np.arange(16) + 16 * step)
            trainer.step([batch], plan.learning_rate)
        losses[way] = trainer.evaluate(held_out)
        assert losses[way] < 0.85 * before
    assert losses["fp8"] == pytest.approx(losses[""], rel=CLOSE)
    save_adapter(tmp_path / "a", trainer.model, adapter_weights(trainer.model), lambda fresh: None)
    unround(trainer.model, load_base(folder, "float32", "cpu"))
    whole = trainer.evaluate(held_out)
    assert whole == pytest.approx(losses[""], rel=CLOSE), "on the base as published"
    plain: Any = PeftModel.from_pretrained(load_base(folder, "float32", "cpu"), str(tmp_path / "a")).eval()
    ids = torch.from_numpy(np.stack([row.ids for row in held_out[:8]])).long()
    with torch.no_grad():
        assert torch.allclose(plain(input_ids=ids).logits, trainer.model(input_ids=ids).logits, atol=1e-4)


def test_a_trainer_on_float8_learns(tiny_llama: Path, make_rows: Callable, plan_for: Callable[..., Plan]) -> None:
    rows, plan = make_rows(16), plan_for(16, method=Method(quantised="fp8"))
    trainer = Trainer(add_lora(load_base(tiny_llama, "float32", "cpu", "fp8"), plan), plan, pad=0)
    assert any(is_float8(m) for m in trainer.model.modules())
    assert trainer.notes[0].startswith("fused LoRA above float8 on ")
    before = trainer.evaluate(rows)
    for _ in range(8):
        trainer.step([trainer.batch(rows, np.arange(16))], 1e-2)
    assert trainer.evaluate(rows) < before
