"""Whether an adapter is complete and made for this base, found out from its files alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from llm_installer.core.config import read_config
from llm_installer.core.errors import AdapterError, ModelError
from llm_installer.core.json_file import read_object, valued
from llm_installer.core.manifest import MANIFEST, damage
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir
from llm_installer.core.patterns import is_quick
from llm_installer.core.safetensors import TensorHeader, read_header
from llm_installer.core.text import short_path, shortened
from llm_installer.core.weight_files import read_headers

INFO = "adapter_info.json"
CONFIG = "adapter_config.json"
Stamp = tuple[int, int, int]
"""Changes when a file does: when it was written, its size and its number."""
WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
AGAIN = "copy it again from where it was made"

_VOCABULARY = ("lm_head", "embed_out", "embed_tokens", "wte")
"""Layers that have a row for each token."""
_OF_PEFT = "base_model.model."
"""How PEFT begins the names of an adapter's tensors."""
_NUMBERS = ("F64", "F32", "F16", "BF16")
"""Types of weights that lie in files as they are."""
_LONGEST = 5000
"""Characters of a name, or of a pattern that PEFT compares with the name of each layer."""
_Rule: TypeAlias = "tuple[Callable[[object], bool], str]"


@dataclass(frozen=True)
class AdapterInfo:
    """What chat needs to know of an adapter's origin; the defaults stand for an adapter made elsewhere."""

    style: str = ""
    """`chat` or `text`; empty where it is unknown."""
    quantised: str = ""
    """How the base was quantised in training: a name of planning.method.QUANTISED, or empty."""
    thoughts: bool = False
    """Whether most of what it learned begins with a thought."""
    best_step: int = 0
    base_loss: float | None = None
    best_loss: float | None = None
    merged: str = ""
    """Of a merged model what it was made of, in words; else empty."""


def read_adapter_info(lora: Path, folder: ModelDir) -> AdapterInfo:
    """An adapter's own description, checked against the base in `folder`.

    Raises AdapterError when files are missing, damaged or not what was written, or the adapter was made for another
    base.
    """
    shown = short_path(lora)
    weights = any((lora / name).is_file() for name in WEIGHT_NAMES)
    if not weights or not (lora / CONFIG).is_file():
        raise AdapterError(f"The adapter {shown} is incomplete: {CONFIG if weights else WEIGHT_NAMES[0]} is missing")
    if (lora / MANIFEST).is_file() and (wrong := damage(lora)):
        raise AdapterError(f"The adapter {shown} is damaged: {wrong}")
    about = _checked(lora / INFO, _INFO_FIELDS) if (lora / INFO).is_file() else {}
    base = about.get("base_model")
    if isinstance(base, dict) and base and base.get("fingerprint") != fingerprint(folder.weights):
        raise AdapterError(
            f"The adapter {shown} was made for {shortened(str(base.get('name')), 100)}, but this is {folder.root.name} "
            "(or its weights have changed)"
        )
    _checked(lora / CONFIG, _CONFIG_FIELDS)
    _check_weights(lora / WEIGHT_NAMES[0], folder)
    if not base and (file := lora / WEIGHT_NAMES[0]).is_file():
        _check_shapes(file, folder)
    step = about.get("best_step")
    return AdapterInfo(
        style=str(about.get("style") or ""),
        quantised=str(about.get("quantised") or ""),
        thoughts=about.get("thoughts") is True,
        best_step=step if isinstance(step, int) else 0,
        base_loss=_number(about.get("base_loss")),
        best_loss=_number(about.get("best_loss")),
    )


def merged_info(record: Path) -> AdapterInfo:
    """How the model with this model_info.json is to be talked to, where an adapter was merged into it."""
    try:
        made_of = read_object(record).get("lineage")
    except ModelError:  # the model is worth more than how it was trained
        made_of = None
    if not isinstance(made_of, dict):
        return AdapterInfo()
    merged = f"merged from {made_of.get('base')} and {made_of.get('adapter')}"
    style = str(made_of.get("style") or "")
    return AdapterInfo(style=style, thoughts=made_of.get("thoughts") is True, merged=shortened(merged, 200))


def _check_weights(file: Path, folder: ModelDir) -> None:
    """Raise AdapterError where half of a pair is missing, or a layer is as large as another vocabulary."""
    if not file.is_file():
        return
    shown = f"The adapter {short_path(file.parent)}"
    try:
        header = read_header(file)
    except ModelError as error:
        raise AdapterError(f"{shown} cannot be used: {error}".partition("; ")[0]) from None
    halves = [name for name in header if _other_half(name) not in header]
    if halves:
        lacks = shortened(_other_half(min(halves)), 150)
        raise AdapterError(f"{shown} is incomplete: {lacks} is missing from {file.name}; {AGAIN}")
    config = read_config(folder.weights)
    text = config.get("text_config")
    rows = (text if isinstance(text, dict) else config).get("vocab_size")
    found = _vocabulary(header)
    if found and isinstance(rows, int) and found != rows:
        raise AdapterError(
            f"{shown} was made for a vocabulary of {found:,} tokens, and {folder.root.name} has one of {rows:,}"
        )


def _check_shapes(file: Path, folder: ModelDir) -> None:
    """Raise AdapterError where a LoRA has not the shape of its weight, as far as that has the same name in the files of
    the base, and is stored as numbers."""
    header, weights = read_header(file), read_headers(folder.weights)
    for name, a in header.items():
        layer, found, _ = name.removeprefix(_OF_PEFT).partition(".lora_A.")
        weight = weights.get(f"{layer}.weight")
        if not found or weight is None or weight.dtype not in _NUMBERS or len(weight.shape) != 2:
            continue
        b = header[_other_half(name)]
        shape = (*b.shape[:1], *a.shape[-1:])
        if sorted(shape) != sorted(weight.shape):  # GPT-2 has its weights turned
            sizes = (" x ".join(f"{size:,}" for size in each) for each in (shape, weight.shape))
            raise AdapterError(
                f"The adapter {short_path(file.parent)} was made for another base than {folder.root.name}: "
                "its {} is {}, and there it is {}".format(shortened(layer, 100), *sizes)
            )


def _other_half(name: str) -> str:
    """The name of B for an A and of A for a B; of other tensors their own. Only B may have a bias."""
    if name.endswith(".bias"):
        return name
    for one, other in (("lora_A.", "lora_B."), ("lora_embedding_A", "lora_embedding_B")):
        if one in name or other in name:
            return name.replace(one, other) if one in name else name.replace(other, one)
    return name


def _vocabulary(header: Mapping[str, TensorHeader]) -> int:
    """How many tokens the adapted embedding or output layer knows; 0 where neither is adapted."""
    for name, tensor in header.items():
        if len(tensor.shape) == 2 and set(_VOCABULARY) & set(name.split(".")):
            if "lora_B." in name or (name.endswith("weight") and "lora_" not in name):
                return tensor.shape[0]
            if "lora_embedding_A" in name:
                return tensor.shape[1]
    return 0


def _checked(file: Path, rules: Mapping[str, _Rule]) -> dict[str, object]:
    """The object in a file of the adapter. Raises AdapterError for a field that cannot be what it says."""
    found = read_object(file, _damaged, AGAIN)
    for name, (fits, wanted) in rules.items():
        if name in found and not fits(found[name]):
            raise _damaged(f"{name} in {short_path(file)} must be {wanted}, not {valued(found[name])}; {AGAIN}")
    return found


def _damaged(words: str) -> AdapterError:
    return AdapterError(f"The adapter is damaged: {words}")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e30  # type: ignore[arg-type]


def _optional(fits: Callable[[object], bool], wanted: str) -> _Rule:
    return lambda value: value is None or fits(value), wanted


def _pattern(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    """PEFT compares each key, a regular expression, with the name of each layer."""
    return lambda value: isinstance(value, dict) and all(map(fits, value.values())) and all(map(_is_quick, value))


def _is_quick(value: object) -> bool:
    return isinstance(value, str) and len(value) < _LONGEST and is_quick(value)


def _is_rank(value: object) -> bool:
    return type(value) is int and 1 <= value <= 1_000_000


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) < _LONGEST


_TEXT = _optional(_is_text, f"a text of fewer than {_LONGEST:,} characters")
_FLAG = _optional(lambda value: isinstance(value, bool), "true or false")
_NAMES = _optional(
    lambda value: _is_quick(value) or (isinstance(value, list) and all(map(_is_quick, value))),
    f"a list of names, or a pattern without repeats inside repeats, of fewer than {_LONGEST:,} characters",
)
_NUMBER = _optional(_is_number, "a finite number")
_INFO_FIELDS: dict[str, _Rule] = {
    **dict.fromkeys(("style", "quantised"), _TEXT),
    "best_step": _optional(lambda value: type(value) is int and 0 <= value < 1 << 63, "a whole number"),
    **dict.fromkeys(("base_loss", "best_loss"), _NUMBER),
    "base_model": _optional(lambda value: isinstance(value, dict), "an object"),
}
_CONFIG_FIELDS: dict[str, _Rule] = {
    "peft_type": (_is_text, "the kind of the adapter, as LORA"),
    **dict.fromkeys(("base_model_name_or_path", "task_type", "bias", "revision"), _TEXT),
    "r": _optional(_is_rank, "a whole number from 1"),
    **dict.fromkeys(("lora_alpha", "lora_dropout"), _NUMBER),
    "rank_pattern": _optional(_pattern(_is_rank), "an object of whole numbers"),
    "alpha_pattern": _optional(_pattern(_is_number), "an object of finite numbers"),
    **dict.fromkeys(("target_modules", "exclude_modules", "modules_to_save", "layers_pattern"), _NAMES),
    **dict.fromkeys(("fan_in_fan_out", "use_dora", "use_rslora", "inference_mode"), _FLAG),
    "megatron_config": (lambda value: value is None, "absent, since it names a module to import"),
}


def stamp_of(path: Path) -> Stamp | None:
    """What changes when the weights of an adapter do; None where there are none."""
    for name in WEIGHT_NAMES:
        try:
            seen = (path / name).stat()
        except OSError:
            continue
        return seen.st_mtime_ns, seen.st_size, seen.st_ino
    return None
