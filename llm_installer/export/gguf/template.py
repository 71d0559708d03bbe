"""The chat template in a GGUF file: without the tags that only trainers know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jinja2 import TemplateError

from llm_installer.core.errors import ModelError
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.tokenizer import Tokenizer
from llm_installer.export.gguf.facts import Values
from llm_installer.export.gguf.probes import CONVERSATIONS

KEY = "tokenizer.chat_template"
_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


def without_generation(template: str) -> str:
    """The same template without {% generation %}, which marks answers for a trainer; spaces stay what they were."""
    return _GENERATION.sub(lambda tag: f"{{%{tag[1]} {'endif' if tag[2] else 'if true'} {tag[3]}%}}", template)


def written_template(encoder: Encoder) -> Values:
    """The template as it is written; nothing for a model that has none of its own. Raises ModelError where the copy
    renders something else."""
    if encoder.default_template:
        return {}
    own = str(encoder.tokenizer.chat_template)
    copy = without_generation(own)
    if difference(encoder.tokenizer, own, copy):
        raise ModelError("The model's chat template cannot be written without its {% generation %} tags")
    return {KEY: copy}


def difference(tokenizer: Tokenizer, own: str, copy: str) -> str:
    """The first conversation that two templates render differently; empty where there is none."""
    for turns in CONVERSATIONS:
        for opened in (False, True):
            if _rendered(tokenizer, own, turns, opened) != _rendered(tokenizer, copy, turns, opened):
                return str(turns[-1]["content"])
    return ""


def _rendered(tokenizer: Tokenizer, template: str, turns: Sequence[Mapping[str, object]], opened: bool) -> object:
    """The text; for a template that refuses these turns, that it does."""
    try:
        return tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=opened
        )
    except (TemplateError, TypeError, KeyError, ValueError) as error:
        return type(error)
