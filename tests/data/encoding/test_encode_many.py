"""Encoding many examples at once gives what encoding them one by one gives, to the last id and flag."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding import fast_render
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_many import encode_all
from llm_installer.data.encoding.fast_render import FastRenderer
from llm_installer.data.encoding.row import Row
from llm_installer.data.encoding.template_probes import CannotRender, Mode, Turns
from llm_installer.data.encoding.tokenizer import load_tokenizer
from tests.generated import many

TEMPLATES = {f.stem: f.read_text(encoding="utf-8") for f in (Path(__file__).parent / "chat_templates").glob("*.jinja")}
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|end|>"]
CALLS = '[{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]'
TOOLS = '[{"type": "function", "function": {"name": "weather", "parameters": {}}}]'
PIECES = [
    "hello", "the quick fox", "\n", "\n\n", " ", "  ", "\t", "caf\u00e9", "\U0001f642\u200d\U0001f525", "\u4f60\u597d",
    "\u00a0", "0", "{{ x }}", "<think>", "</think>", "[INST]", "<|im_end|>", "</s>", "<|user|>", "### Assistant:",
    "user", "assistant", "\\n", '"', "<b>&amp;", ":", "e\u0301", "\x00", "\u2028", "\U000f0000",
    "<tool_response>", "a" * 300,
]  # fmt: skip


def tokenizer_for(template: str | None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(
        ["the quick brown fox says hello\n\nto the lazy dog: hello,  hello \n end\n" * 20], trainer
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL], special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


ENCODERS = {name: Encoder(tokenizer_for(text)) for name, text in [*TEMPLATES.items(), ("default", None)]}
ALL = sorted(ENCODERS)
assert len(ALL) > 15, "the templates are files beside this test"

texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=5).map("".join), st.text(max_size=20))


def one_by_one(examples: Sequence[Example], encoder: Encoder) -> tuple[list[Row], list[str]]:
    """The reference."""
    rows, refused = [], []
    for index, example in enumerate(examples):
        try:
            rows += encoder.encode(example, index)
        except CannotRender as error:
            refused.append(str(error))
    return rows, refused


def check(examples: Sequence[Example], encoder: Encoder) -> None:
    rows, refused = one_by_one(examples, encoder)
    found, dropped = encode_all(examples, encoder)
    same(found, rows)
    assert [d.reason for d in dropped if not d.partly] == refused


def same(found: Sequence[Row], expected: Sequence[Row]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert a.supervised.tolist() == b.supervised.tolist()
        assert (a.source, a.text) == (b.source, b.text)
        assert (a.ids.dtype, a.supervised.dtype) == (b.ids.dtype, b.supervised.dtype)


def random_examples(count: int, seed: int) -> list[Example]:
    chance = random.Random(seed)

    def say() -> str:
        return "".join(chance.choices(PIECES, k=chance.randint(0, 4))) if chance.random() < 0.5 else "the lazy dog"

    def example(number: int) -> Example:
        kind = chance.choices(["chat", "completion", "text"], [8, 1, 1])[0]
        if kind == "text":
            return Example((Message("assistant", say()),), Origin("f", number), "text")
        turns = [Message("user", say()), Message("assistant", say())]
        if kind == "completion":
            return Example(tuple(turns), Origin("f", number), "completion")
        if chance.random() < 0.3:
            turns += [Message("user", say()), Message("assistant", say())]
        if chance.random() < 0.3:
            turns.insert(0, Message("system", say()))
        if chance.random() < 0.05:
            turns[1:1] = [Message("assistant", say(), CALLS), Message("tool", say())]
        if chance.random() < 0.05:
            turns = turns[1:]
        return Example(tuple(turns), Origin("f", number), "chat", TOOLS if chance.random() < 0.05 else "")

    return [example(i) for i in range(count)]


@pytest.mark.parametrize("train_on_prompt", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_the_same_rows_as_one_by_one(name: str, train_on_prompt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_render, "_WORTH_IT", 3)
    encoder = ENCODERS[name] if not train_on_prompt else Encoder(tokenizer_for(TEMPLATES.get(name)), True)
    check(random_examples(150, seed=len(name)), encoder)


def prepared(encoder: Encoder) -> FastRenderer:
    return FastRenderer(encoder.template.render, encoder.template.source, after=0)


RENDERERS = {name: prepared(encoder) for name, encoder in ENCODERS.items()}


@pytest.mark.parametrize("generation", [True, False])
@pytest.mark.parametrize("name", ALL)
@settings(max_examples=many(40), deadline=None)
@given(contents=st.lists(texts, min_size=1, max_size=4))
def test_a_frame_renders_as_the_template_does(name: str, generation: bool, contents: list[str]) -> None:
    encoder = ENCODERS[name]
    turns: Turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    try:
        expected = encoder.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=generation, **encoder.template.mode
        )
    except Exception as error:  # whatever the template raises
        with pytest.raises(CannotRender, match=r"refuses the conversation"):
            RENDERERS[name].render(turns, None, generation)
        assert "must" in str(error)
        return
    opened = encoder.template.can.unanswered if generation else ""
    assert RENDERERS[name].render(turns, None, generation) == expected.removesuffix(opened)


@pytest.mark.parametrize("name", ALL)
def test_ordinary_turns_need_no_rendering(name: str) -> None:
    """The speed is there: once its frame is found, plain contents never reach the template."""
    encoder = ENCODERS[name]
    rendered = []

    def render(turns: Turns, tools: object, generation: bool, mode: Mode | None = None) -> str:
        rendered.append(turns)
        return encoder.template.render(turns, tools, generation, mode)

    known = FastRenderer(render, encoder.template.source, after=0)
    turns: Turns = [{"role": "user", "content": "Is it red?"}, {"role": "assistant", "content": "No, it\nis blue."}]
    first = [known.render(turns[:1], None, True), known.render(turns, None, False)]
    rendered.clear()
    assert [known.render(turns[:1], None, True), known.render(turns, None, False)] == first
    assert not rendered


TRICKY = {
    "upper": "{{ m.content | upper }}",
    "json": "{{ m.content | tojson }}",
    "length": "{% if m.content | length > 100 %}long: {% endif %}{{ m.content }}",
    "thinks": "{{ m.content.split('</think>')[-1] }}",
    "both": "{% if '<a>' in m.content and '<b>' in m.content %}!{% endif %}{{ m.content }}",
    "question": "{{ m.content }}{% if m.content.endswith('?') %} (asked){% endif %}",
    "signs": "{{ m.content }}{% if m.content[-1] in '.!?' %} (ended){% endif %}",
    "word": "{% if m.content == 'ping' %}pong{% else %}{{ m.content }}{% endif %}",
    "lines": "{{ m.content.split('\\n') | join('\\r\\n') }}",
    "same": "{% if messages[0].content == m.content %}{{ m.content }}{% else %}again {{ m.content }}{% endif %}",
    "escape": "{{ m.content | e }}",
    "twice": "{{ m.content }}{{ m.content }}",
    "macro": "{% macro f(c) %}{{ c }}{% endmacro %}{{ f(m.content) | trim }}",
}


@pytest.mark.parametrize("name", sorted(TRICKY))
def test_templates_that_look_into_contents_are_found_out(name: str) -> None:
    encoder = ENCODERS["chatml"]
    source = "{% for m in messages %}{{ m.role }}: " + TRICKY[name] + "<|im_end|>{% endfor %}"

    def render(turns: Turns, tools: object, generation: bool, mode: Mode | None = None) -> str:
        return str(encoder.tokenizer.apply_chat_template(turns, chat_template=source, tokenize=False))

    known = FastRenderer(render, source, after=0)
    said = [
        "a",
        "A cat?",
        "ping",
        "It is.",
        " a ",
        "x</think>y",
        "<a><b>",
        "a\nb",
        "y" * 200,
        "<i>",
        "ping ping",
        "no!",
    ]
    for question in said:
        for answer in said:
            turns: Turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            assert known.render(turns, None, False) == render(turns, None, False), (question, answer)


def test_a_real_tokenizer_with_a_prefix_space(shared: Path) -> None:
    check(random_examples(400, seed=1), Encoder(load_tokenizer(shared / "models" / "stories260K")))


def test_examples_with_images_are_skipped_and_numbers_stay() -> None:
    plain = Example((Message("user", "hi"), Message("assistant", "hello")), Origin("f", 1))
    seen = Example(plain.messages, Origin("f", 2), images=("a.png",))
    rows, dropped = encode_all([plain, seen, plain], ENCODERS["chatml"])
    assert rows.source.tolist() == [0, 2]
    assert [str(d.origin) for d in dropped] == ["f:2"]
    assert np.array_equal(rows.lengths, [len(r.ids) for r in rows])
