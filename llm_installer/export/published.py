"""A base that is published quantised, written again with dequantised weights: an adapter can be merged onto those."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from llm_installer.core.adapter_info import INFO
from llm_installer.core.config import read_config
from llm_installer.core.errors import ModelError
from llm_installer.core.files import unwritable
from llm_installer.core.manifest import MANIFEST
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.paths import ModelDir
from llm_installer.core.quantisation import INSTEAD
from llm_installer.core.reading import reason
from llm_installer.export.folder import copy_companions, write_config
from llm_installer.export.receipt import TOLERANCES
from llm_installer.models.base import load_base
from llm_installer.models.from_files import without_weights
from llm_installer.models.quantise import STORED

SHARD = "5GB"


def adapter_in(copy: ModelDir) -> Path:
    """The adapter for a dequantised copy: its own description would say that it was made for another base."""
    return copy.root / "adapter"


def dequantise(info: ModelInfo, lora: Path, copy: ModelDir, precision: str) -> None:
    """Fill `copy` with the base, its weights dequantised in `precision`, and with the adapter for it.

    Raises ModelError where transformers cannot save such weights, InstallerError where the disk refuses.
    """
    model = load_base(info.path, precision, "cpu")
    if info.stored.kept:
        unpack(model, info.stored.kept)
    plain = without_weights(info.path)
    try:
        plain.load_state_dict(model.state_dict(), assign=True)
        plain.tie_weights()
        del model
        plain.save_pretrained(copy.weights, max_shard_size=SHARD)
        shutil.copytree(lora, adapter_in(copy), ignore=shutil.ignore_patterns(INFO, MANIFEST))
    except (RuntimeError, NotImplementedError) as error:
        raise ModelError(
            f"The weights of {info.name}, published in {info.stored.words}, cannot be written dequantised "
            f"({reason(error)}), so nothing can be merged into them; {INSTEAD}"
        ) from None
    except OSError as error:
        raise unwritable(copy.root, error) from None
    copy_companions(info.path, lora, copy.weights)
    write_config(info.path, copy.weights, precision, untied=False)


def unpack(model: nn.Module, kind: str) -> None:
    """Put plain layers with dequantised weights in the place of those that bitsandbytes holds in the way `kind`."""
    layers = [(name, each) for name, each in model.named_modules() if type(each).__name__ == STORED[kind]]
    for name, layer in layers:
        assert isinstance(layer, nn.Linear), "bitsandbytes' layers are"
        weight = _WAYS[kind](layer.weight)
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(weight.to(_dtype(model)), requires_grad=False)
        plain.bias = layer.bias
        model.set_submodule(name, plain)


def _dtype(model: nn.Module) -> torch.dtype:
    return next(p.dtype for p in model.parameters() if p.is_floating_point())


def _four_bits(weight: Tensor) -> Tensor:
    functional = import_module("bitsandbytes.functional")
    found: Tensor = functional.dequantize_4bit(weight.data, weight.quant_state)  # type: ignore[attr-defined]
    return found


def _eight_bits(weight: Tensor) -> Tensor:
    functional = import_module("bitsandbytes.functional")
    found: Tensor = functional.int8_vectorwise_dequant(weight.data, weight.SCB)  # type: ignore[attr-defined]
    return found


_WAYS = {"nf4": _four_bits, "int8": _eight_bits}


def usual_dtype(info: ModelInfo) -> str:
    """The type in which a model that is published quantised was made, by its config."""
    config = read_config(info.path)
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, dict) else {}):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) in TOLERANCES:
                return str(part[key])
    return "float32"
