"""Methods and LoRA variants: each changes what it should, and what is published fits the base everybody has."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from llm_installer.core.errors import ModelError
from llm_installer.models.base import add_lora, load_base
from llm_installer.models.init_lora import restore_base
from llm_installer.planning.method import Method
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import adapter_weights, load_weights, save_adapter
from llm_installer.training.optimizer import LEARNING_RATE_FACTOR
from llm_installer.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

VARIANTS = [
    {},
    {"rslora": True},
    {"dora": True},
    {"init": "gaussian"},
    {"init": "pissa"},
    {"init": "olora"},
    {"loraplus_ratio": 4.0},
    {"neftune_noise_alpha": 5.0},
    {"rank_pattern": (("q_proj", 2),), "alpha_pattern": (("q_proj", 4.0), ("v_proj", 3.0))},
    {"rslora": True, "init": "pissa", "rank_pattern": (("q_proj", 2),), "alpha_pattern": (("v_proj", 3.0),)},
]


def ids_of(method: dict[str, Any]) -> str:
    return "-".join(method) or "plain"


@pytest.fixture
def make_trainer(tiny_llama: Path, plan_for: Callable[..., Plan]) -> Callable[..., Trainer]:
    """A trainer of the tiny Llama with a method, and other fields of the plan."""

    def make(folder: Path = tiny_llama, **changed: Any) -> Trainer:
        method = Method(**changed.pop("method", {}))
        plan = plan_for(32, epochs=2, method=method, **changed)
        return Trainer(add_lora(load_base(folder, plan.precision, "cpu", method.quantised), plan), plan, pad=0)

    return make


def learn(trainer: Trainer, rows: list[Any], steps: int = 6, first: int = 0) -> list[float]:
    return [
        trainer.step([trainer.batch(rows, (np.arange(8) + 8 * s) % len(rows))], trainer.plan.learning_rate)[0]
        for s in range(first, first + steps)
    ]


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(3, 33).view(2, 15)).logits
    return found.float()


def published(trainer: Trainer, folder: Path) -> Path:
    save_adapter(folder, trainer.model, adapter_weights(trainer.model), lambda fresh: None)
    return folder


@pytest.mark.parametrize("method", VARIANTS, ids=ids_of)
def test_a_variant_learns_and_its_adapter_fits_the_base_everybody_has(
    make_trainer: Callable[..., Trainer], make_rows: Callable, tiny_llama: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    trainer, rows = make_trainer(method=method), make_rows(32)
    before = trainer.evaluate(rows)
    base = logits(AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32))
    assert (logits(trainer.model) - base).abs().max() < 1e-5, "a fresh adapter changes nothing"
    learn(trainer, rows, steps=12)
    assert trainer.evaluate(rows) < before
    trained = logits(trainer.model)
    assert (trained - base).abs().max() > 1e-2
    if trainer.plan.method.init in ("pissa", "olora"):
        restore_base(trainer.model)
        assert (logits(trainer.model) - trained).abs().max() < 1e-5
        with trainer.model.disable_adapter():
            assert (logits(trainer.model) - base).abs().max() < 1e-5, "the base is whole again"
    fresh = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(fresh, str(published(trainer, tmp_path / "adapter")))
    assert (logits(loaded) - trained).abs().max() < 1e-5
    with loaded.disable_adapter():
        assert (logits(loaded) - base).abs().max() < 1e-5


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_checkpoint_of_them_fits_the_base_too_and_can_be_gone_on_from(
    make_trainer: Callable[..., Trainer], make_rows: Callable, tiny_llama: Path, tmp_path: Path, init: str
) -> None:
    whole, rows = make_trainer(method={"init": init}), make_rows(32)
    losses = learn(whole, rows, steps=8)
    first = make_trainer(method={"init": init})
    assert learn(first, rows, steps=4) == losses[:4]
    saved, state = adapter_weights(first.model), first.optimizer_state()
    again = make_trainer(method={"init": init})
    load_weights(again.model, saved)
    again.set_optimizer_state(state)
    assert learn(again, rows, steps=4, first=4) == losses[4:], "bit for bit"
    fresh = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(fresh, str(published(again, tmp_path / "checkpoint")))
    assert (logits(loaded) - logits(again.model)).abs().max() < 1e-4


def test_pissa_in_bfloat16_is_true_to_rounding(
    make_trainer: Callable[..., Trainer], make_rows: Callable, tiny_llama: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(method={"init": "pissa"}, precision="bfloat16")
    base = logits(AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16))
    noise = (base - logits(AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32))).abs().max()
    learn(trainer, make_rows(32), steps=12)
    trained = logits(trainer.model)
    restore_base(trainer.model)
    fresh = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16)
    loaded = PeftModel.from_pretrained(fresh, str(published(trainer, tmp_path / "adapter")))
    assert (trained - base).abs().max() > 10 * noise, "it learned more than rounding"
    assert (logits(loaded) - trained).abs().max() < 4 * noise


def test_a_rank_that_the_weights_do_not_have_is_refused(make_trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(ModelError, match=r"give --lora-r 16 or less"):
        make_trainer(method={"init": "pissa"}, lora_r=17, lora_alpha=34.0)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_weights_stored_the_other_way_round_are_decomposed_too(
    plan_for: Callable[..., Plan], tmp_path: Path, init: str
) -> None:
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32)).save_pretrained(tmp_path)
    plan = plan_for(
        8, method=Method(init=init), target_modules=("c_attn", "c_proj"), fan_in_fan_out=True, lora_r=4, lora_alpha=8.0
    )
    base = logits(load_base(tmp_path, "float32", "cpu"))
    model = add_lora(load_base(tmp_path, "float32", "cpu"), plan)
    assert (logits(model) - base).abs().max() < 1e-5
    restore_base(model)
    assert (logits(model) - base).abs().max() < 1e-5
    with model.disable_adapter():
        assert (logits(model) - base).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"rslora": True}, {"use_rslora": True}),
        ({"dora": True}, {"use_dora": True}),
        ({"init": "gaussian"}, {"init_lora_weights": "gaussian"}),
        ({"init": "pissa"}, {"init_lora_weights": "pissa"}),
        ({"rank_pattern": (("q_proj", 2),)}, {"rank_pattern": {"q_proj": 2}}),
        ({"alpha_pattern": (("q_proj", 2.0),)}, {"alpha_pattern": {"q_proj": 2.0}}),
    ],
)
def test_what_the_adapter_says_of_itself(
    make_trainer: Callable[..., Trainer], tmp_path: Path, method: dict[str, Any], expected: dict[str, Any]
) -> None:
    plain = {"use_rslora": False, "use_dora": False, "init_lora_weights": True, "rank_pattern": {}, "alpha_pattern": {}}
    folder = published(make_trainer(method=method), tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert {name: config[name] for name in plain} == plain | expected


def scales(model: PeftModel) -> dict[str, float]:
    found = {n.rpartition(".")[2]: m.scaling["default"] for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    return {name: float(value) for name, value in found.items()}


def test_the_scale_is_what_the_plan_prints(make_trainer: Callable[..., Trainer]) -> None:
    for method in ({}, {"rslora": True}):
        trainer = make_trainer(method=method)
        plan = trainer.plan
        assert set(scales(trainer.model).values()) == {plan.method.scale(plan.lora_r, plan.lora_alpha)}
    patterned = make_trainer(method={"rank_pattern": (("q_proj", 2),), "alpha_pattern": (("v_proj", 3.0),)})
    found, plan = scales(patterned.model), patterned.plan
    assert found["q_proj"] == plan.lora_alpha / 2
    assert found["v_proj"] == 3.0 / plan.lora_r
    assert found["o_proj"] == plan.lora_alpha / plan.lora_r
    ranks = {n: p.shape[0] for n, p in patterned.model.named_parameters() if "lora_A" in n}
    assert {rank for name, rank in ranks.items() if ".q_proj." in name} == {2}
    assert {rank for name, rank in ranks.items() if ".q_proj." not in name} == {plan.lora_r}


@pytest.mark.parametrize("name", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_for_no_adapted_layer_is_refused(make_trainer: Callable[..., Trainer], name: str) -> None:
    with pytest.raises(ModelError, match=f"--{name.replace('_', '-')} names lm_head, which gets no LoRA here"):
        make_trainer(method={name: (("lm_head", 2),)})


def names_of_trained(trainer: Trainer) -> set[str]:
    return {name for name, p in trainer.model.named_parameters() if p.requires_grad}


def test_lora_plus_moves_every_b_faster_and_nothing_else(
    make_trainer: Callable[..., Trainer], make_rows: Callable
) -> None:
    plain, faster = make_trainer(), make_trainer(method={"loraplus_ratio": 16.0})
    for trainer in (plain, faster):
        trainer.step([trainer.batch(make_rows(8), np.arange(8))], 1e-4)
    assert [group["lr"] for group in plain.optimizer.param_groups] == [1e-4]
    slow, fast = faster.optimizer.param_groups
    assert (slow["lr"], fast["lr"], fast[LEARNING_RATE_FACTOR]) == (1e-4, 16e-4, 16.0)
    for group, letter in ((slow, "A"), (fast, "B")):
        (leaf,) = group["params"]
        begin, end = leaf.data_ptr(), leaf.data_ptr() + leaf.nbytes
        inside = {n for n, p in faster.model.named_parameters() if p.requires_grad and begin <= p.data_ptr() < end}
        assert inside == {n for n in names_of_trained(faster) if f".lora_{letter}." in n}
    moved = [
        max(float(v.abs().max()) for n, v in adapter_weights(t.model).items() if "lora_B" in n) for t in (plain, faster)
    ]
    assert moved[1] / moved[0] == pytest.approx(16, rel=1e-3), "the first step of Adam is the rate itself"


def test_neftune_disturbs_training_only_by_the_papers_amount(
    make_trainer: Callable[..., Trainer], make_rows: Callable
) -> None:
    noisy = make_trainer(method={"neftune_noise_alpha": 5.0})
    embeddings, ids = noisy.model.get_input_embeddings(), torch.arange(3, 33).view(2, 15)
    noisy.model.eval()
    clean = embeddings(ids)
    assert torch.equal(clean, embeddings(ids))
    noisy.model.train()
    noise = embeddings(ids) - clean
    size = 5.0 / math.sqrt(15 * clean.shape[-1])
    assert size * 0.9 < noise.abs().max() <= size * (1 + 1e-6)
    assert abs(float(noise.mean())) < 0.1 * size
    tied = noisy.model.get_output_embeddings().weight
    assert tied is embeddings.weight, "the model of this test ties them, and the noise does not reach the output"
    rows, again, plain = make_rows(16), make_trainer(method={"neftune_noise_alpha": 5.0}), make_trainer()
    losses = []
    for trainer in (noisy, again, plain):
        torch.manual_seed(1)
        losses.append(learn(trainer, rows, steps=3))
    assert losses[0] == losses[1] != losses[2], "drawn from torch's own generator"


@pytest.mark.parametrize("rslora", [False, True])
def test_a_rank_of_256_stays_finite(make_trainer: Callable[..., Trainer], make_rows: Callable, rslora: bool) -> None:
    trainer = make_trainer(method={"rslora": rslora}, lora_r=256, lora_alpha=16.0 if rslora else 512.0)
    losses = learn(trainer, make_rows(32), steps=12)
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]


def test_decay_and_gradient_limit_reach_the_optimizer(
    make_trainer: Callable[..., Trainer], make_rows: Callable
) -> None:
    trainer = make_trainer(weight_decay=0.25, max_grad_norm=1e-3)
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.25}
    trainer.model.train()
    batch = trainer.batch(make_rows(8), np.arange(8))
    trainer.accelerator.backward(trainer.loss_sum(batch))
    trainer.accelerator.clip_grad_norm_(trainer.trained, trainer.plan.max_grad_norm)
    assert torch.nn.utils.get_total_norm([p.grad for p in trainer.trained]) == pytest.approx(1e-3, rel=1e-2)


def test_dora_and_pissa_reach_every_adapted_layer(make_trainer: Callable[..., Trainer]) -> None:
    dora = make_trainer(method={"dora": True})
    layers = [m for m in dora.model.modules() if isinstance(m, LoraLayer)]
    assert len([n for n, p in dora.model.named_parameters() if "magnitude" in n and p.requires_grad]) == len(layers)
    pissa = make_trainer(method={"init": "pissa"})
    assert all(m.lora_B["default"].weight.abs().max() > 0 for m in pissa.model.modules() if isinstance(m, LoraLayer))
    assert dataclasses.asdict(pissa.plan.method)["init"] == "pissa"
    assert isinstance(pissa.model.get_base_model(), PreTrainedModel)
