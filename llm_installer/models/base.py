"""The base model with a fresh LoRA on it, on its device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from llm_installer.core.config import read_config
from llm_installer.core.errors import ModelError
from llm_installer.core.handler import ALL_LINEAR, EXPERTS
from llm_installer.core.quantisation import stored_as
from llm_installer.core.text import short_path
from llm_installer.models.float8 import hold_in_float8
from llm_installer.models.from_files import from_files, refuse_missing, refuse_not_numbers
from llm_installer.models.init_lora import INITIALISERS, initialise_from_weights
from llm_installer.models.peft_names import names_as_given
from llm_installer.models.quantise import leave_file, quantising, settle_quantised
from llm_installer.models.targets import Targets, choose_targets
from llm_installer.planning.method import FLOAT8, Method
from llm_installer.planning.plan import Plan

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Device: TypeAlias = "torch.device | str"
Copy: TypeAlias = "Callable[[Tensor, Device], Tensor]"
"""Brings a tensor to a device."""
Array: TypeAlias = "npt.NDArray[np.generic]"


def load_base(folder: Path, dtype: str, device: str, quantised: str = "") -> PreTrainedModel:
    """The frozen base model, quantised if so named, or as its files are; dequantised where they cannot be trained on.

    Raises ModelError when transformers cannot load it, a weight is missing or of the wrong shape, or is no number.
    """
    stored = stored_as(read_config(folder), short_path(folder))
    quantised = stored.kept or quantised
    # Even a None would take the place of the config's own.
    wish = {"quantization_config": quantising(quantised, DTYPES[dtype])} if quantised and not stored.kept else {}
    dequantise = bool(stored.words) and not stored.kept
    # What is rounded here comes from main memory layer by layer: a GPU never holds all of it unrounded.
    there = "cpu" if quantised == FLOAT8 else device
    found = from_files(folder, dequantise, dtype=DTYPES[dtype], device_map={"": there}, **wish)
    refuse_missing(found, short_path(folder))
    model = found.model
    refuse_not_numbers(model, short_path(folder))
    if quantised == FLOAT8:
        hold_in_float8(model, device, prefix=decoder_prefix(model))
        leave_file(model)
    elif quantised:
        settle_quantised(model, quantised, DTYPES[dtype])
    model.config.use_cache = False
    return model.requires_grad_(False)


def to_device(data: Tensor, device: Device) -> Tensor:
    """The same on the device."""
    return data.to(device)


def model_inputs(
    arrays: Mapping[str, Array], device: Device, dtype: torch.dtype, copy: Copy = to_device
) -> dict[str, Tensor]:
    """Arrays as the model takes them: on its device, fractions in its precision. `copy` brings them to the device."""
    tensors = {name: copy(torch.from_numpy(array), device) for name, array in arrays.items()}
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def add_lora(model: PreTrainedModel, plan: Plan) -> PeftModel:
    """Wrap the base with float32 adapters, initialised as the plan says: usually A random from the seed, and B zero.

    Raises ModelError where no layer matches, or PEFT refuses one.
    """
    model_with_lora = adapted(model, plan)
    if plan.method.init in INITIALISERS:
        initialise_from_weights(model_with_lora, plan.method.init)
    return model_with_lora


def as_stored(alpha: float) -> float:
    """A whole number as such: some programs that read adapter_config.json take no 16.0."""
    return int(alpha) if alpha == int(alpha) else alpha


def adapted(model: PreTrainedModel, plan: Plan) -> PeftModel:
    """The same before an initialisation that looks at the weights: a model that has none will do."""
    prefix = decoder_prefix(model)
    chosen = choose_targets(model, plan.target_modules, prefix)
    check_patterns((*chosen.layers, *chosen.experts), plan.method)
    torch.manual_seed(plan.seed)
    method = plan.method
    config = LoraConfig(
        r=plan.lora_r,
        lora_alpha=as_stored(plan.lora_alpha),  # type: ignore[arg-type]  # peft divides by r; a fraction is fine
        lora_dropout=plan.lora_dropout,
        target_modules=_names(chosen, plan.target_modules),
        target_parameters=sorted({".".join(name.split(".")[-3:]) for name in chosen.experts}) or None,
        exclude_modules=rf"(?!{re.escape(prefix)}).*" if prefix else None,
        fan_in_fan_out=plan.fan_in_fan_out,
        task_type="CAUSAL_LM",
        use_rslora=method.rslora,
        use_dora=method.dora,
        init_lora_weights="gaussian" if method.init == "gaussian" else True,
        rank_pattern=dict(method.rank_pattern),
        alpha_pattern=dict(method.alpha_pattern),
    )
    try:
        with names_as_given():
            made = get_peft_model(model, config)
    except ValueError as error:  # peft refuses some layers by name, such as Mamba's out_proj
        raise ModelError(
            f"PEFT refuses these layers ({first_line(error)}); choose others with --target-modules a,b"
        ) from None
    assert isinstance(made, PeftModel)
    return made


def _names(chosen: Targets, wanted: tuple[str, ...]) -> str | list[str]:
    """The adapted layers as PEFT is told: as they were asked for, where that means the same to it."""
    names = [name for name in wanted if name != EXPERTS]
    if names == list(ALL_LINEAR):
        plain = not (chosen.routers or chosen.refused or chosen.bypassed or chosen.has_experts)
        return ALL_LINEAR[0] if plain else list(chosen.layers)
    apart = EXPERTS in wanted and not chosen.experts
    return list(chosen.layers) if apart else names


def check_patterns(layers: Iterable[str], method: Method) -> None:
    """Raise ModelError when --rank-pattern or --alpha-pattern names no adapted layer: it would silently do nothing."""
    names = tuple(layers)
    for flag, pattern in (("--rank-pattern", method.rank_pattern), ("--alpha-pattern", method.alpha_pattern)):
        for wanted, _ in pattern:
            if not any(f".{name}".endswith(f".{wanted}") for name in names):
                leaves = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
                raise ModelError(f"{flag} names {wanted}, which gets no LoRA here; choose among {leaves}")


def decoder_prefix(model: PreTrainedModel) -> str:
    """The name of the language decoder of a model that has towers beside it, with a dot; text must not train those."""
    if not hasattr(model.config, "vision_config"):
        return ""
    decoder = model.get_decoder()  # type: ignore[no-untyped-call]
    name = next((n for n, module in model.named_modules() if module is decoder), "")
    return f"{name}." if name else ""


def first_line(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).splitlines() or ["unknown reason"])[0]
