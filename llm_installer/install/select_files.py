"""Which files of a model an install needs, from their names and a few small texts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from llm_installer.core.config import checked
from llm_installer.core.errors import ModelError
from llm_installer.core.hints import program
from llm_installer.core.json_file import parse_object
from llm_installer.core.weight_files import LAYOUTS, shards_of
from llm_installer.install.trainable import check_trainable

_AGAIN = "get the model again"
_COMPANIONS = (".json", ".jinja", ".model", ".tiktoken", ".txt")
_NOT_COMPANIONS = frozenset(("adapter_config.json", "requirements.txt", "trainer_state.json"))
_EXTRA_TEMPLATES = "additional_chat_templates/"
_TOKENIZERS = frozenset(("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt"))

ReadText = Callable[[str], str]
"""Gives the text of a file, by its name in the model's folder."""


@dataclass(frozen=True)
class Selection:
    """The files to install, by their names in the model's folder."""

    weights: tuple[str, ...]
    others: tuple[str, ...]


def select_files(names: Collection[str], read: ReadText, where: str) -> Selection:
    """Select among `names` of the model `where`. Raises ModelError where it is not a model that can be trained."""
    if "config.json" not in names:
        raise _not_a_model(names, read, where)
    check_trainable(checked(_parse(read, "config.json", where), f"{where}/config.json", _AGAIN), where)
    weights, index = _weights(names, read, where)
    if not weights:
        raise _not_a_model(names, read, where)
    others = tuple(sorted(n for n in names if n not in weights and _is_companion(n))) + index
    if not any(n in _TOKENIZERS or n.endswith((".model", ".tiktoken")) for n in others):
        raise ModelError(
            f"{where} has no tokenizer (tokenizer.json or tokenizer.model); add the one it was trained with"
        )
    return Selection(weights, others)


def _weights(names: Collection[str], read: ReadText, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The weight files, and the index that names them, if any."""
    for single, index in LAYOUTS:
        if single in names:
            return (single,), ()
        if index in names:
            shards = tuple(sorted(set(shards_of(_parse(read, index, where), f"{where}/{index}", _AGAIN).values())))
            missing = [s for s in shards if s not in names]
            if missing:
                raise ModelError(f"{where} is incomplete: {index} names {missing[0]}, which is not there; {_AGAIN}")
            return shards, (index,)
    return (), ()


def _is_companion(name: str) -> bool:
    if name.startswith(_EXTRA_TEMPLATES):
        return name.endswith(".jinja") and name.count("/") == 1
    if "/" in name or name.startswith("."):
        return False
    if name.startswith(("LICENSE", "NOTICE")):
        return True
    return name.endswith(_COMPANIONS) and not name.endswith(".index.json") and name not in _NOT_COMPANIONS


def _not_a_model(names: Collection[str], read: ReadText, where: str) -> ModelError:
    if "adapter_config.json" in names:
        base = str(_parse(read, "adapter_config.json", where).get("base_model_name_or_path") or "BASE_MODEL")
        return ModelError(
            f"{where} is an adapter, not a model; install the model it was trained on: {program()} install {base}"
        )
    if any(n.endswith(".gguf") for n in names):
        return ModelError(
            f"{where} holds only GGUF files, which cannot be trained; install the original model they were made from"
        )
    if "config.json" not in names:
        return ModelError(f"{where} is not a transformers model: config.json is missing")
    return ModelError(f"{where} holds no weights that can be trained (model.safetensors or pytorch_model.bin)")


def _parse(read: ReadText, name: str, where: str) -> dict[str, object]:
    try:
        text = read(name)
    except UnicodeDecodeError as error:
        raise ModelError(f"{where}/{name} is not valid JSON ({error}); {_AGAIN}") from None
    return parse_object(text, f"{where}/{name}", again=_AGAIN)
