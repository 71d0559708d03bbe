"""How the weights of a model are quantised, by its config.json: kept so, dequantised when loaded, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import valued
from llm_installer.core.text import shortened

INSTEAD = "install the model that it was made from, which --method qlora holds in 4 bits if memory is short"


@dataclass(frozen=True)
class Stored:
    """How the weights lie in the files of a model, and what becomes of them."""

    words: str = ""
    """The method, for people; empty where the weights are not quantised."""
    kept: str = ""
    """A name of planning.method.QUANTISED: the base stays quantised in this way."""
    bytes_each: float = 0.0
    """Of one weight in the files, with its share of the scales."""
    types: tuple[str, ...] = ()
    """The only model types that transformers can dequantise; empty for all."""


UNQUANTISED = Stored()
_FOUR_BITS, DOUBLE = 0.5 + 4 / 64, 0.516
"""Bytes of a weight in 4 bits: a scale in float32 for 64 of them, or one in 8 bits under double quantisation."""
STORED: dict[str, Stored] = {
    "bitsandbytes_4bit": Stored("bitsandbytes in 4 bits", "nf4", _FOUR_BITS),
    "bitsandbytes_8bit": Stored("bitsandbytes in 8 bits", "int8", 1.0),
    "fp8": Stored("fp8", "", 1.0),
    "mxfp8": Stored("mxfp8", "", 1.0),
    "mxfp4": Stored("mxfp4", "", 0.5, ("gpt_oss",)),
}
"""Methods that can be trained: kept as they are where `kept` names a way, else dequantised when they are loaded. Every
other method is refused."""

_NAMES = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fbgemm_fp8": "FBGEMM in fp8",
    "compressed-tensors": "compressed-tensors",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "mlx": "MLX",
    "modelopt": "ModelOpt",
}
"""How others are written; those that are not here are written as in the config."""


def stored_as(config: Mapping[str, object], shown: str) -> Stored:
    """How the weights of the model `shown` are stored, by its config.

    Raises ModelError, with what to do, for a method that cannot be trained.
    """
    settings = _settings(config)
    if settings is None:
        return UNQUANTISED
    method = _method(settings)
    if not isinstance(method, str):
        raise ModelError(
            f"quantization_config in the config.json of {shown} names no method (quant_method is {valued(method)}), so "
            f"nothing knows how to read its weights; {INSTEAD}"
        )
    found = STORED.get(method)
    if found and found.kept == "nf4" and settings.get("bnb_4bit_use_double_quant") is True:
        found = replace(found, bytes_each=DOUBLE)
    if found and (not found.types or str(config.get("model_type")) in found.types):
        return found
    raise refused(_NAMES.get(method, shortened(method, 40)), shown)


def refused(words: str, shown: str) -> ModelError:
    """The error for a model `shown` whose weights are quantised in a way that cannot be trained."""
    return ModelError(f"{shown} is quantised with {words}, and such weights cannot be trained here; {INSTEAD}")


def damaged(shown: str, why: str) -> ModelError:
    """The error for weights that are not quantised as the config says, or not as transformers can dequantise them."""
    return ModelError(f"The quantised weights of {shown} cannot be used ({why}); {INSTEAD}")


def settings_of(config: Mapping[str, object]) -> Mapping[str, object]:
    """What the config says of the method; empty for weights that are not quantised."""
    return _settings(config) or {}


def _settings(config: Mapping[str, object]) -> Mapping[str, object] | None:
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, dict) else {}):
        mlx = part.get("quantization")
        if isinstance(mlx, dict) and "bits" in mlx:
            return {"quant_method": "mlx"}
        found = part.get("quantization_config")
        if isinstance(found, dict):
            return found
        if isinstance(part.get("compression_config"), dict):  # its name before 2024
            return {"quant_method": "compressed-tensors"}
    return None


def _method(settings: Mapping[str, object]) -> object:
    """The name under which transformers knows it; that of bitsandbytes depends on the bits."""
    for bits in ("4bit", "8bit"):
        if settings.get(f"load_in_{bits}") is True:
            return f"bitsandbytes_{bits}"
    return settings.get("quant_method")
