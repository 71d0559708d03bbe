"""A base in 4 or 8 bits: whether bitsandbytes is there, what transformers is told, and what is checked afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from llm_installer.core.errors import ModelError, TrainingError
from llm_installer.core.hints import pip
from llm_installer.core.text import counted
from llm_installer.planning.layers import FLOAT8_MULTIPLE
from llm_installer.planning.method import FLOAT8, Method
from llm_installer.planning.optimizers import BITSANDBYTES, OPTIMIZERS

_REPACKS = "support_avx512bf16_for_cpu"
_COMPUTES = "compute_dtype"
_FOUR_BITS = ("bitsandbytes.nn.modules", "Linear4bit")
"""Module and class; compared by name, so that nothing imports bitsandbytes where no base is quantised."""
STORED = {"nf4": "Linear4bit", "int8": "Linear8bitLt", FLOAT8: "Float8Linear"}
"""The class a linear layer has afterwards."""


def check_ready(method: Method) -> None:
    """Raise TrainingError when the method needs bitsandbytes and that cannot be used; before a weight is loaded."""
    if OPTIMIZERS[method.optimizer].library == BITSANDBYTES:
        _import_bitsandbytes(f"--optimizer {method.optimizer}")
    if method.quantised in _CONFIGS:
        _import_bitsandbytes("a quantised base")


def is_four_bit(layer: nn.Module) -> bool:
    """Whether this layer holds its weight in 4 bits."""
    return (type(layer).__module__, type(layer).__name__) == _FOUR_BITS


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _int8(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]


_CONFIGS: dict[str, Callable[[torch.dtype], BitsAndBytesConfig]] = {"nf4": _nf4, "int8": _int8}


def quantising(name: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What from_pretrained is told: nothing where bitsandbytes has no part in it. Embeddings and output layer are not
    quantised."""
    return _CONFIGS[name](dtype) if name in _CONFIGS else None


def settle_quantised(model: PreTrainedModel, name: str, dtype: torch.dtype) -> None:
    """Make sure that the layers really are quantised, compute in `dtype`, and stay usable for training.

    On CPUs with bfloat16 instructions bitsandbytes repacks 4-bit weights at the first evaluation for a product that has
    no gradient, and that refuses sizes which are not multiples of 32 and 64; training would continue without the base's
    gradient and say nothing. That repacking is switched off. Raises ModelError when no layer could be quantised.
    Delete the switch when bitsandbytes' gemm_4bit has a gradient on CPUs (0.50 has none).
    """
    layers = [m for m in model.modules() if type(m).__name__ == STORED[name]]
    if not layers:
        raise ModelError(
            f"No layer of {type(model).__name__} can be quantised; train it without --use-4bit and --use-8bit"
        )
    for layer in layers:
        setattr(layer, _REPACKS, False)
        if is_four_bit(layer):
            # What was quantised elsewhere names the type that was best there.
            setattr(layer, _COMPUTES, dtype)
    leave_file(model)


def leave_file(model: PreTrainedModel) -> None:
    """Copy what is not quantised out of the file on a CPU, which stays mapped as long as one tensor of it is used."""
    for weight in model.parameters():
        if weight.is_floating_point() and weight.device.type == "cpu":
            weight.data = weight.data.clone()


def unquantised_line(model: nn.Module, published: bool = False, float8: bool = False) -> str:
    """Which weights are not quantised, besides embeddings and output layer; empty where there are none.

    `published` says that whoever made the files chose them, `float8` that the others are held in it.
    """
    found = unquantised(model)
    if not found:
        return ""
    names = ", ".join(f"{name} ({counted(count, 'weight')})" for name, count in found.items())
    if float8:
        return f"Not in float8, which takes linear layers with widths in multiples of {FLOAT8_MULTIPLE}: {names}."
    why = "as the model is published" if published else "because they are not plain linear layers"
    return f"Not quantised, {why}: {names}."


def unquantised(model: nn.Module) -> dict[str, int]:
    """Names of the weights that are not quantised, without those that never are, and how many numbers each has.

    Numbers in a name are taken out, so that equal parts of different layers count as one.
    """
    kept = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    output = model.get_output_embeddings()  # type: ignore[operator]
    kept |= {id(p) for p in output.parameters()} if output is not None else set()
    found: dict[str, int] = {}
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.ndim > 1 and id(weight) not in kept:
            general = ".".join(part for part in name.split(".") if not part.isdigit()).removesuffix(".weight")
            found[general] = found.get(general, 0) + weight.numel()
    return found


def _import_bitsandbytes(wanted: str) -> None:
    """Import it without its remarks about kernels it could download. Raises TrainingError where it cannot be used."""
    logging.getLogger(BITSANDBYTES).setLevel(logging.ERROR)
    try:
        import_module("bitsandbytes.nn")
        import_module("bitsandbytes.optim")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"bitsandbytes, which {wanted} needs, cannot be used here ({first}); "
            f"install it with {pip(BITSANDBYTES)}, or leave that out"
        ) from None
