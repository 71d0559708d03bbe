"""A model may change the output of a fast layer in place, as Llama 4 adds its routed experts to the shared one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from llm_installer.training.fast.lora import fuse_lora
from llm_installer.training.fast.norms import norm_forward


def _lora() -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(nn.Linear(8, 4)), LoraConfig(target_modules=["0"]))
    nn.init.normal_(model.get_parameter("base_model.model.0.lora_B.default.weight"))
    assert fuse_lora(model) == ["fused LoRA on 1 of 1 layers"]
    return model.forward


def _norm() -> Callable[[Tensor], Tensor]:
    found = norm_forward(LlamaRMSNorm(8).requires_grad_(False), None)
    assert found
    return found


@pytest.mark.parametrize("make", [_lora, _norm])
@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 8)])
def test_the_output_can_be_added_to_in_place(
    make: Callable[[], Callable[[Tensor], Tensor]], shape: tuple[int, ...]
) -> None:
    layer, x = make(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for add in (torch.Tensor.add, torch.Tensor.add_):
        leaf = x.clone().requires_grad_()
        add(layer(leaf), 1.0).square().sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
