"""Thoughts of a model whose template knows them are `reasoning_content`, whole and streamed."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.server.conftest import Running, add_adapter

RUN, OTHER = "20260501-100000-thinks", "20260502-100000-thinks"
TEMPLATE = (
    "{{% for m in messages %}}{{{{ '<|im_start|>' + m.role + '\n' }}}}"
    "{{% if m.role == 'assistant' %}}{{{{ '<think>' + (m.reasoning_content or '') + {mark} }}}}{{% endif %}}"
    "{{{{ (m.content or '') + '<|im_end|>\n' }}}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\n<think>' }}}}{{% endif %}}"
)


def test_a_thought_is_told_from_the_answer(served: Running) -> None:
    """A mark that never comes, and then one that the model is known to say."""
    model, ask = f"{served.name}:{RUN}", {"max_tokens": 24, "logprobs": True}
    try:
        add_adapter(served.folder, RUN, 3, TEMPLATE.format(mark="'</never>'"))
        cut = served.chat("Who are you?", model=model, **ask).json()["choices"][0]["message"]
        assert cut["content"] == "" and cut["reasoning_content"]
        words = cut["reasoning_content"].split()
        mark = next(word for word in words[1:] if words.count(word) == 1 and len(word) > 2)
        before, _, after = cut["reasoning_content"].partition(mark)
        add_adapter(served.folder, OTHER, 3, TEMPLATE.format(mark=repr(mark)))
        model = f"{served.name}:{OTHER}"
        whole = served.chat("Who are you?", model=model, **ask).json()["choices"][0]
        told = whole["message"]
        assert (told["reasoning_content"], told["content"].strip()) == (before.strip(), after.strip())
        said = bytes(b for token in whole["logprobs"]["content"] for b in token["bytes"]).decode()
        assert told["reasoning_content"] in said and mark in said, "logprobs are those of thoughts, too"
        text = served.chat("Who are you?", model=model, stream=True, **ask).text
        events = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
        deltas = [event["choices"][0]["delta"] for event in events]
        for name in ("reasoning_content", "content"):
            assert "".join(delta.get(name) or "" for delta in deltas) == told[name]
        openai = pytest.importorskip("openai.types.chat")
        for event in events:
            openai.ChatCompletionChunk.model_validate_json(json.dumps(event), strict=True)
    finally:
        for run in (RUN, OTHER):
            shutil.rmtree(served.folder.runs / run, ignore_errors=True)
        served.http.get("/v1/models")
