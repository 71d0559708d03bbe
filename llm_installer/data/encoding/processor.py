"""The encoder of a model folder: its tokenizer, and its image processor where it has one that works here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_installer.core.model_info import ModelInfo
from llm_installer.data.encoding.encode import Encoder, load_tokenizer

FILES = ("processor_config.json", "preprocessor_config.json")
"""Either of them makes a model folder one that can read images."""


def load_encoder(info: ModelInfo, train_on_prompt: bool = False, adapter: Path | None = None) -> Encoder:
    """The encoder of a model; the tokenizer and template are those kept with `adapter`, where there is one.

    A model that cannot be shown images gets one that says why when it meets some. Raises ModelError when the tokenizer
    cannot be loaded.
    """
    tokenizer = load_tokenizer(adapter or info.path)
    processor, blind = _processor(info, tokenizer, keep_template=adapter is not None)
    return Encoder(tokenizer, train_on_prompt, processor, blind)


def _processor(info: ModelInfo, tokenizer: Any, keep_template: bool) -> tuple[Any, str]:
    """The processor, ready to be used with this tokenizer; or none, and why images cannot be learned."""
    if not info.vision:
        return None, "it has images, and this model reads only text"
    if not any((info.path / name).is_file() for name in FILES):
        return None, f"it has images, and the model came without its image processor ({FILES[1]})"
    from transformers import AutoProcessor

    try:
        processor: Any = AutoProcessor.from_pretrained(info.path, local_files_only=True)  # type: ignore[no-untyped-call]
    except ImportError as error:
        return None, f"it has images, and more software is needed to read them ({_first_line(error).split('. ')[0]})"
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return None, f"it has images, and the model's image processor cannot be loaded ({_first_line(error)})"
    token = getattr(processor, "image_token", None)
    if token not in tokenizer.get_vocab() or not tokenizer.is_fast:
        return None, "it has images, and the model's processor does not say where in a text they go"
    if "cross_attention_mask" in processor.model_input_names:
        return None, "it has images, and this model looks at them beside the text, which is not supported"
    if not (keep_template and tokenizer.chat_template) and processor.chat_template:
        tokenizer.chat_template = processor.chat_template
    processor.tokenizer = tokenizer
    return processor, ""


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "unknown reason")
