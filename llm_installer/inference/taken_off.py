"""A base without its adapter again, as it was before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel


@torch.no_grad()
def taken_off(model: PeftModel, biases: Mapping[str, Tensor]) -> PreTrainedModel:
    """The base as it was before; `biases` are those it had, which an adapter with biases has written over. Of layers
    that an adapter brings itself PEFT would leave the adapter's in the base."""
    own = {
        name: cast(nn.Module, module.original_module)
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    }
    unload = getattr(model.base_model, "unload", None)
    base = cast(PreTrainedModel, unload() if unload else model.get_base_model())
    for name, module in own.items():
        base.set_submodule(name, module)
    for name, value in base.named_parameters():
        if name in biases:
            value.copy_(biases[name])
    base.eval()  # type: ignore[no-untyped-call]
    return base
