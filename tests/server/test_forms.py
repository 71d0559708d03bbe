"""What is told from the text of answers by the template's own writing: thoughts, and calls with tags in them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llm_installer.data.encoding.call_forms import CallForm, call_form
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.thought_forms import ThoughtForm, thought_form
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.server.answers import Answer, Forms, Tooling
from llm_installer.server.thoughts import Apart

HERE = Path(__file__).parent / "call_templates"
TEMPLATES = Path(__file__).parents[1] / "data" / "encoding"
_QWEN = "<parameter={}>\n{}\n</parameter>\n"
_GLM = "<arg_key>{}</arg_key>\n<arg_value>{}</arg_value>\n"
_MINIMAX = '<parameter name="{}">{}</parameter>\n'
WRITTEN = {
    "qwen3_coder": f"\n<tool_call>\n<function={{}}>\n{_QWEN}{_QWEN}</function>\n</tool_call>",
    "glm": f"\n<tool_call>{{}}\n{_GLM}{_GLM}</tool_call>",
    "minimax": f'\n<calls>\n<invoke name="{{}}">\n{_MINIMAX}{_MINIMAX}</invoke>\n</calls>',
}
"""A call with two arguments, as each template writes it."""
SCHEMAS = {
    "look": {
        "where": {"type": "string"},
        "deep": {"type": "boolean"},
        "most": {"type": ["integer", "null"]},
        "odd": {},
    },
    "go": {},
}


def encoder(template: str) -> Encoder:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    tokenizer.chat_template = template
    return Encoder(tokenizer)


@cache
def form_of(name: str) -> CallForm:
    found = call_form(encoder((HERE / f"{name}.jinja").read_text("utf-8")).template)
    assert found is not None and found.tags is not None
    return found


@pytest.mark.parametrize("name", WRITTEN)
def test_calls_with_tags_are_read_as_the_template_writes_them(name: str) -> None:
    form, writing = form_of(name), WRITTEN[name]

    def calls(text: str) -> tuple[str, list[object]]:
        said, found = form.read(text, SCHEMAS)
        return said, [(each["function"]["name"], each["function"]["arguments"]) for each in found]  # type: ignore[index]

    one = writing.format("look", "where", "a <b> & 5", "deep", "True")
    first = ("look", {"where": "a <b> & 5", "deep": True})
    assert calls(f"Wait.{one}") == ("Wait.", [first])
    two = writing.format("look", "most", "5", "odd", '{"a": [1]}')
    both = one + two if name != "minimax" else one.removesuffix("</calls>") + two.removeprefix("\n<calls>\n")
    assert calls(both) == ("", [first, ("look", {"most": 5, "odd": {"a": [1]}})])
    assert calls(one[:-12]) == (one[:-12], []), "cut off, so no call"
    assert form.tags is not None
    assert calls(f"{form.before}go{form.tags.empty}") == ("", [("go", {})])
    odd = one.replace("where", "x y")
    assert calls(odd) == (odd, [])


@given(
    value=st.text(alphabet='a5 <>/="\n', max_size=12),
    cuts=st.lists(st.integers(0, 120)),
    name=st.sampled_from(sorted(WRITTEN)),
)
def test_any_text_may_be_an_argument(value: str, cuts: list[int], name: str) -> None:
    text = "Now." + WRITTEN[name].format("look", "where", value, "deep", "false")
    answer = Answer(0, 0, Forms(Tooling(form_of(name), SCHEMAS)))
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    shown = "".join(answer.add(text[a:b]).text for a, b in pairwise(places)) + answer.end("stop", 1).text
    (call,) = answer.calls
    assert call["function"]["arguments"] == {"where": value, "deep": False}  # type: ignore[index]
    assert shown.strip() == "Now."


THINK = ThoughtForm("<think>", "</think>")
CHANNELS = ThoughtForm(
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
)
FORMS = {
    "think_opened": THINK,
    "think_optional": THINK,
    "think_switched": THINK,
    "thoughts_removed": THINK,
    "next_role_ends": THINK,
    "same_turn": ThoughtForm("<|channel>thought", "<channel|>"),
    "channels": CHANNELS,
    "call_alone": None,
}


@pytest.mark.parametrize("name", FORMS)
def test_how_a_template_writes_thoughts(name: str) -> None:
    template = encoder((TEMPLATES / "tool_templates" / f"{name}.jinja").read_text("utf-8")).template
    assert thought_form(template) == FORMS[name]
    calls, thoughts = call_form(template), FORMS[name]
    assert calls is None or thoughts is None or thoughts.after not in calls.before


@pytest.mark.parametrize(
    ("form", "opened", "text", "thought", "said"),
    [
        (THINK, False, "<think>\nHm.\n</think>\n\nSo.", "Hm.", "So."),
        (THINK, False, " So <think>.", "", " So <think>."),
        (THINK, False, "\n<think></think>\nSo.", "", "So."),
        (THINK, True, "Hm.\n\nWell </thi", "Hm.\n\nWell </thi", ""),
        (THINK, True, "\n</think>\n\nSo.", "", "So."),
        (THINK, False, "<thin", "", "<thin"),
        (THINK, False, "", "", ""),
        (CHANNELS, False, f"{CHANNELS.before}Hm.{CHANNELS.after}So.", "Hm.", "So."),
        (CHANNELS, False, f"{CHANNELS.head}So.", "", "So."),
    ],
)
@given(cuts=st.lists(st.integers(0, 80)))
def test_thoughts_come_apart_wherever_an_answer_is_cut(
    form: ThoughtForm, opened: bool, text: str, thought: str, said: str, cuts: list[int]
) -> None:
    apart = Apart(form, opened)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [*(apart.add(text[a:b]) for a, b in pairwise(places)), apart.end()]
    assert tuple(map("".join, zip(*pieces, strict=True))) == (thought, said)
