"""What an adapter does to each parameter of its base, as PEFT itself reads its files: on a model without weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Embedding, Linear, LoraLayer, ParamWrapper
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_installer.core.adapter_info import CONFIG
from llm_installer.core.errors import AdapterError
from llm_installer.core.json_file import read_object
from llm_installer.core.reading import reading, reason
from llm_installer.core.text import short_path, shortened
from llm_installer.export.changes import Added, Change, Dora, LowRank, Replaced, SomeRows
from llm_installer.models.peft_names import config_from_files, names_as_given

ADAPTER = "default"
"""What PEFT calls the adapter in a model."""
_WRAPPERS = ("base_layer", "original_module", "token_adapter")
"""Parts of names that PEFT adds to those of the base."""
_MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations with which PEFT changes the base's weights when it loads the adapter."""
_OTHER_METHODS = (
    "alora_invocation_tokens", "arrow_config", "bdlora_config", "kasa_config", "monteclora_config", "use_qalora",
)  # fmt: skip


@dataclass
class _Found:
    """What was found in an adapter so far."""

    values: dict[str, Tensor]
    """The tensors of the base as PEFT names them; on the meta device where the adapter does not bring them."""
    shown: str
    """The adapter, for a sentence."""
    changes: dict[str, list[Change]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def take(self, name: str) -> Tensor:
        """A tensor of the adapter, which is used by that. Raises AdapterError where the adapter lacks it."""
        value = self.values[name]
        if value.device.type == "meta":
            lacks = shortened(name.replace(f".{ADAPTER}", ""), 150)
            raise AdapterError(f"{self.shown} is incomplete: {lacks} is missing")
        self.used.add(name)
        return value

    def add(self, parameter: str, change: Change) -> None:
        """The next thing that is done to a parameter of the base."""
        self.changes.setdefault(parameter, []).append(change)


def read_changes(bare: PreTrainedModel, lora: Path) -> dict[str, list[Change]]:
    """What the adapter in `lora` does, by the names of `bare`'s parameters; PEFT's layers are put on `bare`.

    Raises AdapterError for an adapter of another kind than LoRA and for one that does not fit the model; each of its
    tensors is used, else it is named.
    """
    shown = f"The adapter {short_path(lora)}"
    config = _config(bare, lora, shown)
    tensors = _plain_names(load_peft_weights(str(lora), device="cpu"))

    def refuse(why: str) -> AdapterError:
        return AdapterError(f"{shown} does not fit its base ({why}); choose another with --lora or --run")

    named = config_from_files(lora, bare) is not None
    try:
        with warnings.catch_warnings(), reading("it", refuse, (lora / CONFIG,), "PEFT"):
            warnings.simplefilter("ignore")
            with names_as_given() if named else nullcontext(), torch.device("meta"):
                model = get_peft_model(bare, config)
            assert isinstance(model, PeftModel)
            with _assigning(model):
                unexpected = _loaded(model, tensors)
    except KeyError as error:
        raise refuse(f"it lacks {shortened(str(error.args[0]), 150)}") from None
    except RuntimeError as error:
        raise refuse(reason(error)) from None
    _refuse_left(unexpected, shown)
    return _changes(model, shown)


def _config(bare: PreTrainedModel, lora: Path, shown: str) -> LoraConfig:
    kind = read_object(lora / CONFIG).get("peft_type")
    if kind != "LORA":
        raise AdapterError(f"{shown} is of the kind {shortened(str(kind), 40)}, and only LoRA can be merged")
    config = config_from_files(lora, bare) or LoraConfig.from_pretrained(str(lora))
    assert isinstance(config, LoraConfig)
    init = str(config.init_lora_weights).lower()
    if init.startswith(_MOVES_BASE):
        raise AdapterError(
            f"{shown} belongs to a base that its initialisation ({init}) has changed, and cannot be merged into the "
            "published one; save it with path_initial_model_for_weight_conversion of PEFT"
        )
    other = next((name for name in _OTHER_METHODS if getattr(config, name, None)), "")
    if other:
        raise AdapterError(f"{shown} uses {other}, which cannot be merged")
    config.init_lora_weights, config.inference_mode, config.lora_dropout = True, True, 0.0
    return config


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names without that of the adapter, which some programs leave in them."""
    plain = {name: f"{name}.".replace(f".{ADAPTER}.", ".").removesuffix(".") for name in tensors}
    return {name if plain[name] in tensors else plain[name]: tensor for name, tensor in tensors.items()}


def _loaded(model: PeftModel, tensors: dict[str, Tensor]) -> list[str]:
    """Give the adapter in the model these tensors. Returns the names that nothing in it takes."""
    result: tuple[list[str], list[str]] = set_peft_model_state_dict(model, tensors)
    return sorted(result[1])


@contextmanager
def _assigning(model: nn.Module) -> Iterator[None]:
    """What is loaded meanwhile takes the place of tensors without content, instead of being copied into them."""
    load = model.load_state_dict
    setattr(model, "load_state_dict", lambda state, strict: load(state, strict=strict, assign=True))  # noqa: B010
    try:
        yield
    finally:
        delattr(model, "load_state_dict")


def _refuse_left(names: list[str], shown: str) -> None:
    """Raise AdapterError where something of the adapter would not be in the merged model."""
    if names:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        name = f"{names[0]}.".replace(f".{ADAPTER}.", ".").removesuffix(".")
        raise AdapterError(
            f"{shown} holds {shortened(name, 150)}{more}, which nothing in its base takes; it is not merged"
        )


def _changes(model: PeftModel, shown: str) -> dict[str, list[Change]]:
    base = model.get_base_model()
    found = _Found(base.state_dict(), shown)
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer) and ADAPTER in module.scaling:
            _of_layer(found, name, module)
        elif isinstance(module, ModulesToSaveWrapper):
            for each, _ in module.modules_to_save[ADAPTER].named_parameters():
                value = found.take(f"{name}.modules_to_save.{ADAPTER}.{each}")
                found.add(f"{_plain(name)}.{each}", Replaced(value))
        elif isinstance(module, TrainableTokensWrapper):
            numbers = torch.tensor(module.token_adapter.token_indices[ADAPTER])
            # A tied layer has no tensor of its own: the same object holds those of both.
            values = module.token_adapter.trainable_tokens_delta[ADAPTER].detach()
            own = f"{name}.token_adapter.trainable_tokens_delta.{ADAPTER}"
            found.add(f"{_plain(name)}.weight", SomeRows(numbers, found.take(own) if own in found.values else values))
    _add_trained_of_base(found)
    brought = {name for name, value in found.values.items() if value.device.type != "meta"}
    _refuse_left(sorted(brought - found.used), shown)
    return found.changes


def _of_layer(found: _Found, name: str, layer: LoraLayer) -> None:
    """What the LoRA of one layer does to its weight, and to its bias."""
    scale, plain = float(layer.scaling[ADAPTER]), _plain(name)
    if isinstance(layer, ParamWrapper):
        a, b = (found.take(f"{name}.lora_{half}.{ADAPTER}.weight") for half in "AB")
        found.add(f"{plain}.{layer.parameter_name}", _of_experts(layer, a, b, scale))
        return
    by_row = isinstance(layer, Linear) and not layer.fan_in_fan_out
    if isinstance(layer, Embedding):
        a, b = (found.take(f"{name}.lora_embedding_{half}.{ADAPTER}") for half in "AB")
    elif isinstance(layer, Linear):
        a, b = (found.take(f"{name}.lora_{half}.{ADAPTER}.weight") for half in "AB")
    else:
        raise AdapterError(f"{found.shown} adapts {shortened(plain, 100)}, a layer of a kind that cannot be merged")
    low = LowRank(b, a, scale) if by_row else LowRank(a.T, b.T, scale)
    if layer.use_dora.get(ADAPTER):
        lengths = found.take(f"{name}.lora_magnitude_vector.{ADAPTER}.weight")
        found.add(f"{plain}.weight", Dora(low, lengths.flatten(), by_row))
    else:
        found.add(f"{plain}.weight", low)
    if layer.lora_bias.get(ADAPTER):
        found.add(f"{plain}.bias", Added(found.take(f"{name}.lora_B.{ADAPTER}.bias"), scale))


def _of_experts(layer: ParamWrapper, a: Tensor, b: Tensor, scale: float) -> LowRank:
    """The product for each expert of a block, or for a weight that is adapted as a parameter."""
    count = int(layer.num_experts)
    if layer._param_ndim == 2:
        return LowRank(b, a, scale)
    right = a.reshape(count, -1, a.shape[-1])  # [experts, rank, in]
    left = b.reshape(b.shape[0], -1, count).permute(2, 0, 1)  # [experts, out, rank]
    if getattr(layer.get_base_layer(), "is_transposed", False):
        return LowRank(right.transpose(1, 2), left.transpose(1, 2), scale)
    return LowRank(left, right, scale)


def _add_trained_of_base(found: _Found) -> None:
    """Tensors of the base itself that the adapter brings, such as biases: they come before what is added to them."""
    for name, value in found.values.items():
        if value.device.type != "meta" and name not in found.used and ".lora_" not in name:
            parameter = _plain(name)
            found.changes[parameter] = [Replaced(found.take(name)), *found.changes.get(parameter, [])]


def _plain(name: str) -> str:
    """The name in the base of a module or parameter, without the parts that PEFT has put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
