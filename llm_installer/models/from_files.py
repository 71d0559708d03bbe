"""A model from the files of its folder, and what of it they lack: transformers fills that with random numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils import logging

from llm_installer.core.config import CONFIG, GENERATION, read_config, zero_sizes
from llm_installer.core.dequantised import UNSHAPED, dequantised
from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import AGAIN
from llm_installer.core.quantisation import settings_of, stored_as
from llm_installer.core.reading import reading
from llm_installer.core.text import counted, short_path, shortened
from llm_installer.core.weight_files import read_headers

Auto: TypeAlias = "type[AutoModelForCausalLM | AutoModelForImageTextToText]"
_MOST = 30_000
"""Tensors that are compared before a model is loaded, in about ten seconds."""
_CONVERSION = "during automatic conversion of the weights"
"""What transformers says where it cannot fuse tensors of the files into one of the model."""
_FLASH = "flash_attention"
"""How attentions are named that need a package beside torch: whoever saved the model had it; others do the same."""
_NAMED = 3
"""How many missing tensors a sentence names."""


class _Found(TypedDict):
    missing_keys: set[str]
    unexpected_keys: set[str]
    mismatched_keys: set[tuple[str, Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class FromFiles:
    """A model, and where it and its files differ."""

    model: PreTrainedModel
    missing: frozenset[str]
    """Tensors that the model needs and the files lack; tied ones are not missing."""
    unexpected: frozenset[str]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """Tensors with their shape in the files, and the one that the model needs."""


def check_weights(folder: Path) -> None:
    """Raise ModelError unless the headers name every tensor that the architecture needs. No weight is read.

    Files without headers (.bin), those of very many tensors, and quantised weights whose shapes are not known are only
    checked when they are loaded.
    """
    shown = short_path(folder)
    headers = dequantised(folder, read_headers(folder), stored_as(read_config(folder), shown), shown)
    if not 0 < len(headers) <= _MOST or any(t.dtype == UNSHAPED for t in headers.values()):
        return
    if gaps := _gaps(headers):
        raise ModelError(f"{shown} lacks {counted(len(gaps), 'tensor')}: {_named(gaps)}; {AGAIN}")
    empty = {name: torch.empty(tensor.shape, device="meta") for name, tensor in headers.items()}
    made = without_weights(folder)
    with _reading(folder), _quiet():
        found = _loaded(type(made), None, config=made.config, state_dict=empty, device_map={"": "meta"})
    refuse_missing(found, shown)


def without_weights(folder: Path) -> PreTrainedModel:
    """The model in a folder on torch's meta device, which holds shapes alone.

    Raises ModelError where it cannot be made.
    """
    with _reading(folder, shapes=True), _quiet(), torch.device("meta"):
        config = _unquantised(_config(folder))
        made: PreTrainedModel = _auto(config).from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        return made


def from_files(folder: Path, dequantise: bool = False, **more: object) -> FromFiles:
    """The model in a folder as transformers loads it, its weights dequantised if so asked; `more` goes to its
    from_pretrained.

    Raises ModelError where it cannot be loaded.
    """
    with _reading(folder), _quiet():
        config = more["config"] = _config(folder)
        if dequantise:
            settings = dict(settings_of(read_config(folder))) | {"dequantize": True}
            more["config"] = _with_quantisation(config, settings)
        return _loaded(_auto(config), folder, **more)


def _loaded(maker: type[PreTrainedModel] | Auto, folder: Path | None, **more: object) -> FromFiles:
    """Raises ValueError where parts of one tensor, such as the experts of a layer, cannot be put together."""
    make: Callable[..., tuple[PreTrainedModel, _Found]] = maker.from_pretrained  # type: ignore[assignment]
    try:
        model, found = make(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **more,
        )
    except RuntimeError as error:
        if _CONVERSION not in str(error):
            raise
        raise ValueError(
            f"parts of its weights, such as the experts of a layer, are missing or do not go together; {AGAIN}"
        ) from None
    return FromFiles(
        model,
        frozenset(found["missing_keys"]),
        frozenset(found["unexpected_keys"]),
        tuple(sorted((name, tuple(has), tuple(needs)) for name, has, needs in found["mismatched_keys"])),
    )


def refuse_missing(found: FromFiles, shown: str) -> None:
    """Raise ModelError, by name, where the files of the folder `shown` lack tensors or have them in another shape."""
    needs = f"{type(found.model).__name__} needs"
    if found.missing:
        total = counted(len(found.model.state_dict()), "tensor")
        prefix = _prefix(found.missing, found.unexpected)
        why = f"; those in its files begin with {prefix}" if prefix else ""
        raise ModelError(
            f"{shown} lacks {len(found.missing):,} of the {total} that {needs}: {_named(found.missing)}{why}; {AGAIN}"
        )
    if found.misshapen:
        name, has, wanted = min(found.misshapen, key=lambda each: 0 not in each[2])
        why = _why_nothing(found.model.config) if 0 in wanted else ""
        raise ModelError(
            f"{shown} does not fit its config.json: {shortened(name, 100)} has the shape {_shape(has)}, and {needs} "
            f"{_shape(wanted)}{why}; {AGAIN}"
        )


def _why_nothing(config: PretrainedConfig) -> str:
    """Which fields of a config make a weight as large as nothing."""
    zeros = zero_sizes(config.to_diff_dict())
    return f", since {shortened(' and '.join(zeros), 100)} {'is' if len(zeros) == 1 else 'are'} 0" if zeros else ""


def refuse_not_numbers(model: PreTrainedModel, shown: str) -> None:
    """Raise ModelError where a weight of the base in the folder `shown` is not a finite number."""
    for name, weight in model.named_parameters():
        if not is_finite(weight):
            raise ModelError(f"The base model {shown} is damaged: {name} holds values that are not numbers; {AGAIN}")


def is_finite(weight: torch.Tensor) -> bool:
    """Whether every value of a tensor is a finite number; others than floating ones always are."""
    if not weight.is_floating_point() or not weight.numel() or weight.device.type == "meta":
        return True
    # Smallest and largest in one pass without a copy; both are NaN where any value is.
    return all(bool(torch.isfinite(end)) for end in torch.aminmax(weight.detach()))


def _reading(folder: Path, shapes: bool = False) -> reading:
    return reading(f"The model in {short_path(folder)}", files=(folder / CONFIG, folder / GENERATION), shapes=shapes)


def _config(folder: Path) -> PretrainedConfig:
    config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    parts = (config, *(getattr(config, name, None) for name in config.sub_configs))
    if any(str(getattr(part, "_attn_implementation", "")).startswith(_FLASH) for part in parts):
        config._attn_implementation = None  # transformers chooses one that is here
    return config


def _unquantised(config: PretrainedConfig) -> PretrainedConfig:
    for part in (config, config.get_text_config(decoder=True)):
        vars(part).pop("quantization_config", None)
    return config


def _with_quantisation(config: PretrainedConfig, settings: dict[str, object]) -> PretrainedConfig:
    _unquantised(config).quantization_config = settings
    return config


def _auto(config: PretrainedConfig) -> Auto:
    """The class that loads this model with all its parts: with its vision tower, where it has one."""
    sees = hasattr(config, "vision_config") and config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no report of what differs or is as large as nothing: `refuse_missing` says that."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            yield
    finally:
        logging.set_verbosity(before)


def _gaps(names: Collection[str]) -> set[str]:
    """Experts that are missing where the same layer has others, whose weights are fused: by their names alone."""
    held: dict[tuple[str, str], set[int]] = {}
    for name in names:
        before, found, after = name.partition(".experts.")
        number, _, rest = after.partition(".")
        if found and number.isdecimal():
            held.setdefault((before, rest), set()).add(int(number))
    most: dict[str, int] = {}
    for (before, _), numbers in held.items():
        most[before] = max(most.get(before, 0), *numbers)
    return {
        f"{before}.experts.{number}.{rest}"
        for (before, rest), numbers in held.items()
        for number in set(range(min(most[before], _MOST) + 1)) - numbers
    }


def _prefix(missing: Collection[str], unexpected: Collection[str]) -> str:
    """What stands before the names of missing tensors in the files, where all of them are there under other names."""
    for some in sorted(missing):
        for name in sorted(unexpected):
            if name.endswith(f".{some}"):
                prefix = name.removesuffix(some)
                # The head of a tied model stands under no name.
                return prefix if len({prefix + each for each in missing} - set(unexpected)) <= 1 else ""
    return ""


def _named(names: Collection[str]) -> str:
    shown = [shortened(name, 100) for name in sorted(names)[:_NAMED]]
    return ", ".join(shown) + (" and others" if len(names) > _NAMED else "")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "of one number"
