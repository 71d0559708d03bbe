"""The fused LoRA on a 4-bit base against PEFT's own path: outputs and gradients, and that nothing whole is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.method import Method
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.lora import fuse_lora
from llm_installer.training.fast.pointwise import fuse_pointwise

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
IDS = torch.arange(3, 63).view(3, 20)


@pytest.fixture
def model_of(shared: Path, plan_for: Callable[..., Plan]) -> Callable[[str, str], PeftModel]:
    def make(quantised: str, precision: str) -> PeftModel:
        plan = plan_for(8, method=Method(quantised=quantised), precision=precision)
        torch.manual_seed(0)
        model = add_lora(load_base(shared / "models" / "stories260K", precision, "cpu", quantised), plan)
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.05)
        return model.train()

    return make


def learned(model: PeftModel) -> tuple[Tensor, dict[str, Tensor]]:
    result = model(input_ids=IDS, labels=IDS, use_cache=False)
    result.loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return result.logits.detach().float(), found


def off(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def test_in_float32_outputs_and_gradients_are_those_of_peft(model_of: Callable[..., PeftModel]) -> None:
    model = model_of("nf4", "float32")
    logits, expected = learned(model)
    notes = fuse_lora(model)
    layers = sum("lora_A" in n for n, _ in model.named_parameters())
    assert notes == [f"fused LoRA on {layers} of {layers} layers"]
    found_logits, found = learned(model)
    assert off(found_logits, logits) < 1e-5
    assert found.keys() == expected.keys()
    both = [torch.cat([g[n].reshape(-1) for n in expected]) for g in (found, expected)]
    assert off(*both) < 1e-5
    worst = max(off(found[n], e) for n, e in expected.items())
    assert worst < 1e-4, worst


def test_in_bfloat16_it_is_as_near_to_float32_as_peft(model_of: Callable[..., PeftModel]) -> None:
    model, exact = model_of("nf4", "bfloat16"), model_of("", "float32")
    from bitsandbytes.functional import dequantize_4bit

    packed = dict(model.named_modules())
    with torch.no_grad():
        for name, module in exact.named_modules():
            state = getattr(getattr(packed[name], "weight", None), "quant_state", None)
            if state is not None and hasattr(module, "weight"):
                module.weight.copy_(dequantize_4bit(packed[name].weight.data.view(-1, 1), state))
        for name, weight in exact.named_parameters():
            if "quant" not in name and weight.shape == dict(model.named_parameters())[name].shape:
                weight.copy_(dict(model.named_parameters())[name])
    true = learned(exact)[1]
    plain = learned(model)[1]
    fuse_lora(model)
    found = learned(model)[1]
    theirs = [off(plain[n], t) for n, t in true.items()]
    ours = [off(found[n], t) for n, t in true.items()]
    assert max(theirs) < 0.2, "the reference is the same model"
    assert sum(ours) < 1.1 * sum(theirs) and max(ours) < 1.25 * max(theirs)


def test_no_whole_weight_is_kept_for_the_backward_pass(model_of: Callable[..., PeftModel]) -> None:
    model = model_of("nf4", "float32")
    shapes = {
        tuple(m.weight.quant_state.shape)
        for m in model.modules()
        if type(m).__name__ == "Linear4bit" and hasattr(m, "in_features") and hasattr(m.weight, "quant_state")
    }
    fuse_lora(model)
    kept: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(tuple(t.shape)) or t, lambda t: t):
        model(input_ids=IDS, labels=IDS, use_cache=False)
    assert kept and shapes and not {*kept} & (shapes | {s[::-1] for s in shapes})


def test_8_bits_keep_pefts_path_and_say_so(model_of: Callable[..., PeftModel]) -> None:
    notes = fuse_lora(model_of("int8", "float32"))
    assert notes[0].startswith("fused LoRA on 0 of") and "Linear8bitLt layers are not covered" in notes[1]


@pytest.mark.parametrize(("quantised", "precision"), [("nf4", "float32"), ("nf4", "bfloat16"), ("int8", "float32")])
def test_gates_are_lean_on_quantised_layers_too(model_of: Callable[..., PeftModel], quantised: str, precision: str):
    model = model_of(quantised, precision)
    assert fuse_pointwise(model) == [
        f"memory-saving gates in {model.config.num_hidden_layers} layers and 11 memory-saving norms"
    ]


def test_nothing_of_the_file_stays_in_use(model_of: Callable[..., PeftModel]) -> None:
    """A weight that is a view of the mapped file would keep all of it in memory, though most of it is quantised."""
    model = model_of("nf4", "float32")
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("the mappings of a process are read from /proc")
    lines = [line.split() for line in maps.read_text(encoding="utf-8").splitlines() if "stories260K" in line]
    mapped = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    weights = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    assert [n for n, at in weights.items() if any(start <= at < end for start, end in mapped)] == []
