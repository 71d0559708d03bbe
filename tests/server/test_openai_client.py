"""The real `openai` client against a real server: what it sends is understood, and what it hears fits its types."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.server.conftest import RUNS, Running

openai = pytest.importorskip("openai")
from openai.types import Completion, Model  # noqa: E402
from openai.types.chat import ChatCompletion, ChatCompletionChunk  # noqa: E402

ASK = [{"role": "user", "content": "Who are you?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 8}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def client(served: Running) -> openai.OpenAI:
    with openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", timeout=120) as made:
        yield made


def test_models_are_the_base_and_its_runs(served: Running, client: openai.OpenAI) -> None:
    found = {model.id: model for model in client.models.list()}
    base = served.name
    assert list(found) == [base, *(f"{base}:{run}" for run in RUNS), f"{base}:lora"]
    assert (found[base].parent, found[f"{base}:lora"].parent) == (None, base)
    assert found[f"{base}:lora"].root == f"{base}:{RUNS[0]}"
    assert found[f"{base}:{RUNS[0]}"].score == "loss 3.0000 -> 2.0000"
    assert isinstance(client.models.retrieve(f"{base}:{RUNS[1]}"), Model)
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve(f"{base}:gone")
    assert refused.value.code == "model_not_found"


def test_a_chat_and_its_stream_say_the_same(served: Running, client: openai.OpenAI) -> None:
    asked = {"model": served.name, "messages": ASK, "temperature": 0, "max_tokens": 12}
    raw = client.chat.completions.with_raw_response.create(**asked)
    whole = ChatCompletion.model_validate_json(raw.content, strict=True)
    assert whole.choices[0].message.content and whole.system_fingerprint
    usage = whole.usage
    assert usage and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    *some, end, last = chunks
    assert "".join(c.choices[0].delta.content or "" for c in some) == whole.choices[0].message.content
    assert end.choices[0].finish_reason == whole.choices[0].finish_reason and not end.choices[0].delta.content
    assert last.choices == [] and last.usage and last.usage.completion_tokens == usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_recorded_bytes_are_what_the_types_say(served: Running) -> None:
    body = {"model": served.name, "messages": ASK, "max_tokens": 5, "stream": True, "n": 2, "seed": 3}
    body |= {"logprobs": True, "top_logprobs": 2, "stream_options": {"include_usage": True}}
    answer = served.http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    events = [line for line in answer.text.split("\n\n") if line and not line.startswith(":")]
    assert events[-1] == "data: [DONE]"
    chunks = [
        ChatCompletionChunk.model_validate_json(event.removeprefix("data: "), strict=True) for event in events[:-1]
    ]
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    tokens = [token for c in chunks for choice in c.choices if choice.logprobs for token in choice.logprobs.content]
    assert tokens and all(len(token.top_logprobs) == 2 for token in tokens)


def test_logprobs_of_a_chat_add_up_to_its_text(client: openai.OpenAI, served: Running) -> None:
    from math import exp

    found = client.chat.completions.create(
        model=served.name, messages=ASK, temperature=0, max_tokens=12, logprobs=True, top_logprobs=20
    ).choices[0]
    content = found.logprobs.content
    assert bytes(b for token in content for b in token.bytes).decode() == found.message.content
    for token in content:
        likely = [other.logprob for other in token.top_logprobs]
        assert sum(map(exp, likely)) <= 1.001 and likely == sorted(likely, reverse=True)
        assert token.logprob == likely[0]  # greedy


def test_completions(client: openai.OpenAI, served: Running) -> None:
    asked = {"model": served.name, "prompt": ["You are", "Hello there,"], "temperature": 0, "max_tokens": 6, "n": 2}
    raw = client.completions.with_raw_response.create(**asked, logprobs=2, seed=1)
    found = Completion.model_validate_json(raw.content, strict=True)
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert found.choices[0].text == found.choices[1].text != found.choices[2].text
    for choice in found.choices:
        logprobs = choice.logprobs
        assert "".join(logprobs.tokens) == choice.text
        assert [choice.text.index(t, o) for t, o in zip(logprobs.tokens, logprobs.text_offset, strict=True)] == list(
            logprobs.text_offset
        )
    echoed = client.completions.create(**asked | {"n": 1, "prompt": "You are"}, echo=True)
    assert echoed.choices[0].text == "You are" + found.choices[0].text
    texts = [""] * 4
    for chunk in client.completions.create(**asked, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in found.choices]
    ids = served.catalogue.find(served.name).voice.encoder.text_ids("You are")
    assert client.completions.create(**asked | {"prompt": ids, "n": 1}).choices[0].text == texts[0]


def test_asynchronous_clients_share_the_batch(served: Running) -> None:
    async def both() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.address}/v1", api_key="none", timeout=120) as client:
            asked = {"model": served.name, "messages": ASK, "temperature": 0, "max_tokens": 8}
            stream = await client.chat.completions.create(**asked, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            whole = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(4)))
            return [text, *(found.choices[0].message.content or "" for found in whole)]

    said = asyncio.run(both())
    assert said[0] and len(set(said)) == 1


def test_a_seed_repeats_an_answer_and_stops_end_it(client: openai.OpenAI, served: Running) -> None:
    asked = {"model": served.name, "messages": ASK, "temperature": 1.0, "max_tokens": 12}
    first, again = (client.chat.completions.create(**asked, seed=7).choices[0] for _ in range(2))
    assert first.message.content == again.message.content
    greedy = client.chat.completions.create(**asked | {"temperature": 0}).choices[0].message.content
    cut = greedy[3:5]
    stopped = client.chat.completions.create(**asked | {"temperature": 0}, stop=[cut, "never there"]).choices[0]
    assert stopped.message.content == greedy[: greedy.index(cut)] and stopped.finish_reason == "stop"
    one = client.chat.completions.create(**asked | {"max_tokens": 1}).choices[0]
    assert one.finish_reason == "length"


def test_tools_are_called_and_their_results_come_back(served: Running, client: openai.OpenAI) -> None:
    pytest.importorskip("llguidance")
    choice = {"type": "function", "function": {"name": "weather"}}
    asked = {"model": f"{served.name}:{RUNS[2]}", "tools": [WEATHER], "max_tokens": 150, "seed": 1}
    history: list[object] = [*ASK]
    for _ in range(3):
        whole = client.chat.completions.create(**asked, messages=history, tool_choice=choice).choices[0]
        assert whole.finish_reason == "tool_calls" and whole.message.content is None
        call = whole.message.tool_calls[0]
        assert call.function.name == "weather" and set(json.loads(call.function.arguments)) == {"city"}
        history += [whole.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    pieces = list(client.chat.completions.create(**asked, messages=ASK, tool_choice="required", stream=True))
    deltas = [call for chunk in pieces for call in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].id and deltas[0].function.name == "weather"
    assert set(json.loads("".join(call.function.arguments or "" for call in deltas if call.index == 0))) == {"city"}
    assert not any(chunk.choices[0].delta.content for chunk in pieces)
    assert pieces[-1].choices[0].finish_reason == "tool_calls"


def test_answers_keep_to_a_schema(client: openai.OpenAI, served: Running) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["ok", "n"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, "strict": True}}
    found = client.chat.completions.create(
        model=served.name, messages=ASK, max_tokens=60, n=3, seed=5, response_format=wanted
    )
    for choice in found.choices:
        assert choice.finish_reason == "stop"
        value = json.loads(choice.message.content)
        assert isinstance(value["ok"], bool) and 0 <= value["n"] <= 99
    with pytest.raises(openai.BadRequestError, match="cannot be obeyed"):
        broken = {"type": "json_schema", "json_schema": {"name": "it", "schema": {"type": "objec"}}}
        client.chat.completions.create(model=served.name, messages=ASK, response_format=broken)


def test_errors_are_the_clients_own(served: Running, client: openai.OpenAI) -> None:
    before = served.engine.counts()
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=served.name, messages=[{"role": "user", "content": "word " * 5000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as huge:
        client.chat.completions.create(model=served.name, messages=ASK, max_tokens=1_000_000)
    assert huge.value.code == "context_length_exceeded"
    now = served.engine.counts()
    assert (now.requests, now.prompt_tokens) == (before.requests, before.prompt_tokens), "before any work"
    with pytest.raises(openai.BadRequestError, match="chat/completions"):
        client.responses.create(model=served.name, input="Who are you?")
    with pytest.raises(openai.BadRequestError, match="no embeddings"):
        client.embeddings.create(model=served.name, input="Who are you?")
