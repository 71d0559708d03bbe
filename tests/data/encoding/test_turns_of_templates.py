"""What is learned of each turn, for templates of thirty families: thoughts, calls, ends, and what is not shown."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llm_installer.core.errors import ModelError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.answers import Rendered
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_many import encode_all
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.inspection import inspect_data
from llm_installer.data.store.load import DataRequest, load_examples
from llm_installer.planning.options import Options

HERE = Path(__file__).parent
OWN = {f.stem: f.read_text(encoding="utf-8") for f in (HERE / "tool_templates").glob("*.jinja")}
PLAIN = {f.stem: f.read_text(encoding="utf-8") for f in (HERE / "chat_templates").glob("*.jinja")}
CASES = Path(__file__).parents[4] / "shared" / "cases"
SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|start|>",
    "<|channel|>", "<|message|>", "<|call|>", "<|return|>", "<|end|>", "<start_of_turn>", "<end_of_turn>", "<|turn>",
    "<turn|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|channel>", "<channel|>",
    "<|end_of_sentence|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>",
    "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|tool_call_start|>", "<|tool_call_end|>",
    "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[ARGS]",
]  # fmt: skip
NOT_SPECIAL = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|User|>", "<|Assistant|>", "<|user|>",
               "<|assistant|>", "<|observation|>"]  # fmt: skip
EOS = {"channels": "<|return|>", "two_ends": "<|END_OF_TURN_TOKEN|>", "thoughts_removed": "<|end_of_sentence|>"}
FAMILIES = sorted([*OWN, *PLAIN])
CALL = {"id": "call00001", "type": "function", "function": {"name": "tide", "arguments": {"place": "Skerry"}}}
ORIGIN = Origin("a.jsonl", 1)


def encoder_for(template: str, eos: str = "</s>", swallow: bool = False) -> Encoder:
    backend = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    for special, words in ((True, SPECIAL), (False, NOT_SPECIAL)):
        add = backend.add_special_tokens if special else backend.add_tokens
        add([AddedToken(w, special=special, normalized=False, rstrip=swallow and w == "<|end|>") for w in words])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token=eos, pad_token="</s>")
    tokenizer.chat_template = template
    return Encoder(tokenizer)


ENCODERS = {
    name: encoder_for(text, EOS.get(name, "</s>"), name == "swallowed_newline")
    for name, text in {**PLAIN, **OWN}.items()
}


def learned(encoder: Encoder, example: Example) -> list[tuple[str, str]]:
    """(what comes before, what is learned) of every answer, as the texts that the template made."""
    rows, restore = encoder.texts(example)
    assert not restore, "nothing in these is a typed control token"
    return [(row.text[:a], row.text[a:b]) for row in rows for a, b in row.supervised]


def chat(*messages: Message) -> Example:
    return Example(messages, ORIGIN)


def test_there_are_enough_families() -> None:
    assert len(FAMILIES) >= 25


@pytest.mark.parametrize("name", FAMILIES)
def test_random_conversations(name: str) -> None:
    """Each answer is learned once, with its thought and calls or a word about them, and ends with one stop."""
    encoder, chance = ENCODERS[name], random.Random(7)
    shown = 0
    for number in range(25):
        example = conversation(chance, number)
        try:
            rows, _ = encoder.texts(example)
        except CannotRender as refused:
            assert len(str(refused)) > 10
            continue
        said = " ".join(words for row in rows for words in row.unshown)
        answers = [(row, span) for row in rows for span in row.supervised]
        given = [m for m in example.messages if m.role == "assistant" and m.supervised]
        assert len(answers) == len(given) - (example.messages[0].role == "assistant")
        for message, (row, (start, end)) in zip(given[-len(answers) :], answers, strict=True):
            shown += 1
            check_answer(encoder, message, row, row.text[:start], row.text[start:end], said)
    assert shown > 10, "most of these conversations can be rendered"


def check_answer(encoder: Encoder, message: Message, row: Rendered, before: str, text: str, said: str) -> None:
    words = message.content.split()
    assert all(word in text for word in words) or "text" in said, (message, text)
    assert sum(text.count(word) for word in words[:1]) <= 1, "nothing is learned twice"
    if message.reasoning_content:
        assert text.count(message.reasoning_content.strip()) == 1 or "thought" in said, (message, text)
    for call in json.loads(message.tool_calls or "[]"):
        assert call["function"]["name"] in text or "call" in said
    opened = before[before.rfind("<think>") :] if "<think>" in before else ""
    assert not opened or "</think>" in opened + text, "an answer within an open thought"
    assert text.count("<think>") <= 1
    bare = text
    for mark in [*SPECIAL, *NOT_SPECIAL]:
        bare = bare.replace(mark, "")
    assert bare.strip(), "only an end is learned"
    if not row.append_eos:
        assert any(text.rstrip().endswith(mark) for mark in SPECIAL), text


def conversation(chance: random.Random, number: int) -> Example:
    def word() -> str:
        return "w" + "".join(chance.choices("abcdefghijkl", k=8))

    def answer(**more: object) -> Message:
        said = f"{word()} {word()}{chance.choice(['', chr(10) * 2 + word(), ' <b>' + word() + '</b>'])}"
        thought = f"{word()}\n{word()}" if chance.random() < 0.4 else ""
        return Message("assistant", said, reasoning_content=thought, **more)  # type: ignore[arg-type]

    messages = [Message("system", word())] if chance.random() < 0.3 else []
    for turn in range(chance.randint(1, 3)):
        messages.append(Message("user", f"{word()}?"))
        if chance.random() < 0.3:
            calls = [CALL | {"id": f"call0000{turn}", "function": {"name": word(), "arguments": {"place": word()}}}]
            if chance.random() < 0.2:
                calls.append(CALL | {"id": f"call1000{turn}"})
            thought = word() if chance.random() < 0.4 else ""
            beside = word() if chance.random() < 0.3 else ""
            messages.append(Message("assistant", beside, json.dumps(calls), reasoning_content=thought))
            messages += [Message("tool", word(), tool_call_id=str(call["id"])) for call in calls]
        messages.append(answer())
    return Example(tuple(messages), Origin("a.jsonl", number))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_comes_before_a_plain_answer_is_what_a_model_is_sent(name: str) -> None:
    encoder = ENCODERS[name]
    messages = (Message("user", "a?"), Message("assistant", "one"), Message("user", "b?"), Message("assistant", "two"))
    rows = encoder.encode(Example(messages, ORIGIN))
    last = rows[-1]
    sent = encoder.prompt_ids(messages[:3])
    assert last.ids[: len(sent)].tolist() == sent
    assert not last.supervised[len(sent) - 1] and last.supervised[len(sent)]
    assert last.ids[-1] in encoder.stop_ids
    assert "two" in encoder.tokenizer.decode(last.ids[last.supervised].tolist())


THINKING = {name: text for name, text in OWN.items() if name.startswith("think_")} | {"channels": OWN["channels"]}


@pytest.mark.parametrize("name", THINKING)
@pytest.mark.parametrize("inline", [False, True])
def test_a_thought_is_learned_in_the_place_for_it(name: str, inline: bool) -> None:
    answer = Message("assistant", "<think>\nRRR\n</think>\n\nAAA") if inline else thinking("RRR", "AAA")
    ((before, text),) = learned(ENCODERS[name], chat(Message("user", "q"), answer))
    assert text.count("RRR") == text.count("AAA") == 1 and text.index("RRR") < text.index("AAA")
    if name == "channels":
        assert "<|channel|>analysis<|message|>RRR<|end|>" in text and "<think>" not in text
    else:
        assert (before + text).count("<think>") == (before + text).count("</think>") == 1


@pytest.mark.parametrize("name", THINKING)
@pytest.mark.parametrize(
    ("content", "given", "thoughts"),
    [("RRR</think>AAA", "", 1), ("<think>RRR</think>AAA", "RRR", 1), ("<think>SSS</think>AAA", "RRR", 1),
     ("<think>\n\n</think>\n\nAAA", "RRR", 1), ("<think></think>AAA", "", 0)],
)  # fmt: skip
def test_a_thought_that_is_written_is_learned_once(name: str, content: str, given: str, thoughts: int) -> None:
    rows, _ = ENCODERS[name].texts(chat(Message("user", "q"), Message("assistant", content, reasoning_content=given)))
    ((row),) = rows
    ((start, end),) = row.supervised
    text = row.text[start:end]
    assert (text.count("RRR"), text.count("AAA"), row.text.count("</think>") <= 1) == (thoughts, 1, True)
    assert text.count("SSS") == content.count("SSS") and not row.unshown


def test_a_thought_without_an_end_is_no_answer() -> None:
    cut = Message("assistant", "<think>RRR AAA")
    with pytest.raises(CannotRender, match="a thought that does not end"):
        ENCODERS["think_optional"].texts(chat(Message("user", "q"), cut))
    assert ENCODERS["think_optional"].prompt_ids([Message("user", "q"), cut, Message("user", "p")]), "a chat goes on"
    assert learned(ENCODERS["chatml"], chat(Message("user", "q"), cut)), "text to a template without thoughts"


def thinking(thought: str, content: str, calls: str = "") -> Message:
    return Message("assistant", content, calls, reasoning_content=thought)


@pytest.mark.parametrize("name", THINKING)
def test_a_model_that_learned_to_think_is_asked_so(name: str) -> None:
    encoder = encoder_for(OWN[name], EOS.get(name, "</s>"))
    question = Message("user", "q")
    encoder.template.thinks = True
    (row,) = encoder.encode(chat(question, thinking("RRR", "AAA")))
    sent = encoder.prompt_ids([question])
    assert row.ids[: len(sent)].tolist() == sent and row.supervised[len(sent)]


def test_thoughts_of_earlier_turns_are_learned_too() -> None:
    turns = (Message("user", "q"), thinking("RRR", "AAA"), Message("user", "p"), thinking("SSS", "BBB"))
    first, second = learned(ENCODERS["think_optional"], chat(*turns))
    assert first[1] == "<think>\nRRR\n</think>\n\nAAA<|im_end|>"
    assert second[1] == "<think>\nSSS\n</think>\n\nBBB<|im_end|>" and "RRR" not in second[0]


def test_a_template_that_removes_thoughts_still_learns_them() -> None:
    encoder = ENCODERS["thoughts_removed"]
    ((before, text),) = learned(encoder, chat(Message("user", "q"), thinking("RRR", "AAA")))
    assert (before, text) == ("<s><|User|>q<|Assistant|>", "<think>\nRRR\n</think>\n\nAAA<|end_of_sentence|>")
    ((before, text),) = learned(encoder, chat(Message("user", "q"), Message("assistant", " AAA ")))
    assert (before, text) == ("<s><|User|>q<|Assistant|>", " AAA <|end_of_sentence|>"), "edges stay"


def test_a_final_answer_after_a_call_keeps_its_header() -> None:
    call = thinking("RRR", "", json.dumps([CALL]))
    turns = (Message("user", "q"), call, Message("tool", "2.5"), thinking("SSS", "AAA"))
    first, second = learned(ENCODERS["channels"], chat(*turns))
    assert first[1] == (
        "<|channel|>analysis<|message|>RRR<|end|>"
        '<|start|>assistant to=tide<|channel|>commentary<|message|>{"place": "Skerry"}<|call|>'
    )
    assert second[1] == (
        "<|channel|>analysis<|message|>SSS<|end|><|start|>assistant<|channel|>final<|message|>AAA<|return|>"
    )


@pytest.mark.parametrize("name", ["same_turn", "think_optional", "newline_before_end", "thoughts_removed", "channels"])
def test_a_call_ends_as_the_template_ends_it(name: str) -> None:
    ends = {"same_turn": "<tool_call|>", "channels": "<|call|>", "thoughts_removed": "<|end_of_sentence|>"}
    turns = (Message("user", "q"), Message("assistant", "", json.dumps([CALL])), Message("tool", "2"),
             Message("assistant", "AAA"))  # fmt: skip
    rows, _ = ENCODERS[name].texts(chat(*turns))
    texts = [row.text[a:b] for row in rows for a, b in row.supervised]
    assert texts[0].endswith(ends.get(name, "<|im_end|>")) and "Skerry" in texts[0]
    assert rows[0].append_eos == (name == "same_turn"), "what closes a call does not end the turn"
    assert texts[1].startswith(("AAA", "<|channel|>final")), "no header of a turn is learned"


def test_an_end_that_swallows_its_newline_is_tokenised_as_when_it_is_sent() -> None:
    encoder = ENCODERS["swallowed_newline"]
    messages = (Message("user", "a"), Message("assistant", "one"), Message("user", "b"), Message("assistant", "two"))
    (row,) = encoder.encode(Example(messages, ORIGIN))
    sent = encoder.prompt_ids(messages[:3])
    assert row.ids[: len(sent)].tolist() == sent
    assert encoder.tokenizer.decode(row.ids[row.supervised].tolist()) == "one<|end|>two<|end|>"


def test_both_ends_are_learned() -> None:
    ((_, text),) = learned(ENCODERS["two_ends"], chat(Message("user", "q"), Message("assistant", "AAA")))
    assert text == "AAA<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"


def test_results_that_become_questions_stay_together() -> None:
    calls = json.dumps([CALL, CALL | {"id": "call00002"}])
    turns = (Message("user", "q"), Message("assistant", "", calls), Message("tool", "2.5"), Message("tool", "3.5"),
             Message("user", "and?"), Message("assistant", "AAA"))  # fmt: skip
    found = learned(ENCODERS["two_ends"], chat(*turns))
    assert found[-1][0].count("<|USER_TOKEN|>") == 2 and "2.5\n\n3.5\n\nand?" in found[-1][0]


def test_ids_are_made_where_they_are_asked_for() -> None:
    for id in ("", "call_Zk3vJ8abcdEFGH1234567890", "abcdefghi"):
        call = {key: value for key, value in CALL.items() if key != "id"} | ({"id": id} if id else {})
        turns = (Message("user", "q"), Message("assistant", "", json.dumps([call])),
                 Message("tool", "2.5", tool_call_id=id), Message("assistant", "AAA"))  # fmt: skip
        found = learned(ENCODERS["nine_letters"], chat(*turns))
        sent = found[-1][0].split("[CALL_ID]")[1][:9]
        assert f"[TOOL_RESULTS]{sent}2.5" in found[-1][0] and (sent == id or len(id) != 9)


@pytest.mark.parametrize(
    ("name", "message", "words"),
    [
        ("call_alone", Message("assistant", "Let me see.", json.dumps([CALL])), "its text beside a tool call"),
        ("channels", Message("assistant", "", json.dumps([CALL, CALL | {"id": "call00002", "function": {
            "name": "wind", "arguments": {}}}])), "1 of its 2 tool calls"),
        ("thoughts_removed", Message("assistant", "Let me see.", json.dumps([CALL])), "its text beside a tool call"),
    ],
)  # fmt: skip
def test_what_is_not_shown_is_said_by_row(name: str, message: Message, words: str) -> None:
    rows, dropped = encode_all([chat(Message("user", "q"), message)], ENCODERS[name])
    assert len(rows) == 1
    assert [(d.origin, d.reason, d.partly) for d in dropped] == [
        (ORIGIN, f"its chat template does not show {words}", True)
    ]


def test_the_look_at_a_dataset_says_it_too(installed: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "RRR"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": turns}) + "\n", encoding="utf-8")
    found = inspect_data(Options.from_kwargs(model_path=installed, data="a.jsonl"), tmp_path).overview
    assert found.tokens is not None
    assert found.tokens.not_learned == {"its chat template does not show its thought": 1}


def test_an_answer_of_which_only_the_end_is_left_is_refused() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content.split('|')[0] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(CannotRender, match="shows nothing of an answer"):
        encoder_for(template).texts(chat(Message("user", "q"), Message("assistant", "|AAA")))


def test_contents_come_in_parts_where_a_template_shows_nothing_else() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}{% for part in m.content %}{% if part.type == 'text' %}"
        "{{ part.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    )
    turns = (Message("user", "q"), Message("assistant", "AAA"), Message("user", "p"), Message("assistant", "BBB"))
    assert learned(encoder_for(template), chat(*turns)) == [
        ("<|im_start|>userq<|im_end|><|im_start|>assistant", "AAA<|im_end|>"),
        ("<|im_start|>userq<|im_end|><|im_start|>assistantAAA<|im_end|><|im_start|>userp<|im_end|><|im_start|>assistant",
         "BBB<|im_end|>"),
    ]  # fmt: skip


@pytest.mark.parametrize("template", ["no turns", "{% for m in messages %}{{ m.role }}{% endfor %}<|im_end|>"])
def test_a_template_that_shows_no_contents_is_refused(template: str) -> None:
    with pytest.raises(ModelError, match="shows nothing of an answer; give the model another one"):
        encoder_for(template)


def test_marks_of_calls_and_thoughts_may_be_written_in_answers_only() -> None:
    encoder = ENCODERS["newline_before_end"]
    marks = "<|tool_call_start|>[f()]<|tool_call_end|>"
    mark = encoder.tokenizer.convert_tokens_to_ids("<|tool_call_start|>")
    end = encoder.tokenizer.convert_tokens_to_ids("<|im_end|>")
    (row,) = encoder.encode(chat(Message("user", marks), Message("assistant", marks + "<|im_end|>x")))
    assert (row.ids == mark).sum() == 1 and row.supervised[np_last(row.ids == mark)]
    assert (row.ids == end).sum() == 2, "a typed end of turn stays text"


def np_last(found: object) -> int:
    import numpy as np

    return int(np.flatnonzero(found)[-1])


def test_tokens_that_mark_roles_stay_text_when_typed() -> None:
    encoder = ENCODERS["thoughts_removed"]
    role = encoder.tokenizer.convert_tokens_to_ids("<|User|>")
    (row,) = encoder.encode(chat(Message("user", "say <|User|> now"), Message("assistant", "AAA")))
    assert (row.ids == role).sum() == 1


def test_stops_of_the_model_end_an_answer() -> None:
    encoder = ENCODERS["next_role_ends"]
    user = encoder.tokenizer.convert_tokens_to_ids("<|user|>")
    assert user not in encoder.stop_ids
    assert user in Encoder(encoder.tokenizer, stops=(user,)).stop_ids


def cases(folder: str) -> Iterator[tuple[str, str]]:
    names = {"own_think": "own_think", "own_harmony": "own_harmony", "mistral": "mistral"}
    for template in names:
        for file in sorted((CASES / folder).glob("*.jsonl")):
            yield template, file.name


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared folder is not here")
@pytest.mark.parametrize(("template", "file"), [*cases("thinking"), *cases("tools")])
def test_cases(template: str, file: str) -> None:
    folder = "thinking" if (CASES / "thinking" / file).is_file() else "tools"
    eos = {"own_harmony": "<|return|>", "own_think": "<|im_end|>"}.get(template, "</s>")
    encoder = encoder_for((CASES / "templates" / f"{template}.jinja").read_text(encoding="utf-8"), eos)
    loaded = load_examples(DataRequest(str(CASES / folder / file), base=CASES))
    assert len(loaded.train) == 1
    found = learned(encoder, loaded.train[0])
    whole = " ".join(text for _, text in found)
    unshown = [words for row in encoder.texts(loaded.train[0])[0] for words in row.unshown]
    written = (CASES / folder / file).read_text(encoding="utf-8")
    for mark in ("RRR", "SSS", "AAA", "Skerry"):
        in_answers = mark in written and not (mark == "Skerry" and folder == "thinking")
        said = mark in ("RRR", "SSS") and {*unshown} == {"its thought"}
        assert whole.count(mark) == int(in_answers and not said), (mark, found)
    if template == "own_harmony" and folder == "tools":
        assert "<|channel|>final<|message|>AAA" in found[-1][1]
