"""The encoder of a model folder: its tokenizer, and its image processor where it has one that works here."""

from __future__ import annotations

from pathlib import Path

from llm_installer.core.model_info import ModelInfo
from llm_installer.data.encoding.bounded import refuse_powers
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.known_tokens import name_end_of_text, named_ends, refuse_unknown_ids
from llm_installer.data.encoding.tokenizer import Processor, Tokenizer, first_line, load_tokenizer

FILES = ("processor_config.json", "preprocessor_config.json")
"""A model folder needs one of them to read images."""


def load_encoder(info: ModelInfo, train_on_prompt: bool = False, adapter: Path | None = None) -> Encoder:
    """The encoder of a model; its tokenizer and template are those stored with `adapter`, where there is one.

    For a model that cannot be shown images, the encoder refuses these and says why. Raises ModelError when the
    tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(adapter or info.path)
    refuse_powers(str(tokenizer.chat_template or ""))
    name_end_of_text(tokenizer, info)
    if adapter is None:  # where it is not, the adapter is refused
        refuse_unknown_ids(tokenizer, info)
    processor, no_vision = _processor(info, tokenizer, keep_template=adapter is not None)
    return Encoder(tokenizer, train_on_prompt, processor, no_vision, named_ends(info))


def _processor(info: ModelInfo, tokenizer: Tokenizer, keep_template: bool) -> tuple[Processor | None, str]:
    """The processor, ready to be used with this tokenizer; or none, and why images cannot be used."""
    if not info.vision:
        return None, "it has images, and this model reads only text"
    if not any((info.path / name).is_file() for name in FILES):
        return None, f"it has images, and the model came without its image processor ({FILES[1]})"
    from transformers import AutoProcessor

    try:
        processor: Processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            info.path, local_files_only=True, trust_remote_code=False
        )
    except ImportError as error:
        return None, f"it has images, and reading them needs more software ({first_line(error).split('. ')[0]})"
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return None, f"it has images, and the model's image processor cannot be loaded ({first_line(error)})"
    token = getattr(processor, "image_token", None)
    if token not in tokenizer.get_vocab() or not tokenizer.is_fast:
        return None, "it has images, and the model's processor does not say where in a text they go"
    if "cross_attention_mask" in processor.model_input_names:
        return None, "it has images, and this model attends to them beside the text, which is not supported"
    if not (keep_template and tokenizer.chat_template) and processor.chat_template:
        tokenizer.chat_template = processor.chat_template
    processor.tokenizer = tokenizer
    return processor, ""
