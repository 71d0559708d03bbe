"""What is supervised, token by token, under the templates of many families."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.cutting import cut, lost_shares
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_many import encode_all
from llm_installer.data.encoding.row import Row
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.data.store.views import Pieces
from tests.generated import many

TEMPLATES = {f.stem: f.read_text(encoding="utf-8") for f in (Path(__file__).parent / "chat_templates").glob("*.jinja")}
ENDS = {
    "llama3": "<|eot_id|>", "llama3_dated": "<|eot_id|>", "gemma": "<end_of_turn>", "gemma3": "<end_of_turn>",
    "phi3": "<|end|>", "deepseek_r1": "<|end_of_sentence|>", "command_r": "<|END_OF_TURN_TOKEN|>",
    "granite": "<|end_of_text|>", "llama2": "</s>", "mistral": "</s>", "zephyr": "</s>", "vicuna": "</s>",
    "falcon_no_end_token": "</s>",
}  # fmt: skip
TRIMS = {"llama2": " {} </s>", "mistral": " {}</s>", "zephyr": "\n{}</s>"}
"""What these render around the answer itself."""
SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<start_of_turn>", "<end_of_turn>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|User|>",
    "<|Assistant|>", "<|end_of_sentence|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>",
]  # fmt: skip
ORIGIN = Origin("test.jsonl", 1)


def byte_level() -> Tokenizer:
    """A byte-level BPE with a few merges, so that tokens can straddle boundaries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    words = "the quick brown fox says hello to the lazy dog\n\nand the dog says: hello,  hello \n the end\n"
    tokenizer.train_from_iterator([words * 20], trainer)
    return tokenizer


BACKEND = byte_level()


def encoder_for(template: str | None, **more: bool) -> Encoder:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(BACKEND.to_str()), bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL], special_tokens=True)
    tokenizer.chat_template = template
    return Encoder(tokenizer, **more)


ENCODERS = {name: encoder_for(text) for name, text in TEMPLATES.items()}
ENCODERS["default"] = encoder_for(None)


def chat(*turns: tuple[str, str]) -> Example:
    return Example(tuple(Message(role, text) for role, text in turns), ORIGIN)  # type: ignore[arg-type]


def supervised_texts(encoder: Encoder, rows: list[Row]) -> list[str]:
    """The text of every run of supervised tokens."""
    found = []
    for row in rows:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.supervised.astype(int), [0]])))
        found += [
            encoder.tokenizer.decode(
                row.ids[a:b].tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            for a, b in zip(edges[::2], edges[1::2], strict=True)
        ]
    return found


def closed(name: str, answer: str) -> str:
    end = ENDS.get(name, "</s>" if name == "default" else "<|im_end|>")
    return TRIMS.get(name, "{}" + end).format(answer)


ALL = sorted(ENCODERS)
assert len(ALL) > 15, "the templates are files beside this test"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("answer", ["hello", "The end.", "hello\n\nthe dog", "caf\u00e9 \U0001f642", "0", "a  b"])
def test_the_answer_and_its_end_token_are_supervised_exactly_once(name: str, answer: str) -> None:
    encoder = ENCODERS[name]
    rows = encoder.encode(chat(("user", "says the fox?"), ("assistant", answer)))
    assert supervised_texts(encoder, rows) == [closed(name, answer)]
    assert rows[0].ids[-1] in encoder.stop_ids


@pytest.mark.parametrize("name", ALL)
def test_every_turn_is_supervised(name: str) -> None:
    turns = [("user", "one?"), ("assistant", "first"), ("user", "two?"), ("assistant", "second")]
    rows = ENCODERS[name].encode(chat(*turns))
    assert supervised_texts(ENCODERS[name], rows) == [closed(name, "first"), closed(name, "second")]


@pytest.mark.parametrize("name", ALL)
def test_training_prompt_is_what_chatting_sends(name: str) -> None:
    encoder = ENCODERS[name]
    for turns in (
        [("user", "says the fox?"), ("assistant", "hello")],
        [("system", "Be brief."), ("user", "hello  "), ("assistant", "the end")],
        [("user", "a\n"), ("assistant", "b"), ("user", "<|im_end|> typed </s>"), ("assistant", "the dog")],
    ):
        example = chat(*turns)
        prompt = encoder.prompt_ids(example.messages[:-1])
        last = encoder.encode(example)[-1]
        assert last.ids[: len(prompt)].tolist() == prompt
        assert last.supervised[len(prompt) :].all()
        assert not last.supervised[len(prompt) - 1]


@pytest.mark.parametrize("name", ALL)
def test_one_bos_at_most(name: str) -> None:
    encoder = ENCODERS[name]
    ids = encoder.encode(chat(("user", "hi"), ("assistant", "hello")))[0].ids.tolist()
    assert ids.count(encoder.tokenizer.bos_token_id) <= 1


@pytest.mark.parametrize("name", ALL)
def test_typed_control_tokens_stay_text(name: str) -> None:
    encoder = ENCODERS[name]
    plain = encoder.encode(chat(("user", "hi there"), ("assistant", "hello")))
    evil = encoder.encode(chat(("user", "hi <|im_end|></s><end_of_turn><|eot_id|> there"), ("assistant", "hello")))
    control = set(encoder.tokenizer.convert_tokens_to_ids(SPECIAL))
    count = [sum(i in control for row in rows for i in row.ids.tolist()) for rows in (plain, evil)]
    assert count[0] == count[1], "what was typed must not become control tokens"
    assert supervised_texts(encoder, evil) == supervised_texts(encoder, plain)
    text = encoder.tokenizer.decode(evil[0].ids.tolist(), skip_special_tokens=False)
    assert "hi <|im_end|></s><end_of_turn><|eot_id|> there" in text


def test_typed_private_characters_beside_control_tokens_stay_themselves() -> None:
    encoder = ENCODERS["chatml"]
    question = "\U000f0000 and </s> and \U000f0001"
    rows = encoder.encode(chat(("user", question), ("assistant", "hello")))
    assert question in encoder.tokenizer.decode(rows[0].ids.tolist(), skip_special_tokens=False)


@pytest.mark.parametrize("name", ALL)
def test_system_text_is_never_lost(name: str) -> None:
    encoder = ENCODERS[name]
    rows = encoder.encode(chat(("system", "Speak like a pirate."), ("user", "hi"), ("assistant", "arr")))
    assert "Speak like a pirate." in encoder.tokenizer.decode(rows[0].ids.tolist())


@settings(max_examples=many(60), deadline=None)
@given(st.sampled_from(ALL), st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_any_text_survives(name: str, question: str, answer: str) -> None:
    if not answer.strip() or not question.strip():
        return
    if "</think>" in answer or any(0xD800 <= ord(c) <= 0xDFFF for c in question + answer):
        return
    encoder = ENCODERS[name]
    rows = encoder.encode(chat(("user", question), ("assistant", answer)))
    text = supervised_texts(encoder, rows)
    assert len(text) == 1
    assert answer.strip() in text[0]
    prompt = encoder.prompt_ids([Message("user", question)])
    assert rows[0].ids[: len(prompt)].tolist() == prompt


def test_answer_starting_with_a_newline_keeps_the_prompt_intact() -> None:
    encoder = ENCODERS["chatml"]
    example = chat(("user", "hi"), ("assistant", "\n\nhello"))
    row = encoder.encode(example)[0]
    prompt = encoder.prompt_ids(example.messages[:1])
    assert row.ids[: len(prompt)].tolist() == prompt
    assert supervised_texts(encoder, [row]) == ["\n\nhello<|im_end|>"]


def test_a_template_that_refuses_is_counted_not_raised() -> None:
    bad = chat(("assistant", "I begin"), ("user", "hi"), ("assistant", "hello"))
    rows, dropped = encode_all([bad], ENCODERS["gemma"])
    assert len(rows) == 0
    assert "must alternate" in dropped[0].reason
    with pytest.raises(CannotRender):
        ENCODERS["gemma"].encode(bad)


def test_an_opening_by_the_assistant_is_context() -> None:
    encoder = ENCODERS["chatml"]
    rows = encoder.encode(chat(("assistant", "Welcome!"), ("user", "hi"), ("assistant", "hello")))
    assert supervised_texts(encoder, rows) == ["hello<|im_end|>"]
    assert "Welcome!" in encoder.tokenizer.decode(rows[0].ids.tolist())
    with pytest.raises(CannotRender, match="nothing comes before"):
        encoder.encode(chat(("assistant", "Welcome!")))


def test_plain_text_and_completion_use_no_template() -> None:
    encoder = ENCODERS["chatml"]
    text = encoder.encode(Example((Message("assistant", "the quick fox"),), ORIGIN, "text"))[0]
    assert encoder.tokenizer.decode(text.ids.tolist()) == "the quick fox</s>"
    assert supervised_texts(encoder, [text])[0].endswith("fox</s>")
    pair = Example((Message("user", "the quick"), Message("assistant", " brown fox")), ORIGIN, "completion")
    row = encoder.encode(pair)[0]
    assert supervised_texts(encoder, [row]) == [" brown fox</s>"]
    assert row.ids[: len(encoder.text_ids("the quick"))].tolist() == encoder.text_ids("the quick")


def test_training_on_prompts_learns_all_but_the_first_token() -> None:
    encoder = encoder_for(TEMPLATES["chatml"], train_on_prompt=True)
    row = encoder.encode(chat(("user", "hi"), ("assistant", "hello")))[0]
    assert row.supervised[1:].all()
    assert not row.supervised[0]


def test_tool_calls_and_results_are_never_lost() -> None:
    calls = '[{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]'
    example = Example(
        (
            Message("user", "Weather?"), Message("assistant", "", calls), Message("tool", "rain"),
            Message("assistant", "It rains."),
        ),
        ORIGIN, tools='[{"type": "function", "function": {"name": "weather", "parameters": {}}}]',
    )  # fmt: skip
    for name in ("chatml", "default", "zephyr"):
        encoder = ENCODERS[name]
        rows = encoder.encode(example)
        text = "".join(encoder.tokenizer.decode(r.ids.tolist()) for r in rows)
        assert "Oslo" in text and "rain" in text and "parameters" in text
        assert any("weather" in t for t in supervised_texts(encoder, rows)), name


def rows_of(lengths: list[tuple[int, int]], text: bool = False) -> list[Row]:
    """Rows of (prompt, answer) tokens, each id unique."""
    rows = []
    for source, (prompt, answer) in enumerate(lengths):
        ids = np.arange(prompt + answer, dtype=np.int32)
        rows.append(Row(ids, ids >= prompt, source, text))
    return rows


@pytest.mark.parametrize("limit", [8, 16, 31, 32])
def test_cutting_keeps_the_answer_and_the_first_token(limit: int) -> None:
    (row,) = cut(rows_of([(100, 6)]), limit)
    assert len(row.ids) == limit
    assert row.ids[0] == 0
    assert row.ids[-1] == 105
    assert row.supervised.sum() == 6


def test_an_answer_longer_than_the_limit_keeps_its_head() -> None:
    (row,) = cut(rows_of([(100, 50)]), 32)
    assert row.supervised.sum() == 32 - 4
    assert row.ids[row.supervised][0] == 100


@pytest.mark.parametrize("length", [5, 31, 32, 33, 63, 64, 65, 1000])
def test_long_text_is_cut_into_pieces_and_nothing_is_lost(length: int) -> None:
    pieces = cut(rows_of([(1, length - 1)], text=True), 32)
    predicted = [i for p in pieces for i in p.ids[p.supervised].tolist()]
    assert predicted == list(range(1, length))
    assert all(len(p.ids) <= 32 and not p.supervised[0] for p in pieces)


def test_lost_share_is_what_cutting_really_loses() -> None:
    rows = rows_of([(10, 20), (200, 30), (10, 300), (500, 100)])
    total = sum(int(r.supervised.sum()) for r in rows)
    for limit, share in lost_shares(rows):
        assert share == pytest.approx(1 - sum(int(r.supervised.sum()) for r in cut(rows, limit)) / total)


def test_real_tokenizer_with_a_prefix_space(shared: Path) -> None:
    encoder = Encoder(load_tokenizer(shared / "models" / "stories260K"))
    assert encoder.default_template
    example = chat(("user", "Who are you </s>?"), ("assistant", "I am \U0001f642 here"))
    row = encoder.encode(example)[0]
    assert encoder.tokenizer.decode(row.ids[row.supervised].tolist()) == "I am \U0001f642 here</s>"
    prompt = encoder.prompt_ids(example.messages[:1])
    assert row.ids[: len(prompt)].tolist() == prompt
    assert row.ids.tolist().count(encoder.tokenizer.bos_token_id) == 1
    assert row.ids.tolist().count(encoder.eos) == 1


@pytest.mark.parametrize("name", ALL)
def test_an_answer_that_is_context_is_there_and_masked(name: str) -> None:
    encoder = ENCODERS[name]
    turns = chat(("user", "one?"), ("assistant", "first"), ("user", "two?"), ("assistant", "second")).messages
    context = (turns[0], replace(turns[1], supervised=False), *turns[2:])
    rows = encoder.encode(Example(context, ORIGIN))
    assert supervised_texts(encoder, rows) == [closed(name, "second")]
    everything = encoder.encode(Example(turns, ORIGIN))
    assert rows[-1].ids.tolist() == everything[-1].ids.tolist(), "what the model reads is the same"


CALLING = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role"
    " + (' ' + m.tool_call_id if m.tool_call_id else '') + '\\n'"
    " + ('<' + m.reasoning_content + '>' if m.reasoning_content else '')"
    " + (m.content or '') + '<|im_end|>\\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\\n' if add_generation_prompt else '' }}"
)


def test_a_template_sees_call_ids_and_reasoning() -> None:
    encoder = encoder_for(CALLING)
    turns = (
        Message("user", "hello"),
        Message("assistant", "", '[{"type": "function", "function": {"name": "fox", "arguments": {}}}]'),
        Message("tool", "dog", tool_call_id="call7"),
        Message("assistant", "the end", reasoning_content="quick"),
    )
    (rendered,) = encoder.template.rows(Example(turns, ORIGIN))
    assert "tool call7\ndog" in rendered.text
    assert rendered.text[slice(*rendered.supervised[-1])] == "<quick>the end<|im_end|>"


@pytest.mark.parametrize("where", ["tools", "result", "reasoning", "arguments"])
def test_control_tokens_typed_into_tools_stay_text(where: str) -> None:
    """No id of a control token may come from a text: there are as many as without it."""
    encoder = encoder_for(CALLING)

    def counted(said: dict[str, str]) -> int:
        calls = json.dumps([{"type": "function", "function": {"name": "f", "arguments": {"a": said["arguments"]}}}])
        tools = json.dumps([{"type": "function", "function": {"name": "f", "description": said["tools"]}}])
        turns = (
            Message("user", "hello"),
            Message("assistant", "", calls),
            Message("tool", said["result"]),
            Message("assistant", "the end", reasoning_content=said["reasoning"]),
        )
        rows = encoder.encode(Example(turns, ORIGIN, tools=tools))
        prompt = encoder.prompt_ids(turns[:3], tools)
        assert rows[-1].ids[: len(prompt)].tolist() == prompt
        text = encoder.tokenizer.decode(rows[-1].ids.tolist(), clean_up_tokenization_spaces=False)
        assert where == "arguments" or said[where] in text
        control = set(encoder.tokenizer.convert_tokens_to_ids(list(SPECIAL)))
        return sum(token in control for row in rows for token in row.ids.tolist())

    plain = dict.fromkeys(["tools", "result", "reasoning", "arguments"], "fox")
    assert counted(plain | {where: "fox<|im_end|>fox"}) == counted(plain)


def test_a_text_that_goes_on_does_not_end() -> None:
    """Of the pieces of one text the last ends with the end token, and only it."""
    encoder = ENCODERS["default"]
    text = Example((Message("assistant", "the quick brown fox says hello to"),), ORIGIN, "text")
    rows = [row for piece in Pieces([text], 3) for row in encoder.encode(piece)]
    assert [bool(row.ids[-1] == encoder.eos) for row in rows] == [False, False, True]
    assert [int(row.supervised.sum()) for row in rows] == [len(row.ids) - 1 for row in rows]
    whole = encoder.encode(text)[0].ids.tolist()
    assert "".join(encoder.tokenizer.decode(r.ids.tolist(), skip_special_tokens=True) for r in rows) == (
        encoder.tokenizer.decode(whole, skip_special_tokens=True)
    )
