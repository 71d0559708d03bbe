"""Whether a model can be trained here, from its config.json alone: a causal language model that transformers knows."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.hints import program
from llm_installer.core.quantisation import stored_as


def check_trainable(config: Mapping[str, object], where: str) -> None:
    """Raise ModelError unless this is a causal language model of a type that the installed transformers knows, with
    weights that can be trained on."""
    listed = config.get("architectures")
    architecture = str(listed[0]) if isinstance(listed, list) and listed else ""
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
    stored_as(config, where)


def _is_causal(architecture: str, model_type: str, config: Mapping[str, object]) -> bool:
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
        raise ModelError(
            f"transformers is not installed in this Python; see what else is missing with: {program()} doctor"
        )
    family = model_type.replace("-", "_").removesuffix("_text")
    if (Path(spec.origin).parent / "models" / family).is_dir():
        return True
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING
