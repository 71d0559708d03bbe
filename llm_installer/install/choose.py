"""Which files of a model are needed, and whether it can be trained, from names and small texts alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llm_installer.core.errors import ModelError

LAYOUTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""Ways that weights are stored, in the order in which transformers looks: one file, else an index of shards."""

_COMPANIONS = (".json", ".jinja", ".model", ".tiktoken", ".txt")
_NOT_COMPANIONS = frozenset(("adapter_config.json", "requirements.txt", "trainer_state.json"))
_EXTRA_TEMPLATES = "additional_chat_templates/"
_TOKENIZERS = frozenset(("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt"))


@dataclass(frozen=True)
class Chosen:
    """The files to take, by their names in the model's folder."""

    weights: tuple[str, ...]
    others: tuple[str, ...]


def choose(names: Collection[str], read: Callable[[str], str], where: str) -> Chosen:
    """Choose among `names`; `read` gives the text of one of them. Raises ModelError for what cannot be trained."""
    if "config.json" not in names:
        raise _not_a_model(names, read, where)
    check_trainable(_parse(read, "config.json", where), where)
    weights, index = _weights(names, read, where)
    if not weights:
        raise _not_a_model(names, read, where)
    others = tuple(sorted(n for n in names if n not in weights and _is_companion(n))) + index
    if not any(n in _TOKENIZERS or n.endswith((".model", ".tiktoken")) for n in others):
        raise ModelError(
            f"{where} has no tokenizer (tokenizer.json or tokenizer.model); add the one it was trained with"
        )
    return Chosen(weights, others)


def check_trainable(config: dict[str, Any], where: str) -> None:
    """Refuse what is not a causal language model, or is of a type that the installed transformers does not know."""
    architecture = str((config.get("architectures") or [""])[0])
    model_type = str(config.get("model_type", ""))
    if not model_type:
        raise ModelError(f"{where}/config.json names no model_type; it is not the config of a transformers model")
    if not _is_known(model_type):
        raise ModelError(
            f"{where} is of the type {model_type}, which this version of transformers does not know and whose own code "
            f"is never run; update transformers or choose another model"
        )
    if config.get("is_encoder_decoder") or not _is_causal(architecture, model_type, config):
        raise ModelError(
            f"{where} is a {architecture or model_type}, which is not a causal language model and cannot be fine-tuned "
            f"here; choose a model whose architecture ends in ForCausalLM"
        )


def _is_causal(architecture: str, model_type: str, config: dict[str, Any]) -> bool:
    """By the name alone where that settles it; else by transformers' own tables, which cost the import of torch."""
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return True
    if architecture.endswith("ForConditionalGeneration") and ("vision_config" in config or "text_config" in config):
        return True
    from transformers.models.auto import modeling_auto

    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not architecture:
        return model_type in causal
    return architecture in {*causal.values(), *modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()}


def _is_known(model_type: str) -> bool:
    """By the folder of its name where there is one; else by transformers' table, which costs the import of torch."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        raise ModelError("transformers is not installed in this Python; see what is missing with: llm-installer doctor")
    family = model_type.replace("-", "_").removesuffix("_text")
    if (Path(spec.origin).parent / "models" / family).is_dir():
        return True
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _weights(names: Collection[str], read: Callable[[str], str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The weight files, and the index that names them, if any."""
    for single, index in LAYOUTS:
        if single in names:
            return (single,), ()
        if index in names:
            shards = tuple(sorted({str(v) for v in (_parse(read, index, where).get("weight_map") or {}).values()}))
            missing = [s for s in shards if s not in names or "/" in s]
            if missing or not shards:
                raise ModelError(
                    f"{where} is incomplete: {index} names {missing[0] if missing else 'no file'}, "
                    f"which is not there; get the model again"
                )
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


def _not_a_model(names: Collection[str], read: Callable[[str], str], where: str) -> ModelError:
    if "adapter_config.json" in names:
        base = str(_parse(read, "adapter_config.json", where).get("base_model_name_or_path") or "its base model")
        return ModelError(
            f"{where} is an adapter, not a model; install the model it was trained on: llm-installer install {base}"
        )
    if any(n.endswith(".gguf") for n in names):
        return ModelError(
            f"{where} holds only GGUF files, which cannot be trained; install the original model they were made from"
        )
    if "config.json" not in names:
        return ModelError(f"{where} is not a transformers model: config.json is missing")
    return ModelError(f"{where} holds no weights that can be trained (model.safetensors or pytorch_model.bin)")


def _parse(read: Callable[[str], str], name: str, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(read(name))
    except ValueError as error:
        raise ModelError(f"{where}/{name} is not valid JSON ({error}); get the model again") from None
    if not isinstance(parsed, dict):
        raise ModelError(f"{where}/{name} is not a JSON object; get the model again")
    return parsed
