"""Answers: batched equals one by one, streaming loses nothing, stop tokens stop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.inference import before_after, generate
from llm_installer.inference.before_after import compare, mixes
from llm_installer.inference.chat import Conversation
from llm_installer.inference.generate import Sampling, answer, answers
from llm_installer.inference.load import Assistant
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.models.base import load_base
from llm_installer.training.fast.lora import fuse_lora

GREEDY = Sampling(max_new_tokens=24)
QUESTIONS = ["Hello!", "What colour is the sky?", "Tell me a story about a fox.", "Who are you?"]


@pytest.fixture(scope="module")
def tiny() -> tuple[object, Encoder]:
    """The real built-in model."""
    return load_base(MODEL_DIR, "float32", "cpu").eval(), Encoder(load_tokenizer(MODEL_DIR))


def test_batched_answers_equal_single_ones(tiny) -> None:
    model, encoder = tiny
    prompts = [encoder.prompt_ids([Message("user", q)]) for q in QUESTIONS]
    single = [answer(model, encoder, p, GREEDY) for p in prompts]
    assert answers(model, encoder, prompts, GREEDY, at_once=3) == single
    assert any(a.ended for a in single)
    assert not any("<|im_end|>" in a.text for a in single)


def test_streamed_pieces_are_the_answer(tiny) -> None:
    model, encoder = tiny
    pieces: list[str] = []
    found = answer(model, encoder, encoder.prompt_ids([Message("user", QUESTIONS[1])]), GREEDY, pieces.append)
    assert "".join(pieces) == found.text
    assert len([p for p in pieces if p]) > 3


def test_sampling_depends_on_the_seed_and_greedy_does_not(tiny) -> None:
    model, encoder = tiny
    ids = encoder.prompt_ids([Message("user", QUESTIONS[2])])
    warm = Sampling(24, temperature=1.5)
    said = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        said.append(answer(model, encoder, ids, warm).text)
    assert said[0] == said[1] != said[2]


def test_a_conversation_remembers_and_forgets(tiny) -> None:
    model, encoder = tiny
    talk = Conversation(Assistant(model, encoder, "chat", ""), GREEDY)
    talk.ask("Hello!")
    talk.ask("Who are you?")
    assert [t.role for t in talk.turns] == ["user", "assistant"] * 2
    talk.restart("Be brief.")
    assert talk.turns == [] and talk.system == "Be brief."


def test_a_long_conversation_still_leaves_room_for_an_answer(tiny) -> None:
    model, encoder = tiny
    talk = Conversation(Assistant(model, encoder, "chat", ""), Sampling(max_new_tokens=4))
    talk.turns += [Message("user", "word " * 200), Message("assistant", "word " * 200)] * 4
    talk.ask("And now?")
    assert len(encoder.prompt_ids(talk.turns)) < model.config.max_position_embeddings


def test_plain_text_is_continued_without_a_template(tiny) -> None:
    model, encoder = tiny
    talk = Conversation(Assistant(model, encoder, "text", ""), GREEDY)
    said = talk.ask("Once upon a time")
    assert said and talk.turns == []


def test_with_an_untrained_adapter_base_and_tuned_say_the_same(tiny_llama: Path) -> None:
    from peft import LoraConfig, get_peft_model

    encoder = Encoder(load_tokenizer(tiny_llama))
    model = get_peft_model(load_base(tiny_llama, "float32", "cpu"), LoraConfig(r=4, target_modules=["q_proj"]))
    origin = Origin("x", 1)
    examples = [
        Example((Message("user", "Hi"), Message("assistant", "Hello")), origin),
        Example((Message("user", "The sky is"), Message("assistant", " blue")), origin, "completion"),
        Example(
            (Message("assistant", "one two three four five six seven eight nine ten eleven twelve more"),),
            origin,
            "text",
        ),
    ]
    found = compare(model, encoder, examples, extra_prompt="Who?")
    assert [c.prompt for c in found] == [
        "Hi", "The sky is", "one two three four five six", "Who?",
    ]  # fmt: skip
    assert [c.expected for c in found] == ["Hello", " blue", "seven eight nine ten eleven twelve more", ""]
    assert all(c.base == c.tuned for c in found)


@pytest.mark.parametrize("dora", [False, True])
def test_base_and_tuned_model_answer_in_one_batch_as_they_do_apart(dora: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    base = load_base(MODEL_DIR, "float32", "cpu")
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", use_dora=dora)).eval()
    encoder, own, calls = Encoder(load_tokenizer(MODEL_DIR)), generate._generate, []
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    fuse_lora(model)
    monkeypatch.setattr(generate, "_generate", lambda *given, **more: calls.append(given) or own(*given, **more))
    examples = [Example((Message("user", q), Message("assistant", "Yes.")), Origin("t", i), "chat") for i, q in
                enumerate(QUESTIONS)]  # fmt: skip
    found = compare(model, encoder, examples)
    assert mixes(model) is not dora and len(calls) == 1 + dora
    ids = [encoder.prompt_ids([Message("user", q)]) for q in QUESTIONS]
    assert [each.tuned for each in found] == answers(model, encoder, ids, before_after.ANSWER)
    with model.disable_adapter():
        assert [each.base for each in found] == answers(model, encoder, ids, before_after.ANSWER)
    assert any(each.base.text != each.tuned.text for each in found)
