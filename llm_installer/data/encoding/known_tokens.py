"""Tokens and models that do not go together: ids beyond the embedding, and a tokenizer that names no end of text."""

from __future__ import annotations

from llm_installer.core.config import CONFIG, GENERATION, is_token
from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import read_object
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.text import counted, short_path, shortened
from llm_installer.data.encoding.bounded import bounded
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.tokenizer import Tokenizer

_PROBE = "qwertz"
_FILES = (GENERATION, CONFIG)
_FEW = 10
"""A vocabulary that is that many times smaller than the model's was not read; models round theirs up by less."""


def name_end_of_text(tokenizer: Tokenizer, info: ModelInfo) -> None:
    """Give a tokenizer without an end-of-text token the one that the model's other files name.

    That is the eos_token_id of generation_config.json or config.json, or else the token that closes an answer in the
    chat template. Where there is none, the tokenizer stays as it is. Raises ModelError for an id that is none.
    """
    files = [info.path / name for name in _FILES if (info.path / name).is_file()]
    named = [number for file in files for number in _named(read_object(file), short_path(file))]
    if tokenizer.eos_token_id is not None:
        return
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    known = [tokens[number] for number in named if number in tokens]
    if ends := known[0] if known else _closing(tokenizer):
        tokenizer.eos_token = ends


def named_ends(info: ModelInfo) -> tuple[int, ...]:
    """The tokens that generation_config.json names as ends of an answer; some models have no other.

    Raises ModelError for an id that is none.
    """
    file = info.path / _FILES[0]
    return tuple(id for id in _named(read_object(file), short_path(file)) if id >= 0) if file.is_file() else ()


def refuse_unknown_ids(tokenizer: Tokenizer, info: ModelInfo) -> None:
    """Raise ModelError where the tokenizer needs ids that the model's embedding does not have.

    Some models come with added tokens beyond it that no text of theirs contains; those are no fault.
    """
    known = info.vocab_size
    there = len(tokenizer.get_vocab())
    if there * _FEW < known:
        raise ModelError(
            f"The tokenizer in {short_path(info.path)} has only {counted(there, 'token')}, and the model knows "
            f"{known:,}; files of its vocabulary are missing or damaged; use the tokenizer that it was trained with"
        )
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    template = str(tokenizer.chat_template or "")
    needed = {tokenizer.eos_token, tokenizer.bos_token}
    beyond = [
        (number, token)
        for token, number in tokenizer.get_vocab().items()
        if number >= known and (token not in added or token in needed or token in template)
    ]
    if known and beyond:
        number, token = max(beyond)
        raise ModelError(
            f"The tokenizer in {short_path(info.path)} has the token {shortened(token, 40)!r} with the id {number:,}, "
            f"and the model knows only {known:,} tokens; use the tokenizer that it was trained with"
        )


def refuse_unknown_tokens(rows: EncodedSet, tokenizer: Tokenizer, info: ModelInfo) -> None:
    """Raise ModelError where a row contains an id that the model's embedding does not have.

    A model with images may: what stands for an image is never looked up.
    """
    largest = int(rows.ids.max()) if len(rows.ids) and info.vocab_size and not info.vision else 0
    if largest and largest >= info.vocab_size:
        raise ModelError(
            f"The data contains the token {shortened(tokenizer.decode([largest]), 40)!r} with the id {largest:,}, and "
            f"{info.name} knows only {info.vocab_size:,} tokens; remove it from the data"
        )


def _named(config: dict[str, object], shown: str) -> list[int]:
    text = config.get("text_config")
    inner = text.get("eos_token_id") if isinstance(text, dict) else None
    value = config["eos_token_id"] if config.get("eos_token_id") is not None else inner
    if not is_token(value):
        raise ModelError(f"eos_token_id in {shown} must be the id of a token")
    every = value if isinstance(value, list) else [value]
    return [number for number in every if isinstance(number, int)]


def _closing(tokenizer: Tokenizer) -> str:
    """The first added token after an answer; empty where the template has none, or does not work."""
    if not tokenizer.chat_template:
        return ""
    from jinja2 import TemplateError

    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}]
    try:
        text = bounded(lambda: tokenizer.apply_chat_template(turns, tokenize=False), lambda: 0)
    except (TemplateError, TypeError, KeyError):
        return ""
    tail = text.rpartition(_PROBE)[2]
    found = [(tail.find(str(t)), str(t)) for t in tokenizer.added_tokens_decoder.values() if str(t) in tail]
    return min(found)[1] if found else ""
