"""Two texts in a record: a question and its answer, or the beginning of a text and its continuation."""

from __future__ import annotations

import re

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.formats.conversation import refuse_lost_images
from llm_installer.data.formats.converters import ACCOMPANYING, asked, exchange
from llm_installer.data.formats.format import shapes
from llm_installer.data.formats.values import Record, SkipRecord, absent, blank, pick, text

_ASKS = ("query", "prompt", "input", "request", "inputs", "input_text")
_SAYS = ("response", "answer", "output", "reply", "targets", "target", "target_text", "output_text", "completion")
_SOURCES = ("source", "document", "article", "dialogue", "text", "q")
_RESULTS = ("summary", "a", "canonical_solution")

QUESTIONS = shapes(
    *(f"{asks} {says}" for asks in _ASKS for says in _SAYS if (asks, says) != ("prompt", "completion")),
    "source target",
    "q a",
    *(f"{whole} summary" for whole in ("document", "article", "dialogue", "text")),
)
"""A question and its answer, under all the usual names."""
CONTINUED = shapes("prompt completion", "prompt canonical_solution")
"""A text that begins where the prompt ends: the guide's format, and HumanEval's function bodies."""
JOINED = shapes(*(f"{asks} {says}" for asks in _ASKS for says in _SAYS if says != "completion"))
"""What may be such a text too, where the user says so."""
pair = asked((*_ASKS, *_SOURCES), (*_SAYS, *_RESULTS))
# Letters and what ends a sentence, before a letter or number: without a space between, two words become one. Scripts
# that have no spaces are left out.
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_END, _BEGINNING = re.compile(rf"([^\W{_SPACELESS}]|[.?!:;,])\Z"), re.compile(rf"[^\W{_SPACELESS}]")


def continuation(record: Record, origin: Origin) -> Example:
    """A text and its continuation, without a template; with a system prompt, history, images or tools, a chat."""
    names = pick(record, ("prompt", *_ASKS, *_SOURCES)), pick(record, ("completion", *_SAYS, *_RESULTS))
    prompt, answer = text(record, names[0]), text(record, names[1])
    if any(not absent(record[key]) for key in ACCOMPANYING.intersection(record)):
        return exchange(record, origin, prompt, answer, names)
    if blank(answer):
        raise SkipRecord(f"{names[1]} is empty")
    refuse_lost_images((prompt,))
    return Example((Message("user", prompt), Message("assistant", answer)), origin, "completion")


def is_glued(example: Example) -> bool:
    """Whether the prompt of a completion and its answer run into each other, as in "called?The island"."""
    if example.kind != "completion":
        return False
    prompt, answer = (message.content for message in example.messages)
    return bool(_END.search(prompt) and _BEGINNING.match(answer))
