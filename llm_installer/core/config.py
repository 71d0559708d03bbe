"""config.json of a model folder, with the types and bounds that every family shares checked in one place.

What only one family knows is checked by transformers, where the model is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import AGAIN, read_object, valued
from llm_installer.core.text import short_path, shortened

CONFIG = "config.json"
GENERATION = "generation_config.json"
Config: TypeAlias = "dict[str, object]"
_Rule: TypeAlias = "tuple[Callable[[object], bool], str]"

_FOREIGN = "quantization_config"
"""Has names of its own, some of them with other meanings."""
_SIZES = ("size", "dim", "rank", "heads", "head", "embd", "inner", "channels")
"""Words in the names of fields that say how large a weight is."""
_COUNTED = ("num_", "n_")
"""How the names of fields begin that say how many there are of something; transformers makes a list of some, or a layer
each."""
_MANY = 1_000_000
_DEEPEST = 20
_LONGEST = 1000
"""Characters of a name in a config."""


def _counts(least: int, most: int) -> _Rule:
    """A whole number within these bounds for all layers, or a list with one for each; null is the family's default."""

    def fits(value: object) -> bool:
        if isinstance(value, list) and value:
            return all(each is None or (type(each) is int and 0 <= each <= most) for each in value)
        return value is None or (type(value) is int and least <= value <= most)

    return fits, f"a whole number from {least} to {most:,}"


def is_token(value: object) -> bool:
    """Whether it can be the id of a token, or a list of such; null is none."""
    if isinstance(value, list):
        return all(type(each) is int and 0 <= each < 1 << 31 for each in value)
    return value is None or (type(value) is int and -1 <= value < 1 << 31)


def _no_code(value: object) -> bool:
    """Names with a slash are repositories of kernels, whose code transformers would download and run."""
    names = list(value.values()) if isinstance(value, dict) else [value]
    return all(name is None or (isinstance(name, str) and "/" not in name) for name in names)


def _is_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= _LONGEST)


def _is_texts(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))


_LAYERS = _counts(1, 10_000)
_SIZE = _counts(1, 100_000_000)
_OR_NONE = _counts(0, 100_000_000)
_POSITIONS = _counts(0, 1_000_000_000)
_TOKEN: _Rule = (is_token, "the id of a token")
_OBJECT: _Rule = (lambda value: value is None or isinstance(value, dict), "an object")
_FLAG: _Rule = (lambda value: value is None or isinstance(value, bool), "true or false")
_TEXT: _Rule = (_is_text, "a text")
_OWN: _Rule = (_no_code, "the name of a way to compute that transformers has itself")

FIELDS: dict[str, _Rule] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers"), _LAYERS),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "vocab_size"), _SIZE),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"), _OR_NONE),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_key_value_heads", "num_kv_heads"), _SIZE),
    "head_dim": _SIZE,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), _OR_NONE),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), _POSITIONS),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), _TOKEN),
    **dict.fromkeys(("text_config", "vision_config", "audio_config", "quantization_config", "auto_map"), _OBJECT),
    **dict.fromkeys(("tie_word_embeddings", "is_encoder_decoder"), _FLAG),
    **dict.fromkeys(("model_type", "dtype", "torch_dtype"), _TEXT),
    **dict.fromkeys(("_attn_implementation", "attn_implementation", "experts_implementation"), _OWN),
    "architectures": (_is_texts, "a list of texts"),
}
"""What a field may hold, wherever it stands in the config, and how a sentence says that."""


def read_config(folder: Path) -> Config:
    """config.json of `folder`. Raises ModelError when it is missing, damaged, or a field cannot be what it says."""
    return checked(read_object(folder / CONFIG), short_path(folder / CONFIG))


def checked(config: Config, shown: str, again: str = AGAIN) -> Config:
    """The content of the config `shown`, as it was. Raises ModelError for a field that cannot be what it says."""
    for place, name, value in _fields(config):
        where = shortened(f"{place}{name}", 80)
        fits, wanted = FIELDS.get(name, (lambda _: True, ""))
        if not fits(value):
            raise ModelError(f"{where} in {shown} must be {wanted}, not {valued(value)}; {again}")
        if isinstance(value, float) and math.isnan(value):
            raise ModelError(f"{where} in {shown} is not a number; {again}")
        if type(value) is int and value > _MANY and name not in FIELDS and name.startswith(_COUNTED):
            raise ModelError(f"{where} in {shown} must be at most {_MANY:,}, not {valued(value)}; {again}")
        if type(value) is int and value < -1 and name not in FIELDS and (name.startswith(_COUNTED) or _is_size(name)):
            raise ModelError(f"{where} in {shown} must be at least 0, not {valued(value)}; {again}")
        if type(value) is int and abs(value) >= 1 << 63:
            raise ModelError(f"{where} in {shown} is too large a number; {again}")
        if place.count(".") > _DEEPEST:
            raise ModelError(f"{shown} is nested too deeply; {again}")
    return config


def zero_sizes(config: Config) -> list[str]:
    """The fields that make a weight as large as nothing, with their places: some families have a use for that."""
    return [
        f"{place}{name}"
        for place, name, value in _fields(config)
        if type(value) is int and not value and _is_size(name)
    ]


def _is_size(name: str) -> bool:
    return bool(set(_SIZES) & set(name.split("_")))


def _fields(config: Config, place: str = "") -> Iterator[tuple[str, str, object]]:
    """Every field of a config and of the configs in it: the dotted place of its object, its name, its value."""
    for name, value in config.items():
        yield place, name, value
        if isinstance(value, dict) and name != _FOREIGN:
            yield from _fields(value, f"{place}{name}.")
