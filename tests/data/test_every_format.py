"""From a record of every format to tokens: what is supervised is the answer and its end token, exactly once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer.core.examples import Example, Origin
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.data.formats import FORMATS, convert
from llm_installer.install.tiny import MODEL_DIR

ORIGIN = Origin("one.jsonl", 1)
REST = {"oasst": [{"message_id": "1", "parent_id": None, "role": "prompter", "text": "Hello?"}]}
"""What must stand beside the documented record for it to mean something."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(load_tokenizer(MODEL_DIR))


def examples(name: str) -> list[Example]:
    """The documented example of a format, converted."""
    row = next(f for f in FORMATS if f.name == name)
    rows = [(value, ORIGIN) for value in (json.loads(row.example), *REST.get(name, []))]
    found = [e for value, origin in (row.group(rows) if row.group else rows) for e in convert(value, origin, row)]
    return [e for e in found if isinstance(e, Example)]


@pytest.mark.parametrize("name", [f.name for f in FORMATS])
def test_the_answer_and_its_end_token_are_supervised_once(name: str, encoder: Encoder) -> None:
    found = examples(name)
    assert found, "the documented example must teach something"
    for example in found:
        text_only = Example(example.messages, example.origin, example.kind, example.tools)
        rows = encoder.encode(text_only)
        end = "<|im_end|>"
        supervised = "".join(
            encoder.tokenizer.decode(r.ids[r.supervised].tolist(), skip_special_tokens=False) for r in rows
        )
        answers = [m for m in example.messages if m.role == "assistant"]
        if not any(m.tool_calls for m in answers) and example.messages[0].role != "assistant":
            assert supervised == "".join(m.content + end for m in answers)
        assert rows[-1].ids[-1] == encoder.eos
        if example.kind == "chat":
            prompt = encoder.prompt_ids(example.messages[: example.messages.index(answers[-1])], example.tools)
            assert rows[-1].ids[: len(prompt)].tolist() == prompt
            assert rows[-1].supervised[len(prompt) :].all()


def test_there_are_formats_to_test() -> None:
    assert len(FORMATS) > 20
    assert Path(MODEL_DIR).is_dir()
