"""Names of adapted layers where PEFT has other plans for them: it takes some for experts that transformers has fused.

In models such as GLM-4.5 and DeepSeek-V3, PEFT 0.21 reads the names gate_proj, up_proj and down_proj, and with them
all-linear, as those of routed experts, and a layer that really has such a name (of a dense MLP, of shared experts)
cannot be adapted by it. Here a name is the layer that has it. In the adapter's files such a layer stands among the
`target_parameters`, as its weight, which PEFT takes as it is: the tensors are the same, under the same names.
Delete when PEFT leaves names alone that a layer has.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer, ParamWrapper
from peft.utils import transformers_weight_conversion as conversion
from torch import nn

_CONVERT = "convert_peft_config_for_transformers"
_WEIGHT = ".weight"


@contextmanager
def names_as_given() -> Iterator[None]:
    """While PEFT puts an adapter on a model, a name is that of a layer."""
    before = getattr(conversion, _CONVERT)
    setattr(conversion, _CONVERT, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        setattr(conversion, _CONVERT, before)


def config_for_files(model: PeftModel) -> LoraConfig:
    """The config of the adapter as PEFT reads it right."""
    config = copy.deepcopy(model.peft_config["default"])
    assert isinstance(config, LoraConfig)
    if isinstance(config.target_modules, str) or config.target_modules is None:
        return config
    read = copy.deepcopy(config)
    # PEFT may refuse half of a pair that it takes for fused; each name by itself is never a complete pair.
    taken = {name for name in config.target_modules if _is_taken(read, name, model.get_base_model())}
    if not taken:
        return config
    layers = [
        name
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper) and _matches(name, taken)
    ]
    config.target_modules = sorted(set(config.target_modules) - taken)
    config.target_parameters = sorted({*(config.target_parameters or ()), *(name + _WEIGHT for name in layers)})
    config.rank_pattern = _with_weights(config.rank_pattern)
    config.alpha_pattern = _with_weights(config.alpha_pattern)
    return config


def config_from_files(folder: Path, model: nn.Module) -> LoraConfig | None:
    """The config of an adapter whose files name layers by their weights, with their names; None for every other."""
    config = LoraConfig.from_pretrained(str(folder))
    if not isinstance(config, LoraConfig):
        return None
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    weights = {name for name in config.target_parameters or () if name.removesuffix(_WEIGHT) in linear}
    if not weights or isinstance(config.target_modules, str):
        return None
    names = (name.removesuffix(_WEIGHT) for name in weights)
    config.target_modules = sorted({*(config.target_modules or ()), *names})
    config.target_parameters = sorted(set(config.target_parameters or ()) - weights)
    config.rank_pattern = _without_weights(config.rank_pattern)
    config.alpha_pattern = _without_weights(config.alpha_pattern)
    return config


def _is_taken(config: LoraConfig, name: str, model: nn.Module) -> bool:
    """Whether PEFT takes this name for something else than the layer that has it."""
    config.target_modules, config.target_parameters = [name], None
    try:
        getattr(conversion, _CONVERT)(config, model=model, conversions=None)
    except ValueError:
        return True
    return set(config.target_modules or ()) != {name}


def _matches(layer: str, names: set[str]) -> bool:
    return any(f".{layer}".endswith(f".{name}") for name in names)


def _with_weights(pattern: dict[str, int] | None) -> dict[str, int]:
    """A pattern that finds the weight of a layer as well as the layer."""
    found = pattern or {}
    return {**found, **{f"{name}{_WEIGHT}": value for name, value in found.items()}}


def _without_weights(pattern: dict[str, int] | None) -> dict[str, int]:
    return {name: value for name, value in (pattern or {}).items() if not name.endswith(_WEIGHT)}
