"""How a chat template writes the thought before an answer, found out with a made-up one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.chat_template import Template
from llm_installer.data.encoding.template_probes import THOUGHT, CannotRender

_THOUGHT, _SAID = "qwertz", "zwtreq"
_OPEN, _CLOSE = (mark.strip() for mark in THOUGHT.split("{}"))
_LAST_MARK = re.compile(r"<[^<>\s]+>\s*$")


@dataclass(frozen=True)
class ThoughtForm:
    """What stands around a thought, without the spaces at its ends."""

    before: str
    """Where a prompt ends with it, its answer begins within a thought."""
    after: str
    head: str = ""
    """What an answer without a thought begins with."""


def thought_form(template: Template) -> ThoughtForm | None:
    """How thoughts are written under this template; None where it knows none."""
    if template.can.thought:
        return _shown(template)
    if template.can.removes_thoughts or (_OPEN in template.source and _CLOSE in template.source):
        return ThoughtForm(_OPEN, _CLOSE)
    return None


def _shown(template: Template) -> ThoughtForm | None:
    answers = [_answer(template, thought) for thought in (_THOUGHT, "")]
    if answers[0] is None:
        return None
    prompt, answer = answers[0]
    before, _, rest = answer.partition(_THOUGHT)
    after = rest.partition(_SAID)[0].strip()
    opened = _LAST_MARK.search(prompt)
    before = before.strip() or (opened[0].strip() if opened else "")
    if not before or not after or _SAID not in rest:
        return None
    head = answers[1][1].partition(_SAID)[0].strip() if answers[1] else ""
    return ThoughtForm(before, after, "" if after in head else head)


def _answer(template: Template, thought: str) -> tuple[str, str] | None:
    """(what a model is sent, how it answers with a thought); None where the template does not render it."""
    messages = (Message("user", "a"), Message("assistant", _SAID, reasoning_content=thought))
    try:
        row = template.rows(Example(messages, Origin("")))[-1]
    except CannotRender:
        return None
    start, end = row.supervised[-1]
    return row.text[:start], row.text[start:end]
