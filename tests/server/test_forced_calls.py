"""Calls that are forced, on templates that write a tag around each argument: whatever a model would say, what comes is
a call that the reader of answers understands, of a tool that was offered, with arguments of its types."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llm_installer.data.encoding.encode import Encoder
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.server.call_grammars import call_grammar
from llm_installer.server.guides import guide_factory
from llm_installer.server.messages import tool_arguments
from llm_installer.server.problems import Problem
from llm_installer.server.voices import Voice
from tests.server.conftest import Running, add_adapter
from tests.server.test_forms import WRITTEN

pytest.importorskip("llguidance")
HERE = Path(__file__).parent / "call_templates"
SPECIAL = {"qwen3_coder": "</parameter>", "glm": "</arg_value>", "minimax": "</parameter>"}
"""A tag behind values, which may be a token of its own."""


def tool(name: str, properties: dict[str, object], *required: str) -> dict[str, object]:
    parameters = {"type": "object", "properties": properties, "required": [*required]}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


LOOK = tool(
    "look",
    {
        "where": {"type": "string", "maxLength": 6},
        "deep": {"type": "boolean"},
        "most": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 99}, {"type": "null"}]},
        "way": {"type": "string", "enum": ["up", "far down"]},
        "spot": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 2},
    },
    "where",
    "way",
)
GO = tool("go", {})


def voice_of(name: str, special: bool = False) -> Voice:
    extra = {"extra_special_tokens": {"value_end": SPECIAL[name]}} if special else {}
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR, **extra)
    tokenizer.chat_template = (HERE / f"{name}.jinja").read_text("utf-8")
    return Voice(Encoder(tokenizer), "chat", len(tokenizer))


VOICES = {(name, special): voice_of(name, special) for name in WRITTEN for special in (False, True)}


def grammar(voice: Voice, *tools: object, several: bool = False) -> str:
    assert voice.calls is not None and voice.calls.tags is not None
    return call_grammar(voice, voice.calls, tools, several)  # type: ignore[arg-type]


def takes(voice: Voice, rules: str, text: str) -> bool:
    """Whether the grammar lets an answer be this text, and end there."""
    guide = guide_factory(rules, voice, "tools")()
    for token in voice.encoder.tokenizer(text, add_special_tokens=False)["input_ids"]:
        if not guide.allowed()[token]:
            return False
        guide.accept(token)
    return bool(guide.allowed()[next(iter(voice.encoder.stop_ids))])


def any_answer(voice: Voice, rules: str, chance: random.Random) -> str:
    """What a model that knows nothing writes under the grammar."""
    guide, ids, stops = guide_factory(rules, voice, "tools")(), list[int](), voice.encoder.stop_ids
    while True:
        allowed = torch.nonzero(guide.allowed()).flatten().tolist()
        token = chance.choice(allowed)
        if token in stops:
            return str(voice.encoder.tokenizer.decode(ids, skip_special_tokens=False))
        guide.accept(token)
        ids.append(token)
        assert len(ids) < 3000


@pytest.mark.parametrize(("name", "special"), VOICES)
def test_what_a_template_writes_is_taken_and_nothing_else(name: str, special: bool) -> None:
    voice = VOICES[name, special]
    form = voice.calls
    assert form is not None and form.tags is not None
    rules = grammar(voice, LOOK, GO)
    written = WRITTEN[name].format("look", "where", "a <b>", "way", "up").lstrip()
    right = form.lead + form.before + written.removeprefix(form.before.lstrip())
    assert takes(voice, rules, right)
    assert takes(voice, rules, f"{form.lead}{form.before}go{form.tags.empty}")
    for wrong in (
        right.replace("look", "run"),
        right.replace("far", "x").replace("up", "left"),
        right.replace("way", "deep"),
        right.replace("a <b>", "much too long"),
        right.replace("a <b>", SPECIAL[name]),
        right[:-3],
        f"Well. {right}",
        "No.",
    ):
        assert not takes(voice, rules, wrong), wrong


@pytest.mark.parametrize(("name", "special"), VOICES)
def test_a_text_ends_where_its_tag_comes(name: str, special: bool) -> None:
    voice, mark = VOICES[name, special], SPECIAL[name]
    form, loose = voice.calls, tool("loose", {"x": {"type": "string"}}, "x")
    assert form is not None and form.tags is not None
    for text, right in (("", True), ("a\n\n</b>&", True), (f"a{mark}b", False), (f"{mark}\n", False)):
        said = f"{form.before}loose{form.tags.opening}x{form.tags.middle}{text}{form.tags.close}"
        assert takes(voice, grammar(voice, loose), form.lead + said) == right, text
        if right:
            _, (call,) = form.read(said, tool_arguments(json.dumps([loose])))
            assert call["function"]["arguments"] == {"x": text}  # type: ignore[index]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize(("name", "special"), VOICES)
def test_any_answer_is_a_call_of_the_right_types(name: str, special: bool, seed: int) -> None:
    voice, chance = VOICES[name, special], random.Random(seed)
    text = any_answer(voice, grammar(voice, LOOK, GO), chance)
    assert voice.calls is not None
    said, calls = voice.calls.read(text.removeprefix(voice.calls.lead), tool_arguments(json.dumps([LOOK, GO])))
    assert said == "" and len(calls) == 1, text
    function = calls[0]["function"]
    assert isinstance(function, dict)
    arguments = function["arguments"]
    if function["name"] == "go":
        assert arguments == {}
        return
    assert {"where", "way"} <= set(arguments) <= {"where", "deep", "most", "way", "spot"}, text
    assert len(arguments["where"]) <= 6 and arguments["way"] in ("up", "far down")
    assert isinstance(arguments.get("deep", True), bool)
    assert arguments.get("most") is None or 0 <= arguments["most"] <= 99
    assert all(0 <= each <= 9 for each in arguments.get("spot", []))


DAY = {"type": "object", "properties": {"day": {"type": "boolean"}}, "required": ["day"], "additionalProperties": False}


def with_names(properties: dict[str, object], *required: str) -> dict[str, object]:
    """A tool as pydantic writes one with models inside: their schemas stand beside, and are named."""
    found = tool("book", properties, *required)
    found["function"]["parameters"]["$defs"] = {"Day": DAY, "Same": {"$ref": "#/$defs/Day"}}  # type: ignore[index]
    return found


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("named", ["Day", "Same"])
def test_an_argument_may_be_a_schema_that_is_named(name: str, named: str) -> None:
    voice = VOICES[name, False]
    rules = grammar(voice, with_names({"when": {"$ref": f"#/$defs/{named}"}}, "when"))
    said = any_answer(voice, rules, random.Random(5))
    assert '"day"' in said and ("true" in said or "false" in said)


def test_a_call_as_json_may_have_schemas_that_are_named() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    voice = Voice(Encoder(tokenizer), "chat", len(tokenizer))
    assert voice.calls is not None and voice.calls.tags is None
    named = {"days": {"type": "array", "items": {"$ref": "#/$defs/Same"}}}
    rules = call_grammar(voice, voice.calls, [with_names(named, "days")], False)  # type: ignore[list-item]
    call = {"name": "book", "arguments": {"days": [{"day": True}]}}
    assert takes(voice, rules, json.dumps([{"id": "a" * 9, "type": "function", "function": call}]))
    call = {"name": "book", "arguments": {"days": [{"day": 1}]}}
    assert not takes(voice, rules, json.dumps([{"id": "a" * 9, "type": "function", "function": call}]))


@pytest.mark.parametrize("name", WRITTEN)
def test_several_calls_where_they_may_come_at_once(name: str) -> None:
    voice = VOICES[name, False]
    form = voice.calls
    assert form is not None and form.tags is not None and form.tags.again
    short = tool("short", {"x": {"type": "integer"}}, "x")
    both = f"{form.lead}{form.before}short{form.tags.opening}x{form.tags.middle}1{form.tags.again}"
    both += f"short{form.tags.opening}x{form.tags.middle}2{form.tags.close}"
    assert takes(voice, grammar(voice, short, several=True), both)
    assert not takes(voice, grammar(voice, short), both)
    _, calls = form.read(both.removeprefix(form.lead), tool_arguments(json.dumps([short])))
    assert [call["function"]["arguments"] for call in calls] == [{"x": 1}, {"x": 2}]  # type: ignore[index]


@pytest.mark.parametrize("odd", [tool("two words", {}), tool("f", {"a b": {"type": "string"}}, "a b")])
def test_a_name_that_no_call_can_have_is_refused(odd: dict[str, object]) -> None:
    with pytest.raises(Problem, match=r"^'(two words|a b)' cannot stand in a call .*; rename it") as refused:
        grammar(VOICES["qwen3_coder", False], odd)
    assert (refused.value.status, refused.value.param) == (400, "tools")


@pytest.fixture(params=WRITTEN)
def tagged(served: Running, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a served run whose template writes tags."""
    run = f"20260501-100000-{request.param}"
    add_adapter(served.folder, run, 31, (HERE / f"{request.param}.jinja").read_text("utf-8"))
    yield f"{served.name}:{run}"
    shutil.rmtree(served.folder.runs / run)
    served.http.get("/v1/models").raise_for_status()


def test_the_openai_client_gets_the_call_that_it_forces(served: Running, tagged: str) -> None:
    openai = pytest.importorskip("openai")
    ask = [{"role": "user", "content": "Where is it?"}]
    asked = {"model": tagged, "messages": ask, "tools": [LOOK, GO], "max_tokens": 300, "temperature": 1.0}
    with openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", timeout=120) as client:
        wanted = {"type": "function", "function": {"name": "look"}}
        for seed in range(3):
            choice = client.chat.completions.create(**asked, seed=seed, tool_choice=wanted).choices[0]
            assert choice.finish_reason == "tool_calls" and choice.message.content is None
            (call,) = choice.message.tool_calls
            assert call.function.name == "look" and {"where", "way"} <= set(json.loads(call.function.arguments))
        stream = client.chat.completions.create(
            **asked, seed=4, tool_choice="required", parallel_tool_calls=False, stream=True
        )
        pieces = [chunk.choices[0] for chunk in stream]
        deltas = [call for piece in pieces for call in piece.delta.tool_calls or []]
        assert deltas[0].function.name in ("look", "go") and pieces[-1].finish_reason == "tool_calls"
        assert isinstance(json.loads("".join(delta.function.arguments or "" for delta in deltas)), dict)
        assert not any(piece.delta.content for piece in pieces)
